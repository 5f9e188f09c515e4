"""Rank correlations of paired values, with bootstrap intervals.

Shapes: b samples of n pairs each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 3
"""Points below which there is no rank correlation."""
ENOUGH = 6
"""Points below which there is no interval: the bootstrap of fewer is too narrow."""
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95 % interval, NaN where there are too few points."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.value:.2f}"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def correlations(here: Array, there: Array, seed: int = 0) -> tuple[Correlation, Correlation]:
    """Return Spearman's and Kendall's correlation of n pairs, with percentile bootstrap intervals over the pairs.

    Args:
        here: values of one side, shape [n].
        there: values of the other side, shape [n].
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(here), size=(RESAMPLES, len(here))) if len(here) >= ENOUGH else None
    found = []
    for measure in (spearman, kendall):
        value = float(measure(here[None], there[None])[0]) if len(here) >= FEWEST else math.nan
        low = high = math.nan
        if chosen is not None:
            low, high = interval(measure(here[chosen], there[chosen]))
        found.append(Correlation(value, low, high))
    return found[0], found[1]


def interval(samples: Array) -> tuple[float, float]:
    """Return the ends of the 95 % percentile interval of bootstrap samples, shape [b]; NaN where all are NaN."""
    if np.isnan(samples).all():
        return math.nan, math.nan
    low, high = np.nanpercentile(samples, 100 * np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return float(low), float(high)


def ranks(losses: Array) -> Array:
    """Return the mid-ranks in each row, shape [b, n]; 1 is the lowest loss."""
    below = (losses[:, None, :] < losses[:, :, None]).sum(axis=2)
    equal = (losses[:, None, :] == losses[:, :, None]).sum(axis=2)
    return np.asarray(below + (equal + 1) / 2)


def spearman(a: Array, b: Array) -> Array:
    """Return Spearman's rank correlation of each row, shape [b]; NaN where all values of a row are equal."""
    x, y = (ranks(values) - (values.shape[1] + 1) / 2 for values in (a, b))
    return _ratio((x * y).sum(axis=1), (x**2).sum(axis=1), (y**2).sum(axis=1))


def kendall(a: Array, b: Array) -> Array:
    """Return Kendall's tau-b of each row, shape [b]; NaN where all values of a row are equal."""
    x, y = (np.sign(values[:, :, None] - values[:, None, :]) for values in (a, b))
    return _ratio((x * y).sum(axis=(1, 2)), (x**2).sum(axis=(1, 2)), (y**2).sum(axis=(1, 2)))


def _ratio(product: Array, first: Array, second: Array) -> Array:
    scale = np.sqrt(first * second)
    return np.divide(product, scale, out=np.full(len(product), np.nan), where=scale > 0)
