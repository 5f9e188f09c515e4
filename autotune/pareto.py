"""Pareto fronts: the non-dominated set, its hypervolume, and the knee.

All objectives are minimized. `values` is a float array of shape [n, m], with one row per point and one column per
objective; rows with a NaN are ignored. `reference` has shape [m]: only points that are strictly better than it in
every objective count. Row a dominates row b if a <= b in all columns and a < b in one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_MAX_OBJECTIVES = 4
"""The algorithms are exact for any number of objectives, but their cost grows as n ** (m - 1)."""


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Return which rows no other row dominates, shape [n]; among equal rows, only the first.

    Example:
        >>> non_dominated([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]]).tolist()
        [True, True, False]
    """
    points = _as_points(values)
    keep = _whole(points)
    order = [i for i in np.lexsort(points.T[::-1]) if keep[i]]
    front: list[int] = []
    # In lexicographic order, only an earlier row can dominate or equal a row.
    for i in order:
        if front and (points[front] <= points[i]).all(axis=1).any():
            keep[i] = False
        else:
            front.append(i)
    return keep


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Compute the volume that `values` dominates below `reference`, exactly, for one to four objectives.

    Optuna's implementation computes it; reports need no torch for it.

    Raises:
        ValueError: There are more than four objectives, or the reference has another length.
    """
    points, corner = _checked(values, reference)
    return _hypervolume(_open_front(points, corner), corner)


def _hypervolume(points: Array, corner: Array) -> float:
    """Compute the hypervolume of non-dominated points that are strictly below `corner`."""
    if len(points) == 0:
        return 0.0
    if points.shape[1] == 1:
        return float(corner[0] - points[:, 0].min())
    return float(_volume_function()(points, corner))


def _sliced_volume(points: Array, corner: Array) -> float:
    """Compute the hypervolume in slices of the last objective, where optuna's private function is not there.

    Within a slice between neighboring values the dominated set is a problem with one objective less (While et al.
    2006, "A faster algorithm for calculating hypervolume").
    """
    points = points[np.argsort(points[:, -1], kind="stable")]
    total = 0.0
    ends = np.append(points[1:, -1], corner[-1])
    for count, (start, end) in enumerate(zip(points[:, -1], ends, strict=True), start=1):
        if end > start:
            below = points[:count, :-1]
            below = below[non_dominated(below)]
            inner = corner[0] - below.min() if below.shape[1] == 1 else _sliced_volume(below, corner[:-1])
            total += (end - start) * inner
    return float(total)


@cache
def _volume_function() -> Callable[[Array, Array], float]:
    """Return optuna's function, or our own where a version of optuna lacks this private name."""
    try:
        from optuna._hypervolume import compute_hypervolume
    except ImportError:
        return _sliced_volume
    return compute_hypervolume


def hypervolume_contributions(values: ArrayLike, reference: ArrayLike) -> Array:
    """Compute the hypervolume that is lost without each row, shape [n]; 0 for dominated and repeated rows."""
    points, corner = _checked(values, reference)
    contributions = np.zeros(len(points))
    below = _whole(points) & (points < corner).all(axis=1)
    members = np.flatnonzero(non_dominated(points) & below)
    whole = _hypervolume(points[members], corner)
    for i in members:
        rest = below.copy()
        # Without one of two equal rows, the other one dominates the same region.
        rest[i] = False
        contributions[i] = whole - hypervolume(points[rest], corner)
    return np.maximum(contributions, 0.0)


class Knee(NamedTuple):
    """The point of a front that lies farthest below the line through the front's ends.

    Args:
        row: index into the values.
        depth: how far below, in [0, 1) for two objectives: 0 on a straight front, near 1 at a right angle.
        points: non-dominated points among the values.
    """

    row: int
    depth: float
    points: int

    @property
    def exceeds_spacing(self) -> bool:
        """Whether the front bends by more than the mean spacing of its points.

        This is the criterion of Kneedle with its default sensitivity S = 1 (Satopaa et
        al. 2011, "Finding a 'Kneedle' in a haystack"): n points spread over an axis scaled to [0, 1] are 1 / (n - 1)
        apart on average, and a smaller bulge may come from where the points happen to lie.
        """
        return self.points > 2 and self.depth > 1.0 / (self.points - 1)


def knee(values: ArrayLike) -> Knee:
    """Find the knee of a front.

    Every objective is scaled to [0, 1] over the front. The knee is the point farthest on the good side of the
    hyperplane through the unit vectors, which for two objectives is the line through the two ends of the front (Das
    1999, "On characterizing the knee of the Pareto curve"). Ties go to the point whose worst objective is best, then
    to the first. An objective that does not vary has no influence.

    Args:
        values: shape [n, m]; dominated rows and rows with a NaN are ignored.

    Returns:
        the knee; whether the front bends there is for its depth to say.

    Raises:
        ValueError: every row has a NaN.
    """
    points = _as_points(values)
    members = np.flatnonzero(non_dominated(points))
    if len(members) == 0:
        raise ValueError("values: every row has a NaN, so there is no knee; pass at least one finished point")
    front = points[members]
    best = front.min(axis=0)
    span = front.max(axis=0) - best
    scaled = np.where(span > 0, (front - best) / np.where(span > 0, span, 1.0), 0.0)
    # Rounding keeps ties of exact arithmetic.
    order = np.lexsort((scaled.max(axis=1).round(12), scaled.sum(axis=1).round(12)))
    return Knee(int(members[order[0]]), float(1.0 - scaled[order[0]].sum()), len(members))


def _as_points(values: ArrayLike) -> Array:
    points = np.asarray(values, dtype=float)
    if points.ndim != 2:
        raise ValueError(f"values: shape {points.shape}; give a two-dimensional array with one row per point")
    return points


def _whole(points: Array) -> NDArray[np.bool_]:
    """Return which rows have no NaN, shape [n]."""
    return np.asarray(~np.isnan(points).any(axis=1), dtype=bool)


def _checked(values: ArrayLike, reference: ArrayLike) -> tuple[Array, Array]:
    points, corner = _as_points(values), np.asarray(reference, dtype=float)
    if corner.shape != (points.shape[1],):
        raise ValueError(
            f"reference: shape {corner.shape}; give one value for each of the {points.shape[1]} objectives"
        )
    if not 1 <= len(corner) <= _MAX_OBJECTIVES:
        raise ValueError(f"values: {len(corner)} objectives; one to {_MAX_OBJECTIVES} are supported")
    if np.isnan(corner).any():
        raise ValueError(f"reference: {corner.tolist()} has a NaN; give a number for each objective")
    return points, corner


def _open_front(points: Array, corner: Array) -> Array:
    """Return the non-dominated rows that are strictly below `corner`."""
    points = points[(points < corner).all(axis=1)]
    return points[non_dominated(points)]
