"""The recommended point of a front: its knee, or the smallest good point where the front has no bend.

Four rules decide, all on the estimates where the sweep has confirmation runs:

1. A point is eligible only if it beats the untrained baseline (the majority class, the base model without an
   adapter) by more than its standard error.
2. The front has a bend if its knee lies deeper below the line through the front's ends than the mean spacing of its
   points (Kneedle, see `autotune.pareto.Knee`) and than twice the standard error of that depth. Then the knee is
   recommended.
3. Otherwise the recommendation follows the one-standard-error rule (Breiman et al. 1984, "Classification and
   regression trees", section 3.4.3): the smallest point whose quality is within one standard error of the best.
4. A point that the confirmation rescued needs as many runs as the points that it displaces (see
   `autotune.results.rescue`). With fewer, the recommendation is that without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.formatting.units import quantity, within_sentence
from autotune.objectives import Objective, box, is_cost, objective_defaults, unit_losses
from autotune.pareto import knee
from autotune.results.estimates import estimates, searched_values
from autotune.results.rescue import confirmed_rest, is_outnumbered, rescued_trials
from autotune.results.run_noise import binomial_variances, run_noise
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmation_statistics, quality
from autotune.results.trial_tables import TRAINED_HEAD

_NOISE = 2.0
"""Standard errors by which a bend must exceed a straight front: about 95 % confidence."""


@dataclass(frozen=True)
class Recommendation:
    """The recommended point of a front, with the reason.

    Args:
        trial: its number; None where no point can be recommended.
        is_knee: whether the front bends at the point.
        reason: one sentence without its period, beginning in lower case.
    """

    trial: int | None
    is_knee: bool
    reason: str


def recommend(results: SweepTables, rows: pd.DataFrame) -> Recommendation:
    """Recommend one of the given points of a front.

    Args:
        results: the sweep.
        rows: rows of `results.front`, all of them or those that meet a condition.

    Returns:
        the recommendation; without a trial where `rows` is empty, no point beats the untrained baseline, or the only
        one that does is a rescued point with too few runs (see `autotune.results.rescue`).
    """
    found = _by_rules(results, rows)
    if found.trial is None or found.trial not in rescued_trials(results):
        return found
    rest = recommend(results, confirmed_rest(results, rows, found.trial))
    if not is_outnumbered(results, found.trial, rest.trial):
        return found
    if rest.trial is not None:
        return rest
    few = f"trial {found.trial} has fewer confirmation runs than the points that it displaces"
    return Recommendation(None, False, few)


def _by_rules(results: SweepTables, rows: pd.DataFrame) -> Recommendation:
    """Recommend one of the given points, whatever the number of its runs."""
    if rows.empty:
        return Recommendation(None, False, "no trial is on the front")
    scores = trusted_values(results, rows)
    eligible = beats_baseline(results, rows) & np.isfinite(scores).all(axis=1)
    if not eligible.any():
        return Recommendation(None, False, none_beats_baseline(results))
    trials, scores = rows["trial"].to_numpy()[eligible], scores[eligible]
    if results.has_single_objective:
        best = int(results.objectives[0].loss(scores[:, 0]).argmin())
        return Recommendation(int(trials[best]), False, "the best trial: the sweep has one objective")
    if len(trials) == 1:
        only = (
            "the only point of the front"
            if len(results.front) == 1
            else "the only eligible point of the front"
        )
        return Recommendation(int(trials[0]), False, only)
    axes, error = _quality_and_cost(results, scores)
    found = knee(axes)
    span = np.ptp(axes[:, 0])
    # The depth holds the quality of three points in units of the span; the variances add up to at most twice one's.
    noise = _NOISE * math.sqrt(2.0) * error / span if span > 0 else math.inf
    if found.exceeds_spacing and found.depth > noise:
        return Recommendation(int(trials[found.row]), True, "the front bends here: more cost gains little")
    return _smallest_good(results, trials, scores, axes[:, -1])


def _quality_and_cost(results: SweepTables, scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the losses as two columns, quality and cost, and the standard error of the first.

    Costs mostly rise together (parameters and the FLOPs to train them), so they are averaged in units of the box
    between ideal and reference, and so are qualities: two costs must not outvote one quality. Where all objectives
    are of one kind, each keeps its column.
    """
    units = unit_losses(results.objectives, scores)
    ideal, reference = box(results.objectives, scores)
    costs = np.array([is_cost(objective.name) for objective in results.objectives])
    errors = np.array([_mean_error(results, objective) for objective in results.objectives])
    errors = np.nan_to_num(errors) / (reference - ideal)
    if costs.all() or not costs.any():
        return units, float(errors.max())
    axes = np.column_stack([units[:, ~costs].mean(axis=1), units[:, costs].mean(axis=1)])
    return axes, float(np.sqrt((errors[~costs] ** 2).sum()) / (~costs).sum())


