"""Marking a function as a score: which way is better, and its bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from trials.kinds.kind import Direction

Function = TypeVar("Function", bound=Callable[..., Any])


def metric(
    direction: Direction | Mapping[str, Direction],
    best: float | Mapping[str, float] | None = None,
    worst: float | Mapping[str, float] | None = None,
) -> Callable[[Function], Function]:
    """Return a decorator that states the direction and the bounds of a score of your own.

    The decorator sets the attributes `direction`, `best` and `worst` of the function; code that sets them itself does
    not need to import autotune.

    Args:
        direction: which way is better, `maximize` or `minimize`; a mapping by name for a function that returns
            several scores.
        best: the best possible value, if there is one; likewise.
        worst: the worst possible value, if there is one; likewise.

    Example:
        >>> @autotune.metric(direction="maximize", best=1.0, worst=0.0)
        ... def weighted_accuracy(texts, predictions, references):
        ...     weights = [len(text) for text in texts]
        ...     right = [w for w, p, r in zip(weights, predictions, references, strict=True) if p == r]
        ...     return sum(right) / sum(weights)
        >>> weighted_accuracy.direction
        'maximize'
    """

    def mark(function: Function) -> Function:
        function.direction, function.best, function.worst = direction, best, worst  # type: ignore[attr-defined]
        return function

    return mark
