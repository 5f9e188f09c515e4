"""The engine: ask, run, tell, and the doors to it (command line, report, export)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotune.blackbox.loop import optimize
    from autotune.blackbox.objectives import Budget, Objective
    from autotune.ladder.rungs import Ladder

__all__ = ["Budget", "Ladder", "Objective", "optimize"]

_HOMES = {
    "Budget": "autotune.blackbox.objectives",
    "Objective": "autotune.blackbox.objectives",
    "Ladder": "autotune.ladder.rungs",
    "optimize": "autotune.blackbox.loop",
}


def __getattr__(name: str) -> Any:
    """Imported when first asked for: the command line must start without optuna and scipy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
