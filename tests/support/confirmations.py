"""Confirmations without training: a made-up sweep whose runs score the true value plus noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autotune.results.confirmation_plan import plan_confirmation
from autotune.results.confirmation_runs import RunKey, empty_confirmations
from autotune.results.estimates import search_front
from autotune.results.sweep_tables import SweepTables
from tests.support.synthetic import synthetic_sweep

Score = Callable[[int, int], float]
"""(trial, seed) -> accuracy of a run."""


def searched_sweep(costs: Sequence[float], scores: Sequence[float], **confirm: Any) -> SweepTables:
    """A finished search for accuracy and trainable parameters, with its values by trial and no confirmation."""
    sweep = synthetic_sweep(confirm={"seeds": 3, "points": 8, **confirm})
    trials = pd.DataFrame(
        {
            "trial": range(len(costs)),
            "status": "complete",
            "origin": None,
            "config": [{"epochs": 1, "rank": rank} for rank in range(len(costs))],
            "accuracy": [float(score) for score in scores],
            "trainable_params": [float(cost) for cost in costs],
            "feasible": True,
        }
    )
    trials["on_search_front"] = trials["on_front"] = search_front(sweep.objectives, trials)
    return SweepTables(Path("s"), sweep, trials, pd.DataFrame(), empty_confirmations(), {})


def noisy(true: Sequence[float], deviation: float, seed: int = 0) -> Score:
    """Runs that score a trial's true value plus normal noise, which trial and seed fix."""

    def score(trial: int, run: int) -> float:
        return float(true[trial] + deviation * np.random.default_rng([seed, trial, run]).normal())

    return score


def confirm_in_rounds(
    searched: SweepTables, score: Score, stop_after: int | None = None, failing: frozenset[int] = frozenset()
) -> list[RunKey]:
    """Run a confirmation to its end, or until so many runs have ended, and return its runs in order."""
    ended: list[RunKey] = []
    return resume_in_rounds(searched, score, ended, stop_after, failing)


def resume_in_rounds(
    searched: SweepTables,
    score: Score,
    ended: Sequence[RunKey],
    stop_after: int | None = None,
    failing: frozenset[int] = frozenset(),
) -> list[RunKey]:
    """Resume a confirmation whose runs `ended`; see `confirm_in_rounds`."""
    done = list(ended)
    while stop_after is None or len(done) < stop_after:
        plan = plan_confirmation(with_runs(searched, score, done, failing), done)
        if not plan.runs:
            break
        done += plan.runs
    return done[:stop_after]


def with_runs(
    searched: SweepTables, score: Score, runs: Sequence[RunKey], failing: frozenset[int] = frozenset()
) -> SweepTables:
    """The sweep with these runs, of which those of `failing` trials have no score."""
    rows = [
        {"trial": run.trial, "seed": run.seed, "elapsed": 1.0, "metric.accuracy": score(*run)}
        for run in runs
        if run.trial not in failing
    ]
    return replace(searched, confirmations=pd.DataFrame(rows) if rows else empty_confirmations())
