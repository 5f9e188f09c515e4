"""Grids of runs at the held-out scale, ten times the largest cost that laws are fitted to."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.scale.cases import BATCHES, RANKS, RATES, Case
from benchmarks.scale.runs import FinishedRun, RunPlan
from benchmarks.scale.statistics import MeasuredBest, measured_best
from search_spaces.parameters.training import learning_rate_name
from search_spaces.parameters.types import Configuration

GRID, RANK = "grid", "rank"
CENTER_BATCH = 16
TIMES = 10


def grid_plans(case: Case, *, repeat_all: bool = False) -> list[RunPlan]:
    """Return the runs over learning rates and batch sizes at the held-out scale.

    Args:
        case: The task and the base model.
        repeat_all: Whether every setting has a second seed, and not those of the central batch size alone.
    """
    batches = {0: BATCHES, 1: BATCHES if repeat_all else (CENTER_BATCH,)}
    return [
        RunPlan(GRID, _config(case, rate, batch), case.held_out, seed)
        for seed, of_seed in batches.items()
        for batch in of_seed
        for rate in RATES
    ]


def rank_plans(case: Case, rate: float, seeds: Sequence[int] = (0, 1)) -> list[RunPlan]:
    """Return the runs over ranks at a learning rate and the central batch size, at the held-out scale."""
    return [
        RunPlan(RANK, {**_config(case, rate, CENTER_BATCH), "lora.rank": rank}, case.held_out, seed)
        for seed in seeds
        for rank in RANKS
    ]


def best_on_grid(runs: Sequence[FinishedRun], name: str) -> MeasuredBest:
    """Return the best value of a hyperparameter over the runs of a grid, by validation loss.

    Args:
        runs: The runs.
        name: The hyperparameter, as configurations name it.
    """
    searched = (learning_rate_name(runs[0].config), "batch_size", "lora.rank")
    others = [tuple(run.config.get(other) for other in searched if other != name) for run in runs]
    values = [float(run.config[name]) for run in runs]
    return measured_best(values, others, [run.validation["eval_loss"] for run in runs])


def _config(case: Case, rate: float, batch: int) -> Configuration:
    return {**case.center, learning_rate_name(case.center): rate, "batch_size": batch}