def _smallest_good(
    results: SweepTables, trials: NDArray[np.int64], scores: NDArray[np.float64], cost: NDArray[np.float64]
) -> Recommendation:
    """Return the point of the lowest cost within one standard error of the best quality."""
    objective = quality(results)
    losses = objective.loss(scores[:, results.objectives.index(objective)])
    best, error = int(losses.argmin()), _mean_error(results, objective)
    if math.isnan(error):
        reason = "the front has no bend, and no standard error is known: the best point"
        return Recommendation(int(trials[best]), False, reason)
    near = np.flatnonzero(losses <= losses[best] + error)
    chosen = near[np.lexsort((losses[near], cost[near]))[0]]
    near_words = f"within one standard error ({quantity(objective.name, error)}) of the best"
    if chosen == best:
        reason = f"the front has no bend, and no smaller point is {near_words}"
    else:
        reason = f"the front has no bend: the smallest point {near_words}, trial {trials[best]}"
    return Recommendation(int(trials[chosen]), False, reason)


def beats_baseline(results: SweepTables, rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows of `results.trials` beat every untrained baseline by more than their standard error.

    A row is judged by its confirmed mean where it has one, and otherwise by its score in the search, whose standard
    error is unknown and counts as zero. Without a baseline every row passes.
    """
    metric = results.metric
    baselines = untrained_baselines(results)
    if not baselines or f"metric.{metric}" not in rows:
        return np.ones(len(rows), dtype=bool)
    objective = _of_metric(results, metric)
    seen = confirmation_statistics(results, metric).reindex(rows["trial"])
    scores = seen["mean"].fillna(rows.set_index("trial")[f"metric.{metric}"].astype(float))
    errors = run_deviation(results, objective) / np.sqrt(seen["seeds"].to_numpy(dtype=float))
    bar = min(float(objective.loss(value)) for value in baselines.values())
    return np.asarray(objective.loss(scores) < bar - np.nan_to_num(errors))


def untrained_baselines(results: SweepTables) -> dict[str, float]:
    """Return the baselines that need no training at all, by name."""
    return {name: value for name, value in results.baselines.items() if name != TRAINED_HEAD}


def none_beats_baseline(results: SweepTables) -> str:
    """Return why no point is recommended, for messages."""
    return f"no point of the front beats {baseline_words(results)} by more than its standard error"


def baseline_words(results: SweepTables) -> str:
    """Return the untrained baselines with their values, for messages."""
    metric = results.metric
    known = untrained_baselines(results).items()
    return " and ".join(f"the baseline {within_sentence(name)} ({quantity(metric, v)})" for name, v in known)


def trusted_values(results: SweepTables, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return the objectives of rows of the front, shape [n, objectives], with scores that other seeds confirm.

    If any row was confirmed, a score is its estimate (see `autotune.results.estimates`), and NaN for a row that was
    not: a lucky score of the search must not beat a confirmed one. Otherwise it is the posterior mean in the search
    where one is stored, and else the score in the search.
    """
    values = searched_values(results.objectives, rows)
    for j, objective in enumerate(results.objectives):
        if is_cost(objective.name):
            continue
        found = estimates(objective, results.trials, results.confirmations).reindex(rows["trial"])
        if found.notna().any():
            values[:, j] = found
    return values


def run_deviation(results: SweepTables, objective: Objective) -> float:
    """Return the standard deviation between seeds of one confirmation run, in loss coordinates.

    It is pooled over the confirmed points; see `autotune.results.run_noise`. NaN where it is unknown.
    """
    column = f"metric.{objective.name}"
    if column not in results.confirmations:
        return math.nan
    losses = pd.Series(objective.loss(results.confirmations[column]))
    examples = results.example_scores if objective.scale == "linear" else {}
    binomial = binomial_variances(examples, objective.name)
    return math.sqrt(run_noise(losses, results.confirmations["trial"], binomial).common)


def _mean_error(results: SweepTables, objective: Objective) -> float:
    """Return the standard error of a confirmed mean with the median number of seeds; NaN for costs."""
    if is_cost(objective.name):
        return math.nan
    seeds = confirmation_statistics(results, objective.name)["seeds"].median()
    return run_deviation(results, objective) / math.sqrt(seeds) if seeds > 0 else math.nan


def _of_metric(results: SweepTables, metric: str) -> Objective:
    same = (objective for objective in results.objectives if objective.name == metric)
    return next(
        same, Objective(name=metric, **objective_defaults(metric, {metric: results.metric_of(metric)}))
    )
