"""Keep other libraries' messages, warnings and progress bars out of a caller's output."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from autotune.cli.app import QUIETING


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence optuna, transformers and datasets in this process and in its workers, and undo that at the end.

    Workers inherit the environment; this process has imported the libraries, which no longer read it.
    """
    import datasets
    import optuna
    import transformers

    levels = optuna.logging.get_verbosity(), transformers.logging.get_verbosity()
    has_bars = datasets.utils.logging.is_progress_bar_enabled()
    added = {name: value for name, value in QUIETING.items() if name not in os.environ}
    os.environ.update(added)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(levels[0])
        transformers.logging.set_verbosity(levels[1])
        if has_bars:
            datasets.enable_progress_bars()
        for name in added:
            os.environ.pop(name, None)
