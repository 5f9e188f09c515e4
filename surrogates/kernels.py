"""The covariance of encoded configurations: Matérn-5/2 over a Euclidean embedding of conditional columns.

Encoded configurations X have shape [n, d] as `SearchSpace.encode` gives them: ordered columns in [0, 1],
nominal columns the index of the choice, NaN where a parameter is inactive.

Each column becomes a few features, divided by the column's lengthscale l:

* ordered: the point at angle a x on a circle of radius 1/a, which is the arc kernel of Swersky et al. (2014,
  "Raiders of the lost architecture", eq. 4) with its angle fixed; for a = 1 the distance of two values is
  nearly |x - x'|, at most 4 % less;
* nominal: a one-hot vector over sqrt(2), so that two different choices are at distance 1 (Hamming);
* inactive: the origin, the center of the circle: at the same distance from all active values, and at distance 0
  from another inactive one, so that a parameter which is inactive in both adds nothing.

The covariance is a positive definite function of the Euclidean distance of the features, and so positive
semidefinite for any conditions. Rejected alternative: inactive values at a point of a line, such as 0.5, would be
similar to the middle of the range, and no point has the same distance from all points of a line.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_ANGLE = 1.0
"""Radians of the unit interval on its circle; an inactive value has distance 1 / _ANGLE from an active one."""

_ROOT_5 = float(np.sqrt(5.0))


def choice_counts(nominal: Mask, *arrays: Array) -> NDArray[np.int_]:
    """Return the number of choices in each column of the arrays, shape [d], 0 for ordered columns."""
    stacked = np.concatenate(arrays, axis=0)
    top = np.where(np.isnan(stacked), -1.0, stacked).max(axis=0, initial=-1.0)
    return np.where(nominal, top + 1, 0).astype(int)


def embed(X: Array, nominal: Mask, counts: NDArray[np.int_]) -> tuple[Array, NDArray[np.int_]]:
    """Compute the features before scaling.

    Args:
        X: shape [n, d], encoded configurations.
        nominal: shape [d].
        counts: shape [d], choices a nominal column has features for, from `choice_counts`.

    Returns:
        features: shape [n, p]; columns: shape [p], the column of X that each feature comes from.
    """
    ordered = np.flatnonzero(~nominal)
    inactive = np.isnan(X[:, ordered])
    angle = _ANGLE * np.where(inactive, 0.0, X[:, ordered])
    radius = np.where(inactive, 0.0, 1.0 / _ANGLE)
    features, columns = [radius * np.cos(angle), radius * np.sin(angle)], [ordered, ordered]
    for j in np.flatnonzero(nominal):
        features.append((X[:, j, None] == np.arange(counts[j])) / np.sqrt(2.0))
        columns.append(np.full(counts[j], j))
    return np.concatenate(features, axis=1), np.concatenate(columns)


def squared_distances(A: Array, B: Array) -> Array:
    """Return the squared Euclidean distances of the rows of A [n, p] and B [m, p], shape [n, m]."""
    squares = (A * A).sum(axis=1)[:, None] + (B * B).sum(axis=1)[None, :] - 2.0 * (A @ B.T)
    return np.maximum(squares, 0.0)


def matern(squares: Array) -> Array:
    """Return the Matérn-5/2 correlation of squared scaled distances."""
    r = _ROOT_5 * np.sqrt(squares)
    return (1.0 + r + r * r / 3.0) * np.exp(-r)


def matern_with_slope(squares: Array) -> tuple[Array, Array]:
    """Return the Matérn-5/2 correlation and its derivative with respect to the squared distance."""
    r = _ROOT_5 * np.sqrt(squares)
    decay = np.exp(-r)
    return (1.0 + r + r * r / 3.0) * decay, (-5.0 / 6.0) * (1.0 + r) * decay
