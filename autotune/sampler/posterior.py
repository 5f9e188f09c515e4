"""The posterior of the objectives: one surrogate per uncertain objective, and the front of the posterior means.

Shapes: n finished trials, p running trials, f failed trials, c candidates, d encoded dimensions, m objectives,
k constraints. Arrays named `outcomes` have m + k columns: the objectives, minimized and after the logarithm where
an objective is logarithmic, then the constraints, which are feasible at or below 0 and are not improved further.
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
"""Distance of the reference point beyond the worst value, as a share of the range.

With 1 / (k - 1) the ends of a front of k points contribute as much as the other points (Ishibuchi et al. 2018, "How
to specify a reference point in hypervolume calculation"), and fronts of a short search have about five points. The
common share of 0.1 left the ends of the fronts in `benchmarks/sampler_toy.py` unexplored.
"""


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


class Posterior:
    """Surrogates of the uncertain objectives and constraints, conditioned on a study, and the front to improve.

    Args:
        objectives: the m objectives.
        X: encoded configurations of the finished trials, shape [n, d], n >= 1.
        outcomes: their outcomes, shape [n, m + k], finite.
        X_pending: encoded configurations of the running trials, shape [p, d]. The surrogates are conditioned on
            their own posterior mean there (kriging believer), so that the next proposal lies elsewhere.
        known_pending: known objectives of the running trials, shape [p, m + k], NaN in the other columns.
        X_failed: encoded configurations that failed through their own fault, shape [f, d].
        nominal: which encoded columns are nominal, shape [d].
        extra_noise: variances that are added to the noise of a surrogate, shape [n, m + k], in squared units of
            `outcomes`, as for trials that did not train to the end; None for none.
    """

    def __init__(
        self,
        objectives: StudyObjectives,
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

        # The front to improve consists of known values where known, and of posterior means elsewhere.
        self._scale = np.maximum(outcomes.std(axis=0), 1e-12)
        self.rows = np.concatenate([X, X_pending])
        known = np.concatenate([outcomes, known_pending])
        self.plug_in_values = self._posterior(self.rows, known)[0]
        feasible = objectives.feasible(self.plug_in_values)
        self.plug_in_values = self.plug_in_values[:, :m]
        self.reference = _reference(outcomes[:, :m], self.plug_in_values[feasible], objectives)
        self.lower, self.upper = box_decomposition(self.plug_in_values[feasible], self.reference)
        members = np.flatnonzero(feasible)[non_dominated(self.plug_in_values[feasible])]
        self.front_rows = self.rows[members] if len(members) else self.rows

    def acquisition(self, X: Array, known: Array) -> Array:
        """Return the acquisition value of each candidate, larger is better.

        It is the expected hypervolume improvement times the probability of feasibility: that the trial
        succeeds and satisfies the limits of uncertain objectives (Gardner et al. 2014, "Bayesian optimization
        with inequality constraints").

        Args:
            X: encoded candidates, shape [c, d].
            known: their known objectives, shape [c, m + k], NaN in the uncertain columns.

        Returns:
            Shape [c], never negative.
        """
        mean, std = self._posterior(X, known)
        m = len(self._objectives)
        improvement = expected_hypervolume_improvement(mean[:, :m], std[:, :m], self.lower, self.upper)
        return improvement * self._feasibility(X, mean, std)

    def uncertainty(self, X: Array, known: Array) -> Array:
        """Return the sum of the relative standard deviations times the probability of feasibility, shape [c].

        It replaces `acquisition` where every expected improvement is 0 in double precision.
        """
        mean, std = self._posterior(X, known)
        return (std / self._scale).sum(axis=1) * self._feasibility(X, mean, std)

    def _posterior(self, X: Array, known: Array) -> tuple[Array, Array]:
        mean, std = known.copy(), np.zeros_like(known)
        for j, process in self.processes.items():
            mean[:, j], std[:, j] = process.predict(X)
        return mean, std

    def _feasibility(self, X: Array, mean: Array, std: Array) -> Array:
        probability = self.feasibility.probability(X)
        for j in self.processes:
            low, high = self._objectives.bounds(j)
            if low is not None or high is not None:
                probability = probability * probability_within(mean[:, j], std[:, j], low, high)
        return probability


def _without_outliers(values: Array, front: Mask) -> Array:
    """Clip bad outliers, such as diverged runs, to Tukey's fence, so that they do not set the surrogate's scale.

    Points of the observed front are not clipped: the cheap end of a front may have much worse quality than the
    rest.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    if high <= low:
        return values
    return np.minimum(values, max(high + 1.5 * (high - low), values[front].max()))


def _reference(outcomes: Array, front: Array, objectives: StudyObjectives) -> Array:
    """Return the reference point, shape [m]: the user's, or the worst observed value plus a margin.

    Values beyond a hard limit have no worth, so the range ends at the limit.
    """
    seen = np.concatenate([outcomes, front])
    worst, best = seen.max(axis=0), seen.min(axis=0)
    for j in range(len(objectives)):
        limit = objectives.bounds(j)[1]
        if limit is not None and limit > best[j]:
            worst[j] = min(worst[j], limit)
    span = worst - best
    # A single value has no range; any positive margin gives it a volume.
    margin = np.where(span > 0, _MARGIN * span, np.maximum(_MARGIN * np.abs(worst), 1e-6))
    reference = worst + margin
    for j, value in enumerate(objectives.references):
        if value is not None:
            reference[j] = objectives.minimized(np.array(value), j)
    return np.asarray(reference)
