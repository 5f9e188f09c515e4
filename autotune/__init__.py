"""The engine: ask, run, tell, and the doors to it (command line, report, export)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotune.ladder import Ladder
    from autotune.ladder_goals import Budget, Goal
    from autotune.ladder_search import optimize

__all__ = ["Budget", "Goal", "Ladder", "optimize"]

_HOMES = {
    "Budget": "autotune.ladder_goals",
    "Goal": "autotune.ladder_goals",
    "Ladder": "autotune.ladder",
    "optimize": "autotune.ladder_search",
}


def __getattr__(name: str) -> Any:
    """Imported when first asked for: the command line must start without optuna and scipy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
