"""The basic space of CARBS: coordinates in which one search radius is a small step in every direction.

CARBS (Fetterman et al. 2023, arXiv 2306.08055, section 3.1) maps a number x to log10(x) / scale, x / scale or
log10(x / (1 - x)) / scale around a center, and moves by a normal step with a standard deviation of 0.3. Here the
center of a parameter is its default, and the scale follows from its range, because a space has ranges:

* logarithmic range: one decade per unit, so that one radius is a factor of two;
* centered parameter: its own scale;
* linear range: half the range per unit, so that one radius is 15 % of the range. If the range has so few values
  that neighbors would be more than one radius apart, they are one radius apart;
* ordered choices: neighbors are one radius apart.

CARBS has neither choices nor conditions. Two values of a nominal parameter are one radius apart: a one-hot vector
times radius / sqrt(2). An inactive parameter is at its center, so that a configuration which activates it begins at
its default; the choice that activates it distinguishes the two.

Shapes: n configurations, d encoded columns, p features.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.candidates import EncodedSpace
from search_spaces.parameters.centered import UNITS_PER_SCALE, Centered
from search_spaces.parameters.types import Categorical, Float, Int, Parameter

Array = NDArray[np.float64]

SEARCH_RADIUS = 0.3
"""Standard deviation of a step in each coordinate (the initial search radius of CARBS)."""

_LINEAR_RANGE = 2.0
"""Length of a linear range in the basic space: its center plus and minus one scale."""

_CHANGE_PROBABILITY = 0.2
"""Probability that a candidate has another value of a nominal parameter than its origin."""


class BasicSpace:
    """The coordinates of encoded configurations in the basic space.

    Args:
        columns: the encoded space.

    Attributes:
        feature_columns: the encoded column that each feature is computed from, shape [p].
    """

    def __init__(self, columns: EncodedSpace) -> None:
        self._columns = columns
        parameters = columns.space.parameters
        self._ordered = np.flatnonzero(~columns.space.nominal)
        self._nominal = [(j, _choices(parameters[j])) for j in np.flatnonzero(columns.space.nominal)]
        self._centers = np.array([parameters[j].to_unit(parameters[j].default) for j in self._ordered])
        self._lengths = np.array([_length(parameters[j]) for j in self._ordered])
        self.feature_columns = np.concatenate(
            [self._ordered, *[np.full(count, j) for j, count in self._nominal]]
        ).astype(int)

    def features(self, rows: Array) -> Array:
        """Compute features whose Euclidean distance is the distance in the basic space.

        Args:
            rows: encoded configurations, shape [n, d], NaN where inactive.

        Returns:
            Features of shape [n, p]: the ordered columns, then a one-hot vector per nominal column.
        """
        ordered = rows[:, self._ordered]
        coordinates = np.where(np.isnan(ordered), 0.0, (ordered - self._centers) * self._lengths)
        size = SEARCH_RADIUS / math.sqrt(2.0)
        one_hot = [size * (rows[:, j, None] == np.arange(count)) for j, count in self._nominal]
        return np.concatenate([coordinates, *one_hot], axis=1)

    def around(self, origins: Array, count: int, rng: np.random.Generator) -> Array:
        """Draw encoded rows around random origins: a normal step in each ordered column, and a few other choices.

        Args:
            origins: encoded rows, shape [k, d].
            count: number of rows to draw.
            rng: source of randomness.

        Returns:
            Encoded rows of shape [count, d] that satisfy the conditions of the space.
        """
        raw = origins[rng.integers(len(origins), size=count)]
        steps = SEARCH_RADIUS * rng.standard_normal((count, len(self._ordered)))
        bounds = [self._columns.space.parameters[j].unit_range for j in self._ordered]
        low, high = np.array(bounds, dtype=float).reshape(-1, 2).T
        start = np.where(np.isnan(raw[:, self._ordered]), self._centers, raw[:, self._ordered])
        # A range of a single value has no length; its coordinate does not move.
        moved = start + steps / np.where(self._lengths > 0, self._lengths, np.inf)
        # Reflection at the bounds; clipping alone would accumulate probability there.
        moved = np.where(moved < low, 2 * low - moved, np.where(moved > high, 2 * high - moved, moved))
        raw[:, self._ordered] = np.clip(moved, low, high)
        for j, choices in self._nominal:
            is_changed = (rng.random(count) < _CHANGE_PROBABILITY) | np.isnan(raw[:, j])
            raw[is_changed, j] = rng.integers(choices, size=int(is_changed.sum()))
        return self._columns.resolve(raw, rng)


def squared_distances(A: Array, B: Array) -> Array:
    """Return the squared distances of the features A [n, p] and B [m, p], shape [n, m]."""
    squares = (A * A).sum(axis=1)[:, None] + (B * B).sum(axis=1)[None, :] - 2.0 * (A @ B.T)
    return np.maximum(squares, 0.0)


def _choices(parameter: Parameter) -> int:
    assert isinstance(parameter, Categorical)
    return len(parameter.choices)


def _length(parameter: Parameter) -> float:
    """Return the length of the unit interval of an ordered parameter in the basic space."""
    match parameter:
        case Centered():
            return 1.0 / UNITS_PER_SCALE
        case Categorical(choices=choices):
            return SEARCH_RADIUS * (len(choices) - 1)
        case Int(low=low, high=high, log=True) | Float(low=low, high=high, log=True):
            return math.log10(high / low)
        case Int(low=low, high=high, step=step) | Float(low=low, high=high, step=int() | float() as step):
            return min(_LINEAR_RANGE, SEARCH_RADIUS * round((high - low) / step))
        case Float(low=low, high=high):
            return _LINEAR_RANGE if low < high else 0.0
        case _:
            raise AssertionError(f"{parameter.name}: neither nominal nor a number")
