"""The best value of a grid with its plateau, and paired differences of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

_ERRORS = 2.0
"""Standard errors of a difference up to which a value is on the plateau."""
_LEVEL = 0.95


@dataclass(frozen=True)
class MeasuredBest:
    """The best value of a hyperparameter on a grid of runs.

    Args:
        value: The vertex of the parabola through the best grid point and its neighbors in the logarithm of the
            hyperparameter; the grid point itself at the ends of the grid.
        low: The least grid value on the plateau, whose mean loss is within two standard errors of the difference
            from the best one.
        high: The largest one.
        is_at_end: Whether the best grid point is at an end of the grid.
        losses: The loss at each grid value, in their order: that of the best setting of the other hyperparameters.
        error: The standard error of one of them; NaN where no setting has two runs.
    """

    value: float
    low: float
    high: float
    is_at_end: bool
    losses: Mapping[float, float]
    error: float


def measured_best(values: Sequence[float], others: Sequence[object], losses: Sequence[float]) -> MeasuredBest:
    """Return the best value of a grid.

    Args:
        values: The hyperparameter's value of each run, above 0.
        others: What else distinguishes the settings; runs that agree in both differ in their seeds alone.
        losses: The loss of each run.

    Raises:
        ValueError: There are fewer than three grid values.
    """
    cells: dict[tuple[float, object], list[float]] = {}
    for value, other, loss in zip(values, others, losses, strict=True):
        cells.setdefault((value, other), []).append(loss)
    grid = sorted({value for value, _ in cells})
    if len(grid) < 3:
        raise ValueError(f"a best value needs three grid values, not {len(grid)}")
    means = {value: min(float(np.mean(cells[key])) for key in cells if key[0] == value) for value in grid}
    place = min(range(len(grid)), key=lambda i: means[grid[i]])
    best = grid[place]
    runs = min(len(each) for each in cells.values())
    error = _noise(list(cells.values())) / math.sqrt(runs)
    near = _ERRORS * math.sqrt(2) * error
    limit = means[best] + (near if math.isfinite(near) else 0.0)
    plateau = [value for value in grid if means[value] <= limit]
    is_at_end = place in (0, len(grid) - 1)
    vertex = best if is_at_end else _vertex(grid[place - 1 : place + 2], means)
    return MeasuredBest(vertex, plateau[0], plateau[-1], is_at_end, means, error)


def _noise(cells: Sequence[Sequence[float]]) -> float:
    """Return a standard deviation between seeds: the median over settings, since diverged ones have their own."""
    deviations = [float(np.std(each, ddof=1)) for each in cells if len(each) > 1]
    return float(np.median(deviations)) if deviations else math.nan


def _vertex(around: Sequence[float], means: Mapping[float, float]) -> float:
    """Return the lowest point of the parabola through three points, in the logarithm of the value."""
    x = np.log(np.asarray(around, dtype=float))
    curvature, slope, _ = np.polyfit(x - x[1], [means[value] for value in around], 2)
    offset = 0.0 if curvature <= 0 else -slope / (2 * curvature)
    return float(np.exp(np.clip(x[1] + offset, x[0], x[2])))


@dataclass(frozen=True)
class Comparison:
    """The gain of an arm over another one, with the same seeds.

    Args:
        mean: The mean gain; above 0 the first arm is better.
        error: Its standard error.
        low: The lower end of the 95 % t interval.
        high: The upper end.
        pairs: The number of seeds.
    """

    mean: float
    error: float
    low: float
    high: float
    pairs: int

    @property
    def is_no_worse(self) -> bool:
        """Whether the interval is not wholly below 0, and the mean no more than a standard error below it."""
        return self.high >= 0 and self.mean >= -self.error

    @property
    def is_better(self) -> bool:
        """Whether the interval is wholly above 0."""
        return self.low > 0


def compared(gains: Sequence[float]) -> Comparison:
    """Compare two arms by the gain of each pair.

    Raises:
        ValueError: There are fewer than two pairs.
    """
    if len(gains) < 2:
        raise ValueError(f"a comparison needs two pairs, not {len(gains)}")
    mean, error = float(np.mean(gains)), float(np.std(gains, ddof=1)) / math.sqrt(len(gains))
    half = float(t.ppf(0.5 + _LEVEL / 2, len(gains) - 1)) * error
    return Comparison(mean, error, mean - half, mean + half, len(gains))
