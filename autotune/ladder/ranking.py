"""The order of configurations on one rung: non-domination first, hypervolume contribution second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autotune.pareto import hypervolume, non_dominated

Array = NDArray[np.float64]

_MARGIN = 0.1
"""How far the reference lies beyond the worst of a layer, as a share of its range, so that its ends contribute."""


def rank_order(values: Array) -> NDArray[np.intp]:
    """Return the indices of rows from best to worst; `values` has shape [n, m], finite, minimized.

    The non-dominated rows come first, then those that only they dominate, and so on (Deb et al. 2002,
    "NSGA-II"); within such a layer, the larger contribution to the layer's hypervolume comes first (Beume et al.
    2007, "SMS-EMOA"), with every objective scaled to the layer's own range. Ties keep their order.
    """
    if values.shape[1] == 1:
        return np.argsort(values[:, 0], kind="stable")
    left = np.arange(len(values))
    order: list[NDArray[np.intp]] = []
    while len(left):
        kept = non_dominated(values[left])
        layer = left[kept]
        order.append(layer[np.argsort(-contributions(values[layer]), kind="stable")])
        left = left[~kept]
    return np.concatenate(order) if order else left


def contributions(front: Array) -> Array:
    """Return the contribution of each row to the hypervolume of a front, in units of the front's range.

    Args:
        front: non-dominated rows, shape [n, m], minimized.

    Returns:
        Contributions, shape [n].
    """
    low, high = front.min(axis=0), front.max(axis=0)
    points = (front - low) / np.where(high > low, high - low, 1.0)
    corner = np.full(front.shape[1], 1.0 + _MARGIN)
    if front.shape[1] == 2:
        order = np.argsort(points[:, 0], kind="stable")
        x, y = np.append(points[order, 0], corner[0]), np.append(corner[1], points[order, 1])
        found = np.empty(len(points))
        found[order] = np.diff(x) * -np.diff(y)
        return found
    return np.array([_exclusive(points, i, corner) for i in range(len(points))])


def _exclusive(points: Array, i: int, corner: Array) -> float:
    """Return the volume that only row i dominates.

    Only the part of the other rows inside the box of row i matters, and it has a small front (While et al. 2012,
    "A fast way of calculating exact hypervolumes").
    """
    inside = np.maximum(np.delete(points, i, axis=0), points[i])
    covered = hypervolume(inside[non_dominated(inside)], corner) if len(inside) else 0.0
    return float(np.prod(corner - points[i])) - covered
