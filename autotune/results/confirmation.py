"""Confirmation: runs of the front's configurations with seeds that the search never used, scored on test data too.

The best of many noisy scores is biased upward. Search seeds and report seeds are disjoint, validation data select and
test data report, and the report prints both, so that the selection bias is visible.
"""

from __future__ import annotations

import numpy as np

from autotune.objectives import unit_losses
from autotune.pareto import hypervolume_contributions
from autotune.results.estimates import is_first, searched_values
from autotune.results.sweep_tables import SweepTables


def search_seed(sweep_seed: int, trial: int) -> int:
    """Return the seed of a trial: even, and different for each, so that their noise is independent."""
    return _draw(sweep_seed, trial) & ~1


def report_seed(sweep_seed: int, index: int) -> int:
    """Return the seed of a configuration's confirmation run: always odd, so that no trial has it."""
    return _draw(sweep_seed, index) | 1


def _draw(sweep_seed: int, index: int) -> int:
    return int(np.random.SeedSequence([sweep_seed, index]).generate_state(1)[0])


def chosen_points(results: SweepTables) -> list[int]:
    """Return the points of the search's front to confirm.

    These are the front, or, if it is larger than the sweep allows, its best point in the first objective and those
    that contribute most hypervolume. With one objective they are the best configurations, since the first
    of them may owe its place to chance.
    """
    front = results.search_front
    limit = results.sweep.confirm.points
    if results.has_single_objective:
        return _best_trials(results, limit)
    if len(front) <= limit:
        return [int(trial) for trial in front["trial"]]
    units = unit_losses(results.objectives, searched_values(results.objectives, front))
    contributions = hypervolume_contributions(units, [1.1] * units.shape[1])
    contributions[units[:, 0].argmin()] = float("inf")
    keep = sorted(contributions.argsort()[::-1][:limit])
    return [int(front["trial"].iloc[i]) for i in keep]


def _best_trials(results: SweepTables, count: int) -> list[int]:
    """Return the best configurations of a search with one objective, best first, each by its first trial."""
    trials = results.trials
    trials = trials[trials["feasible"].astype(bool) & is_first(results.objectives, trials)]
    losses = results.objectives[0].loss(searched_values(results.objectives, trials)[:, 0])
    return [int(trials["trial"].iloc[i]) for i in np.argsort(losses, kind="stable")[:count]]


def confirmed_front(results: SweepTables) -> list[int]:
    """Return the points of the reported front with confirmation runs; without any run, the points to confirm."""
    if results.confirmations.empty:
        return chosen_points(results)
    front = results.front["trial"]
    return [int(trial) for trial in front[front.isin(results.confirmations["trial"])]]
