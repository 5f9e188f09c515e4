"""The plan of a confirmation: which configurations are trained again, and how often.

The budget is as many runs as `confirm.seeds` on each chosen point would take. They are spent by need, in rounds:

1. Each chosen point of the search's front has one run.
2. Contenders have one run: trials off the front that the search may have underestimated.
3. Each point that is still in doubt has a further run, and in every other round each point whose place on the front
   is certain. A point is eliminated, and has no further run, once another point that costs no more is better with
   95 % confidence (successive elimination: Even-Dar, Mannor and Mansour 2006, "Action elimination and stopping
   conditions for the multi-armed bandit and reinforcement learning problems"). Its place on the front is certain
   once no point dominates it with more than 5 % probability.

A contender that displaces chosen points keeps up with them: it has its run before they have theirs, and with fewer
runs than one of them it has the whole round, so that no single lucky run decides (`rescue.py`).

All points have the same seeds in the same order, so comparisons are paired. The variance of a difference is that of
the runs, pooled over the points (`run_noise.py`), plus that of the choice of validation examples, from the
differences example by example (`dominance.py`). Until a point has two runs, and where all runs tie, the variance of a
run is taken from the differences between search and first run, less their mean, which is the selection bias; each has
twice the variance of a run.

A point is a configuration, which its first trial represents: trials that repeat it are not trained again beside it.

The plan is a function of the results of the search and of the runs: it is rebuilt from the first round each time,
so an interrupted confirmation resumes where it stopped. Within a round, the order of completion has no influence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.objectives import Objective, is_cost
from autotune.results.confirmation import chosen_points, report_seed
from autotune.results.confirmation_runs import RunKey, is_as_search
from autotune.results.dominance import dominance_probabilities, paired_variances
from autotune.results.estimates import DEVIATION, is_first, pooled, searched_values
from autotune.results.run_noise import binomial_variances, run_noise
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import complete_trials, quality

Array = NDArray[np.float64]

_CONFIDENCE = 0.95
"""Confidence of an elimination, and of a place on the front."""
_CHANCE = 0.1
"""Least probability of being on the front that makes a trial a contender."""
_MOST_SEEDS = 2
"""The most runs of a point, as a multiple of `confirm.seeds`."""


@dataclass(frozen=True)
class ConfirmationPlan:
    """What a confirmation does next.

    Args:
        runs: the runs of the current round that have not ended; empty when the confirmation is complete.
        total: the most runs of the whole confirmation.
        ended: how many of them have ended.
    """

    runs: list[RunKey]
    total: int
    ended: int


def plan_confirmation(results: SweepTables, ended: Collection[RunKey]) -> ConfirmationPlan:
    """Return what a confirmation does next.

    Args:
        results: the sweep, with the complete runs of its confirmation.
        ended: runs that are not trained again, the complete ones among them.
    """
    rounds = _Rounds(results, frozenset(ended))
    for batch in rounds:
        if missing := [run for run in batch if run not in rounds.ended]:
            return ConfirmationPlan(missing, rounds.total, len(rounds.spent & rounds.ended))
    return ConfirmationPlan([], rounds.total, len(rounds.spent & rounds.ended))


class _Rounds:
    """The rounds of a confirmation, one after another; a round is asked for when the one before it has ended.

    Args:
        results: the sweep, with the complete runs of its confirmation.
        ended: runs that are not trained again.
    """

    def __init__(self, results: SweepTables, ended: frozenset[RunKey]) -> None:
        self._results, self.ended = results, ended
        self._chosen = chosen_points(results)
        self._seeds = results.sweep.confirm.seeds
        self.total = self._seeds * len(self._chosen)
        self._points: list[int] = []
        self._planned: set[RunKey] = set()
        self._eliminated: set[int] = set()

    @property
    def spent(self) -> set[RunKey]:
        """The runs that count towards the budget; earlier versions ran others than those planned here."""
        return self._planned | {run for run in self.ended if run.trial in self._points}

    def __iter__(self) -> Iterator[list[RunKey]]:
        yield self._plan(self._chosen)
        if self._seeds > 1:
            yield self._plan(self._contenders())
        number = 0
        while batch := self._plan(self._needy(number)):
            yield batch
            number += 1

    def _plan(self, points: Sequence[int]) -> list[RunKey]:
        """Return the next run of each point, in order, as far as the budget reaches."""
        batch = []
        self._points += [point for point in points if point not in self._points]
        spent = self.spent
        counts = Counter(run.trial for run in self._planned)
        for point in points:
            run = RunKey(point, report_seed(self._results.sweep.seed, counts[point]))
            if run in spent or len(spent) < self.total:
                batch.append(run)
                spent.add(run)
        self._planned.update(batch)
        return batch

    def _contenders(self) -> list[int]:
        """Return the trials off the search's front that may belong on it, the most probable first.

        The front is judged by the runs of the first round, without the bias of the search.
        """
        results, m = self._results, len(self._results.objectives)
        runs = self._runs()
        if runs.empty:
            return []
        scored = set(runs["trial"])
        standing = _Standing(results, [point for point in self._chosen if point in scored], runs)
        trials = complete_trials(results)
        is_chosen = trials["on_search_front"] | trials["trial"].isin(self._chosen)
        others = trials[trials["feasible"] & ~is_chosen & is_first(results.objectives, trials)]
        if others.empty or not standing.is_noise_known:
            return []
        losses = self._comparable_losses(others, standing)
        variances = np.zeros((len(others), m))
        for j, objective in enumerate(results.objectives):
            if not is_cost(objective.name):
                deviations = others.get(f"{DEVIATION}{objective.name}", pd.Series(np.nan, others.index))
                variances[:, j] = (deviations.astype(float) ** 2).fillna(standing.noise[j])
        p = len(standing.losses)
        probability = dominance_probabilities(
            np.concatenate([standing.losses, losses]),
            np.concatenate([standing.variances, variances]),
            standing.freedoms,
            np.zeros((p + len(others), p + len(others), m)),
        )
        on_front = 1.0 - probability[:p, p:].max(axis=0)
        order = np.argsort(-on_front, kind="stable")[: max(1, p // 4)]
        numbers = others["trial"].to_numpy()
        return [int(numbers[i]) for i in order if on_front[i] >= _CHANCE]

    def _comparable_losses(self, others: pd.DataFrame, standing: _Standing) -> Array:
        """Return the losses of trials in the search, shifted by the mean difference of runs at another fidelity."""
        objectives = self._results.objectives
        values = searched_values(objectives, others)
        losses = np.column_stack([o.loss(values[:, j]) for j, o in enumerate(objectives)])
        if is_as_search(self._results.confirmations):
            return losses
        trials = self._results.trials.set_index("trial").loc[standing.points].reset_index()
        values = searched_values(objectives, trials)
        searched = np.column_stack([o.loss(values[:, j]) for j, o in enumerate(objectives)])
        return np.asarray(losses + (standing.losses - searched).mean(axis=0))

    def _needy(self, number: int) -> list[int]:
        """Return the points that have a run in a round, those in most doubt first.

        Args:
            number: of the round, counted from 0 after the contenders.
        """
        counts = Counter(run.trial for run in self._planned)
        scored = set(self._runs()["trial"])
        points = [point for point in self._points if point in scored and point not in self._eliminated]
        if not points:
            return []
        standing = _Standing(self._results, points, self._runs())
        dominated = standing.dominance().max(axis=0)
        self._eliminated |= {p for p, d in zip(points, dominated, strict=True) if d >= _CONFIDENCE}
        left = {
            p: abs(d - 0.5)
            for p, d in zip(points, dominated, strict=True)
            if p not in self._eliminated and counts[p] < _MOST_SEEDS * self._seeds
        }
        doubtful = [p for p, distance in left.items() if distance < _CONFIDENCE - 0.5]
        batch = list(left) if number % 2 or not doubtful else doubtful
        batch.sort(key=lambda p: (left[p] >= _CONFIDENCE - 0.5, counts[p], left[p]))
        displaced = {p: others for p, others in self._displaced().items() if p in left}
        if late := [p for p, others in displaced.items() if counts[p] < max(counts[q] for q in others)]:
            return late
        rescuers = [p for p, others in displaced.items() if not others.isdisjoint(batch)]
        return rescuers + [p for p in batch if p not in rescuers]

    def _displaced(self) -> dict[int, set[int]]:
        """Return, by contender, the chosen points that it dominates, and the best if it is better, by the runs."""
        runs = self._runs()
        scored = set(runs["trial"])
        points = [point for point in self._points if point in scored]
        is_chosen = np.isin(points, self._chosen)
        if is_chosen.all() or not is_chosen.any():
            return {}
        losses = _Standing(self._results, points, runs).losses
        scores = losses[:, self._results.objectives.index(quality(self._results))]
        is_best = scores == scores[is_chosen].min()
        found = {}
        for i in np.flatnonzero(~is_chosen):
            beaten = is_chosen & ((losses[i] <= losses).all(axis=1) | (is_best & (scores[i] < scores)))
            if beaten.any():
                found[points[i]] = {points[k] for k in np.flatnonzero(beaten)}
        return found

    def _runs(self) -> pd.DataFrame:
        """Return the complete ones among the planned runs."""
        runs = self._results.confirmations
        keys = map(RunKey, runs["trial"], runs["seed"])
        return runs[np.array([key in self._planned for key in keys], dtype=bool)]


class _Standing:
    """What the runs so far say about some points.

    Args:
        results: the sweep.
        points: trials, p of them, each with a complete run.
        runs: rows of `results.confirmations`, for these and other points.
    """

    def __init__(self, results: SweepTables, points: Sequence[int], runs: pd.DataFrame) -> None:
        self._results, self.points, self._runs = results, list(points), runs
        shape = (len(points), len(results.objectives))
        self.losses, self.variances = np.full(shape, np.nan), np.zeros(shape)
        self.noise = np.zeros(shape[1])
        self.freedoms: list[float] = [0.0] * shape[1]
        rows = results.trials.set_index("trial").loc[list(points)]
        for j, objective in enumerate(results.objectives):
            if is_cost(objective.name):
                self.losses[:, j] = objective.loss(pooled(objective.name, rows))
                continue
            losses = pd.Series(objective.loss(runs[f"metric.{objective.name}"]), runs.index)
            groups = losses.groupby(runs["trial"])
            self.noise[j], self.freedoms[j] = self._noise(objective, losses)
            self.losses[:, j] = groups.mean().reindex(pd.Index(points))
            self.variances[:, j] = self.noise[j] / groups.count().reindex(pd.Index(points))

    @property
    def is_noise_known(self) -> bool:
        """Whether the variance of a run is known for every score."""
        return bool(np.isfinite(self.noise).all())

    def dominance(self) -> Array:
        """Return the probabilities that the points dominate one another; see `dominance_probabilities`."""
        p, m = self.losses.shape
        pairs = np.zeros((p, p, m))
        seeds = {
            point: self._runs.loc[self._runs["trial"] == point, "seed"].tolist() for point in self.points
        }
        for j, objective in enumerate(self._results.objectives):
            if objective.scale == "linear" and not is_cost(objective.name):
                pairs[:, :, j] = paired_variances(self._results.example_scores, seeds, objective.name)
        return dominance_probabilities(self.losses, self.variances, self.freedoms, pairs)

    def _noise(self, objective: Objective, losses: pd.Series) -> tuple[float, float]:
        """Return the variance of one run in loss coordinates, NaN if it is not known, and its degrees of freedom."""
        is_linear = objective.scale == "linear"
        examples = self._results.example_scores if is_linear else {}
        noise = run_noise(losses, self._runs["trial"], binomial_variances(examples, objective.name))
        if noise.freedom:
            return noise.common, noise.freedom
        trials = self._results.trials.set_index("trial")
        searched = objective.loss(trials[objective.name].reindex(self._runs["trial"]))
        differences = (losses - searched).dropna()
        if differences.nunique() < 2:
            return math.nan, 1.0
        return float(differences.var(ddof=1) / 2), float(len(differences) - 1)
