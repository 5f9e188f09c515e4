"""Confirmation: the front's configurations again, on seeds that the search never used, and on the test split.

The best of many noisy scores is partly luck. Search and report seeds never meet, validation chooses and test
reports; the report prints both, so that the luck is visible.
"""

from __future__ import annotations

import numpy as np

from autotune.objectives import unit_losses
from autotune.pareto import hypervolume_contributions
from autotune.results.sweep_tables import SweepTables


def search_seed(sweep_seed: int, trial: int) -> int:
    """The seed of a trial: its own for each, so that the noise between trials is independent; always even."""
    return _draw(sweep_seed, trial) & ~1


def report_seed(sweep_seed: int, index: int) -> int:
    """The seed of the index-th confirmation run of a configuration; always odd, so no trial ever has it."""
    return _draw(sweep_seed, index) | 1


def _draw(sweep_seed: int, index: int) -> int:
    return int(np.random.SeedSequence([sweep_seed, index]).generate_state(1)[0])


def chosen_points(results: SweepTables) -> list[int]:
    """The trials to confirm: the front, or, where it is larger than the sweep allows, the best of the first
    objective and then those that contribute most hypervolume."""
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
    """The (trial, seed) pairs that are still to be run."""
    done = set(zip(results.confirmations["trial"], results.confirmations["seed"], strict=True))
    seeds = [report_seed(results.sweep.seed, i) for i in range(results.sweep.confirm.seeds)]
    # Seed by seed, so that every point has a run before any has two, should time run out.
    return [(trial, seed) for seed in seeds for trial in chosen_points(results) if (trial, seed) not in done]
