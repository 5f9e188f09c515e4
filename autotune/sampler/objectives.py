"""The objectives of a study: directions, transformations, limits, known functions and the reference point.

Shapes: n finished trials, c candidates, m objectives, k constraints. Arrays named `outcomes` have m + k columns: the
objectives, minimized and after the logarithm where an objective is logarithmic, then the constraints, which are
feasible at or below 0 and are not improved further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.parameters.types import Value

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
KnownObjective = Callable[[Mapping[str, Value]], float]
Limit = tuple[float | None, float | None]

_MARGIN = 0.25
"""Distance of the reference point beyond the worst value, as a share of the range.

With 1 / (k - 1) the ends of a front of k points contribute as much as the other points (Ishibuchi et al. 2018, "How
to specify a reference point in hypervolume calculation"), and fronts of a short search have about five points. The
common share of 0.1 left the ends of the fronts in `benchmarks/sampler_toy.py` unexplored.
"""

_HUGE = 1e100
"""Magnitude to which values are clipped."""


@dataclass(frozen=True)
class StudyObjectives:
    """The objectives of a study: directions, transformations, limits and known functions.

    Args:
        signs: 1 where the study minimizes and -1 where it maximizes, shape [m].
        known: functions of a configuration for the objectives that need no trial, by objective index.
        floors: floors of logarithmic objectives, log(max(value, floor)), by objective index.
        limits: hard (min, max) in the study's units, by objective index.
        references: for each objective the worst value of interest in the study's units, or None to derive it.
    """

    signs: Array
    known: Mapping[int, KnownObjective]
    floors: Mapping[int, float]
    limits: Mapping[int, Limit]
    references: Sequence[float | None]

    def __len__(self) -> int:
        return len(self.signs)

    def minimized(self, values: Array, objective: int) -> Array:
        """Transform values of one objective, of any shape, from the study's units to minimization."""
        if objective in self.floors:
            values = np.log(np.maximum(values, self.floors[objective]))
        # Squares of larger values overflow. Infinite values stay so: no trial with them is an observation.
        values = np.where(np.isfinite(values), np.clip(values, -_HUGE, _HUGE), values)
        return np.asarray(self.signs[objective] * values, dtype=float)

    def known_outcomes(self, configs: Sequence[Mapping[str, Value]], columns: int) -> Array:
        """Compute the known objectives of c configurations, shape [c, columns], NaN in every other column."""
        outcomes = np.full((len(configs), columns), np.nan)
        for j, function in self.known.items():
            outcomes[:, j] = self.minimized(np.array([float(function(config)) for config in configs]), j)
        return outcomes

    def bounds(self, objective: int) -> Limit:
        """Return the hard limits (low, high) of an objective, minimized; those of a constraint are (None, 0)."""
        if objective >= len(self):
            return None, 0.0
        low, high = (
            None if limit is None else float(self.minimized(np.array(limit), objective))
            for limit in self.limits.get(objective, (None, None))
        )
        return (low, high) if self.signs[objective] > 0 else (high, low)

    def violated(self, known: Array) -> Mask:
        """Return which known objectives of each candidate violate their limit or are not finite, shape [c, m]."""
        violated = np.zeros((len(known), len(self)), dtype=bool)
        for j in self.known:
            violated[:, j] = ~np.isfinite(known[:, j]) | ~self._satisfies(known[:, j], j)
        return violated

    def excess(self, known: Array) -> Array:
        """Return the violation of each known limit relative to the limit, shape [c, m]; at most 0 if satisfied."""
        excess = np.full((len(known), len(self)), -1.0)
        for j in self.known:
            low, high = self.bounds(j)
            values, violated = known[:, j], self.violated(known)[:, j]
            over = np.zeros(len(known))
            if low is not None:
                over = np.maximum(over, (low - values) / max(abs(low), 1e-12))
            if high is not None:
                over = np.maximum(over, (values - high) / max(abs(high), 1e-12))
            # Consistent with `violated`: 0 within its slack, and positive for any violation.
            excess[:, j] = np.where(
                violated, np.where(np.isfinite(values), np.maximum(over, 1e-12), np.inf), 0.0
            )
        return excess

    def feasible(self, outcomes: Array) -> Mask:
        """Return which rows of `outcomes` satisfy every limit and every constraint, shape [n]."""
        return np.all([self._satisfies(outcomes[:, j], j) for j in range(outcomes.shape[1])], axis=0)

    def _satisfies(self, values: Array, objective: int) -> Mask:
        low, high = self.bounds(objective)
        # Slack for rounding: a limit that equals a configuration's own cost must admit it.
        slack = 1e-9 * np.maximum(np.abs(values), 1e-300)
        satisfied = np.ones(len(values), dtype=bool)
        if low is not None:
            satisfied &= values >= low - slack
        if high is not None:
            satisfied &= values <= high + slack
        return satisfied

    def reference(self, outcomes: Array, front: Array) -> Array:
        """Return the reference point, shape [m]: the user's, or the worst observed value plus a margin.

        Values beyond a hard limit have no worth, so the range ends at the limit.

        Args:
            outcomes: observed objectives, shape [n, m].
            front: objectives of the feasible points, posterior means where uncertain, shape [f, m].
        """
        seen = np.concatenate([outcomes, front])
        worst, best = seen.max(axis=0), seen.min(axis=0)
        for j in range(len(self)):
            limit = self.bounds(j)[1]
            if limit is not None and limit > best[j]:
                worst[j] = min(worst[j], limit)
        span = worst - best
        # A single value has no range; any positive margin gives it a volume.
        margin = np.where(span > 0, _MARGIN * span, np.maximum(_MARGIN * np.abs(worst), 1e-6))
        reference = worst + margin
        for j, value in enumerate(self.references):
            if value is not None:
                reference[j] = self.minimized(np.array(value), j)
        return np.asarray(reference)
