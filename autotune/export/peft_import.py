"""Import of peft by a command that only writes a configuration of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OPTIONAL = "bitsandbytes"


def import_peft_alone() -> None:
    """Import peft as if bitsandbytes were not installed; nothing happens if peft is imported already.

    bitsandbytes imports the compiler of PyTorch, which takes a third of the time of an export, and only layers of
    quantized base models need it. In this process, peft then adapts no quantized model: call it only in a process
    that builds no model and ends after.
    """
    if "peft" in sys.modules:
        return
    with _hidden(_OPTIONAL):
        import peft  # noqa: F401


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make a module that is not imported yet look absent: None in `sys.modules` is the import system's mark of it."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
