"""Scores of groups of examples, which a column of the data names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..kinds.kind import Array

WORST_GROUP = "worst_group_accuracy"
"""The name of the least accuracy of a group."""
_MISSING = "missing"


def group_name(value: object) -> str:
    """Return the name of the group of a value; examples without one are a group of their own."""
    return _MISSING if value is None or value != value else str(value)


def group_names(values: Sequence[Any]) -> list[str]:
    """Return the names of all groups in order."""
    return sorted(set(map(group_name, values)))


def group_means(scores: Array, values: Sequence[Any]) -> dict[str, float]:
    """Return the mean score of each group.

    Args:
        scores: One per example, shape [n].
        values: The value of each example in the column that names the groups.

    Example:
        >>> group_means(np.array([1.0, 0.0, 1.0]), ["news", "news", None])
        {'missing': 1.0, 'news': 0.5}
    """
    names = np.array([group_name(value) for value in values])
    return {str(name): float(scores[names == name].mean()) for name in np.unique(names)}
