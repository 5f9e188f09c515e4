"""Confirmation: runs of the front's configurations with seeds that the search never used, scored on test data too.

The best of many noisy scores is biased upward. Search seeds and report seeds are disjoint, validation data select and
test data report, and the report prints both, so that the selection bias is visible.
"""

from __future__ import annotations

import numpy as np

from autotune.objectives import unit_losses
from autotune.pareto import hypervolume_contributions
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
    """Return the trials to confirm.

    These are the front, or, if it is larger than the sweep allows, its best point in the first objective and those
    that contribute most hypervolume.
    """
    front = results.front
    limit = results.sweep.confirm.points
    if len(front) <= limit:
        return [int(trial) for trial in front["trial"]]
    units = unit_losses(results.objectives, results.values(front))
    contributions = hypervolume_contributions(units, [1.1] * units.shape[1])
    contributions[units[:, 0].argmin()] = float("inf")
    keep = sorted(contributions.argsort()[::-1][:limit])
    return [int(front["trial"].iloc[i]) for i in keep]


def missing_runs(results: SweepTables) -> list[tuple[int, int]]:
    """Return the (trial, seed) pairs that have no run yet."""
    done = set(zip(results.confirmations["trial"], results.confirmations["seed"], strict=True))
    seeds = [report_seed(results.sweep.seed, i) for i in range(results.sweep.confirm.seeds)]
    # Seed by seed, so that every point has a run before any has two, in case the time runs out.
    return [(trial, seed) for seed in seeds for trial in chosen_points(results) if (trial, seed) not in done]
