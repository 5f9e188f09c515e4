"""How worker processes start: forked from a server that has imported the libraries once, or spawned.

Importing PyTorch, transformers and peft takes a process seconds. The server imports them beside the preparation of
the sweep and computes nothing, so it has no thread pool and no CUDA context that a fork would break. Where a GPU may
be used, importing bitsandbytes initializes it, so workers are spawned there; so they are on systems other than Linux,
whose libraries do not survive forks.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing import forkserver
from typing import TYPE_CHECKING

from trials.base.cores import passive_children

if TYPE_CHECKING:  # Windows has no server
    from multiprocessing.context import ForkServerContext, SpawnContext

_PRELOADED = ["trials.execution.in_process", "peft"]


def preload_libraries(device: str) -> None:
    """Start the server in the background, if worker processes for a device of `ModelSpec` are forked."""
    if _can_fork(device):
        worker_context(device)
        with passive_children():  # workers inherit the server's environment
            forkserver.ensure_running()


def worker_context(device: str) -> SpawnContext | ForkServerContext:
    """Return how worker processes for a device of `ModelSpec` start."""
    if not _can_fork(device):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)  # a server that already runs keeps its own
    return context


def _can_fork(device: str) -> bool:
    if sys.platform != "linux":
        return False
    from trials.base.model import choose_device

    return choose_device(device).type == "cpu"
