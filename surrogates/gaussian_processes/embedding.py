"""Features of encoded configurations: a Euclidean embedding of ordered, nominal and conditional columns.

Encoded configurations X have shape [n, d] as `SearchSpace.encode` gives them: ordered columns in [0, 1],
nominal columns the index of the choice, NaN where a parameter is inactive. Linear columns may follow them, numbers
that every configuration has, such as its known costs.

Each column becomes a few features, which a kernel divides by the column's lengthscale:

* ordered: the point at angle a x on a circle of radius 1/a, which is the arc kernel of Swersky et al. (2014,
  "Raiders of the lost architecture", eq. 4) with its angle fixed; for a = 1 the distance of two values is
  nearly |x - x'|, at most 4 % less;
* nominal: a one-hot vector over sqrt(2), so that two different choices are at distance 1 (Hamming);
* inactive: the origin, the center of the circle: at the same distance from all active values, and at distance 0
  from another inactive one, so that a parameter which is inactive in both adds nothing;
* linear: the number itself.

A stationary covariance of the Euclidean distance of the features is positive semidefinite for any conditions.
Rejected alternative: inactive values at a point of a line, such as 0.5, would be similar to the middle of the range,
and no point has the same distance from all points of a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_ANGLE = 1.0
"""Radians of the unit interval on its circle; an inactive value has distance 1 / _ANGLE from an active one."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """The map from encoded configurations to features.

    Args:
        counts: number of choices of each encoded column, shape [d]; 0 for an ordered column.
        linear: number of linear columns after the encoded ones.
    """

    counts: NDArray[np.int_]
    linear: int = 0

    @classmethod
    def of(cls, nominal: Mask, *arrays: Array) -> Embedding:
        """Return the embedding with as many choices per nominal column as the arrays contain.

        Args:
            nominal: which columns are nominal, shape [d].
            arrays: encoded configurations, shape [n, d] each.

        Raises:
            ValueError: An array has another number of columns.
        """
        if any(array.ndim != 2 or array.shape[1:] != nominal.shape for array in arrays):
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise ValueError(f"X {shapes}, nominal {nominal.shape}: give shapes [n, d] and [d] that agree")
        stacked = np.concatenate([np.empty((0, len(nominal))), *arrays])
        top = np.where(np.isnan(stacked), -1.0, stacked).max(axis=0, initial=-1.0)
        return cls(np.where(nominal, top + 1, 0).astype(int))

    @property
    def width(self) -> int:
        """The number of columns of X, d plus the linear ones."""
        return len(self.counts) + self.linear

    @cached_property
    def columns(self) -> NDArray[np.int_]:
        """The column that each of the p features comes from, shape [p]."""
        ordered = np.flatnonzero(self.counts == 0)
        nominal = [np.full(self.counts[j], j) for j in self._nominal]
        return np.concatenate([ordered, ordered, *nominal, np.arange(len(self.counts), self.width)])

    @cached_property
    def _nominal(self) -> NDArray[np.int_]:
        return np.flatnonzero(self.counts > 0)

    def features(self, X: Array) -> Array:
        """Return the features of X [n, d + linear], shape [n, p], before the division by lengthscales."""
        if X.ndim != 2 or X.shape[1] != self.width:
            raise ValueError(f"X {X.shape}: give shape [n, {self.width}]")
        ordered = X[:, np.flatnonzero(self.counts == 0)]
        inactive = np.isnan(ordered)
        angle = _ANGLE * np.where(inactive, 0.0, ordered)
        radius = np.where(inactive, 0.0, 1.0 / _ANGLE)
        features = [radius * np.cos(angle), radius * np.sin(angle)]
        features += [(X[:, j, None] == np.arange(self.counts[j])) / np.sqrt(2.0) for j in self._nominal]
        return np.concatenate([*features, X[:, len(self.counts) :]], axis=1)
