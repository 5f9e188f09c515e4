"""What the sampler believes: objectives turned to minimization, one model for each uncertain one, a front.

Shapes: n finished trials, p running ones, c candidates, m objectives, k constraints. Arrays named `outcomes`
have m + k columns, in minimization and after the logarithm where an objective is logarithmic; a constraint
is an outcome that must be at most 0 and gains nothing by being less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.pareto import box_decomposition, non_dominated
from autotune.sampler.acquisition import expected_hypervolume_improvement, probability_within
from search_spaces.parameters.types import Value
from surrogates.feasibility import Feasibility
from surrogates.gaussian_process import GaussianProcess

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
KnownObjective = Callable[[Mapping[str, Value]], float]
Limit = tuple[float | None, float | None]

_MARGIN = 0.25
"""How far the reference lies beyond the worst value, as a share of the range.

The ends of a front of k points have their fair share with 1 / (k - 1) (Ishibuchi et al. 2018, "How to specify
a reference point in hypervolume calculation"), and the fronts of a short search have about five. The
habitual tenth left the ends of the fronts in `benchmarks/sampler_toy.py` unexplored.
"""


@dataclass(frozen=True)
class Objectives:
    """How a study's objectives are measured, and what is known of them beforehand.

    Args:
        signs: shape [m], 1 where the study minimizes and -1 where it maximizes.
        known: objectives that cost nothing to compute, by index.
        floors: objectives measured as log(max(value, floor)), by index.
        limits: hard (min, max) in the study's own units, by index.
        references: the worst value of interest in the study's own units, or None to derive it.
    """

    signs: Array
    known: Mapping[int, KnownObjective]
    floors: Mapping[int, float]
    limits: Mapping[int, Limit]
    references: Sequence[float | None]

    def __len__(self) -> int:
        return len(self.signs)

    def minimized(self, values: Array, objective: int) -> Array:
        """Values of one objective, any shape, from the study's units to ours."""
        if objective in self.floors:
            values = np.log(np.maximum(values, self.floors[objective]))
        return np.asarray(self.signs[objective] * values, dtype=float)

    def known_outcomes(self, configs: Sequence[Mapping[str, Value]], columns: int) -> Array:
        """Shape [c, columns]: the known objectives of configurations, NaN in every other column."""
        outcomes = np.full((len(configs), columns), np.nan)
        for j, function in self.known.items():
            outcomes[:, j] = self.minimized(np.array([float(function(config)) for config in configs]), j)
        return outcomes

    def bounds(self, objective: int) -> Limit:
        """The hard limit of an objective as (low, high) in our units; a constraint's is (None, 0)."""
        if objective >= len(self):
            return None, 0.0
        low, high = (
            None if limit is None else float(self.minimized(np.array(limit), objective))
            for limit in self.limits.get(objective, (None, None))
        )
        return (low, high) if self.signs[objective] > 0 else (high, low)

    def broken(self, known: Array) -> Mask:
        """Shape [c, m]: which known objectives break their limit (or are no number) at each candidate."""
        broken = np.zeros((len(known), len(self)), dtype=bool)
        for j in self.known:
            broken[:, j] = ~np.isfinite(known[:, j]) | ~self._keeps(known[:, j], j)
        return broken

    def excess(self, known: Array) -> Array:
        """Shape [c, m]: how far each known objective breaks its limit, relative to it; at most 0 inside."""
        excess = np.full((len(known), len(self)), -1.0)
        for j in self.known:
            low, high = self.bounds(j)
            values, broken = known[:, j], self.broken(known)[:, j]
            over = np.zeros(len(known))
            if low is not None:
                over = np.maximum(over, (low - values) / max(abs(low), 1e-12))
            if high is not None:
                over = np.maximum(over, (values - high) / max(abs(high), 1e-12))
            # What the slack forgives is inside; what is broken is outside, however little.
            excess[:, j] = np.where(
                broken, np.where(np.isfinite(values), np.maximum(over, 1e-12), np.inf), 0.0
            )
        return excess

    def feasible(self, outcomes: Array) -> Mask:
        """Shape [n]: which rows keep every limit and every constraint."""
        return np.all([self._keeps(outcomes[:, j], j) for j in range(outcomes.shape[1])], axis=0)

    def _keeps(self, values: Array, objective: int) -> Mask:
        low, high = self.bounds(objective)
        # Slack of a few roundings: a limit read from a configuration's own cost must admit it.
        slack = 1e-9 * np.maximum(np.abs(values), 1e-300)
        keeps = np.ones(len(values), dtype=bool)
        if low is not None:
            keeps &= values >= low - slack
        if high is not None:
            keeps &= values <= high + slack
        return keeps


class Posterior:
    """Models of everything uncertain, and the open region below the front they see.

    Args:
        objectives: the m objectives.
        X: shape [n, d], n >= 1, encoded configurations of the finished trials.
        outcomes: shape [n, m + k], finite.
        X_pending: shape [p, d], configurations that are running now; the models take their own mean for
            observed there (kriging believer), so that the next proposal goes elsewhere.
        known_pending: shape [p, m + k], known objectives there, NaN for the rest.
        X_failed: shape [f, d], configurations that failed through their own fault.
        nominal: shape [d].
        extra_noise: shape [n, m + k], variances in units of `outcomes` squared that come to a model's noise, as where
            a trial was not trained to its end; None for none.
    """

    def __init__(
        self,
        objectives: Objectives,
        X: Array,
        outcomes: Array,
        X_pending: Array,
        known_pending: Array,
        X_failed: Array,
        nominal: Mask,
        extra_noise: Array | None = None,
    ) -> None:
        self._objectives = objectives
        m = len(objectives)
        outcomes = outcomes.copy()
        front = non_dominated(outcomes[:, :m])
        self.processes: dict[int, GaussianProcess] = {}
        for j in range(outcomes.shape[1]):
            if j not in objectives.known:
                outcomes[:, j] = _without_outliers(outcomes[:, j], front)
                extra = None if extra_noise is None else extra_noise[:, j]
                fitted = GaussianProcess.fit(X, outcomes[:, j], nominal, extra_noise=extra)
                self.processes[j] = fitted.condition_on(X_pending)
        labels = np.arange(len(X) + len(X_failed)) < len(X)
        self.feasibility = Feasibility.fit(np.concatenate([X, X_failed]), labels, nominal)

        # The front that is to be improved: known values where known, posterior means elsewhere.
        self._scale = np.maximum(outcomes.std(axis=0), 1e-12)
        self.rows = np.concatenate([X, X_pending])
        known = np.concatenate([outcomes, known_pending])
        self.plug_in = self._posterior(self.rows, known)[0]
        feasible = objectives.feasible(self.plug_in)
        self.plug_in = self.plug_in[:, :m]
        self.reference = _reference(outcomes[:, :m], self.plug_in[feasible], objectives)
        self.lower, self.upper = box_decomposition(self.plug_in[feasible], self.reference)
        members = np.flatnonzero(feasible)[non_dominated(self.plug_in[feasible])]
        self.front_rows = self.rows[members] if len(members) else self.rows

    def acquisition(self, X: Array, known: Array) -> Array:
        """Shape [c]: expected hypervolume improvement x probability of success and of keeping the limits.

        Args:
            X: shape [c, d], encoded candidates.
            known: shape [c, m + k], their known objectives, NaN in the uncertain columns.
        """
        mean, std = self._posterior(X, known)
        m = len(self._objectives)
        improvement = expected_hypervolume_improvement(mean[:, :m], std[:, :m], self.lower, self.upper)
        return improvement * self._chance(X, mean, std)

    def uncertainty(self, X: Array, known: Array) -> Array:
        """Shape [c]: the summed relative standard deviations, for when no improvement is in sight."""
        mean, std = self._posterior(X, known)
        return (std / self._scale).sum(axis=1) * self._chance(X, mean, std)

    def _posterior(self, X: Array, known: Array) -> tuple[Array, Array]:
        mean, std = known.copy(), np.zeros_like(known)
        for j, process in self.processes.items():
            mean[:, j], std[:, j] = process.predict(X)
        return mean, std

    def _chance(self, X: Array, mean: Array, std: Array) -> Array:
        chance = self.feasibility.probability(X)
        for j in self.processes:
            low, high = self._objectives.bounds(j)
            if low is not None or high is not None:
                chance = chance * probability_within(mean[:, j], std[:, j], low, high)
        return chance


def _without_outliers(values: Array, front: Mask) -> Array:
    """Bad outliers (a diverged run) moved to Tukey's fence, so that they do not set the scale of the model.

    The fence never cuts off a point of the observed front: its cheap end may be far worse than the rest in
    quality and is a finding all the same.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    if high <= low:
        return values
    return np.minimum(values, max(high + 1.5 * (high - low), values[front].max()))


def _reference(outcomes: Array, front: Array, objectives: Objectives) -> Array:
    """Shape [m]: given, or the worst value seen (outliers fenced) plus a quarter of the range.

    What lies beyond a hard limit is worth nothing, so the range ends there.
    """
    seen = np.concatenate([outcomes, front])
    worst, best = seen.max(axis=0), seen.min(axis=0)
    for j in range(len(objectives)):
        limit = objectives.bounds(j)[1]
        if limit is not None and limit > best[j]:
            worst[j] = min(worst[j], limit)
    span = worst - best
    # One value alone spans nothing; any positive margin lets it count.
    margin = np.where(span > 0, _MARGIN * span, np.maximum(_MARGIN * np.abs(worst), 1e-6))
    reference = worst + margin
    for j, given in enumerate(objectives.references):
        if given is not None:
            reference[j] = objectives.minimized(np.array(given), j)
    return np.asarray(reference)
