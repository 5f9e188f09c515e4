"""Processes that start with the libraries imported: each spawned one would import them again, for seconds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PRELOADED = [
    "autotune.engine.sweep_run",
    "trials.execution.runner",
    "trials.tasks.pocket.language_models",
    "peft",
    "transformers.models.bert.modeling_bert",
]


@contextmanager
def forked_processes() -> Iterator[None]:
    """Fork the processes that are to be spawned from a server with the libraries, which has used none of them.

    `autotune run quickstart`, a step of the check, and the slow tests spawn worker processes as users do.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)  # a server that already runs keeps its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda method=None: context)
        yield
