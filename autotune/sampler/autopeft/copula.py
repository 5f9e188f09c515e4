"""The normal copula of outputs: each objective by its rank, as normal quantiles.

AutoPEFT (Zhou et al. 2024) transforms the objectives by their empirical distribution function, clamped to
[1e-4, 1 - 1e-4], and the normal quantile function. It is off by default, because the hypervolume of ranks does not
contain how much better a point is.

Shapes: n observations, m objectives, k constraints.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

Array = NDArray[np.float64]

_CLAMP = 1e-4


class Units(Protocol):
    """The units in which objectives are modeled; constraints keep theirs."""

    def convert(self, values: Array, objective: int) -> Array:
        """Return minimized values of one objective, of any shape, in these units; the order is kept."""

    def reference(self, reference: Array) -> Array:
        """Return the reference point of the hypervolume in these units, shape [m]."""


class OwnUnits:
    """The minimized objectives as they are."""

    def convert(self, values: Array, objective: int) -> Array:
        """Return the values."""
        return values

    def reference(self, reference: Array) -> Array:
        """Return the reference point."""
        return reference


class NormalCopula:
    """Normal quantiles of the empirical distribution functions of the objectives.

    Between observed values a distribution function is linear, and beyond them constant.

    Args:
        outcomes: observed outcomes, minimized, shape [n, m + k], n >= 1, finite.
        m: number of objectives, the first columns.
    """

    def __init__(self, outcomes: Array, m: int) -> None:
        self._functions = [_distribution(outcomes[:, j]) for j in range(m)]

    def convert(self, values: Array, objective: int) -> Array:
        """Return the normal quantiles of the values."""
        if objective >= len(self._functions):
            return values
        levels = np.interp(values, *self._functions[objective])
        return np.asarray(norm.ppf(np.clip(levels, _CLAMP, 1.0 - _CLAMP)))

    def reference(self, reference: Array) -> Array:
        """Return the quantiles of the worst level."""
        return np.full(len(reference), norm.ppf(1.0 - _CLAMP))


def _distribution(values: Array) -> tuple[Array, Array]:
    """Return the distinct values in ascending order and their levels, the share of values below plus half of ties."""
    levels = (rankdata(values) - 0.5) / len(values)
    distinct, first = np.unique(values, return_index=True)
    return distinct, levels[first]
