"""A confirmation that spends its runs by need against an equal allocation, with the same number of runs.

    python -m benchmarks.confirmation [--sweeps 60] [--write]

Made-up searches: 20 trials with log-uniform costs, a true accuracy that saturates with the cost and falls by an
exponential amount, and normal noise between seeds. The confirmation may spend 3 runs on each of at most 8 points.
Both allocations end in the same estimates, so the difference is where the runs went. Runs of a trial with a seed
score the same in both.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.results.confirmation import chosen_points, report_seed
from autotune.results.confirmation_plan import plan_confirmation
from autotune.results.confirmation_runs import RunKey, empty_confirmations
from autotune.results.estimates import estimates, reported_front, search_front
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.schema import Sweep

Array = NDArray[np.float64]

_TRIALS = 20
_DEVIATIONS = (0.005, 0.01, 0.02)
COLUMNS = (
    "noise", "allocation", "hypervolume lost", "error of the best", "regret of the best", "lucky points kept",
    "points missed", "runs",
)  # fmt: skip


def searched(rng: np.random.Generator, deviation: float) -> tuple[SweepTables, Array]:
    """Return the results of a search, and the true accuracy of its trials."""
    sweep = Sweep.model_validate(
        {
            "name": "made-up",
            "model": "none",
            "task": {"train": "none.tsv", "text": ["text"], "label": "label", "metric": "accuracy"},
            "objectives": [
                {"name": "accuracy", "reference": 0.5, "ideal": 1.0},
                {"name": "trainable_params", "reference": 1e6, "ideal": 100.0, "floor": 100.0},
            ],
            "budget": {"trials": _TRIALS},
            "confirm": {"seeds": 3, "points": 8},
        }
    )
    costs = 10 ** rng.uniform(2.5, 5.9, _TRIALS)
    true = 0.92 - 0.3 * np.exp(2.5 - np.log10(costs)) - rng.exponential(0.02, _TRIALS)
    trials = pd.DataFrame(
        {
            "trial": range(_TRIALS),
            "status": "complete",
            "accuracy": true + deviation * rng.normal(size=_TRIALS),
            "trainable_params": costs,
            "feasible": True,
        }
    )
    trials["on_search_front"] = trials["on_front"] = search_front(sweep.objectives, trials)
    return SweepTables(Path(), sweep, trials, pd.DataFrame(), empty_confirmations(), {}), true


def confirm(results: SweepTables, true: Array, deviation: float, is_by_need: bool) -> SweepTables:
    """Return the results with the runs of a confirmation."""
    runs: list[RunKey] = []
    if not is_by_need:
        seeds = range(results.sweep.confirm.seeds)
        runs = [RunKey(t, report_seed(results.sweep.seed, k)) for k in seeds for t in chosen_points(results)]
    done = _with_runs(results, true, deviation, runs)
    while is_by_need and (missing := plan_confirmation(done, runs).runs):
        runs += missing
        done = _with_runs(results, true, deviation, runs)
    front = reported_front(done.objectives, done.trials, done.confirmations)
    return replace(done, trials=done.trials.assign(on_front=front))


def _with_runs(results: SweepTables, true: Array, deviation: float, runs: Sequence[RunKey]) -> SweepTables:
    rows = [
        {
            "trial": run.trial,
            "seed": run.seed,
            "elapsed": 1.0,
            "metric.accuracy": true[run.trial] + deviation * np.random.default_rng([*run]).normal(),
        }
        for run in runs
    ]
    return replace(results, confirmations=pd.DataFrame(rows) if rows else empty_confirmations())


def judge(results: SweepTables, true: Array) -> tuple[float, ...]:
    """Return the numbers of `COLUMNS` from the hypervolume on."""
    trials = results.trials.assign(accuracy=true)
    best = replace(results, trials=trials).search_hypervolume
    kept = replace(results, trials=trials[trials["on_front"]]).search_hypervolume
    ideal = search_front(results.objectives, trials)
    found = estimates("accuracy", results.trials, results.confirmations)
    found = found[found.index.isin(trials.loc[trials["on_front"], "trial"])]
    top = int(found.idxmax())
    is_on_front = trials["on_front"].to_numpy(dtype=bool)
    return (
        best - kept,
        abs(float(found[top] - true[top])),
        float(true.max() - true[top]),
        float((is_on_front & ~ideal).sum()),
        float((ideal & ~is_on_front).sum()),
        float(len(results.confirmations)),
    )


def compare(sweeps: int) -> list[tuple[str, ...]]:
    """Return mean ± standard error over made-up sweeps, one row per noise and allocation."""
    rows = []
    for deviation in _DEVIATIONS:
        for is_by_need in (False, True):
            numbers = []
            for seed in range(sweeps):
                results, true = searched(np.random.default_rng(seed), deviation)
                numbers.append(judge(confirm(results, true, deviation, is_by_need), true))
            means, errors = np.mean(numbers, axis=0), np.std(numbers, axis=0, ddof=1) / np.sqrt(sweeps)
            cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(means[:3], errors[:3], strict=True)]
            cells += [f"{m:.2f}" for m in means[3:]]
            rows.append((f"{deviation}", "by need" if is_by_need else "equal", *cells))
    return rows


def main() -> None:
    """Compare the allocations."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweeps", type=int, default=60)
    parser.add_argument("--write", action="store_true", help="store the table among the results")
    given = parser.parse_args()
    found = compare(given.sweeps)
    for row in (COLUMNS, *found):
        print(" | ".join(row))
    if given.write:
        from benchmarks.result_files import Table, store

        caption = (
            f"{given.sweeps} made-up searches of {_TRIALS} trials, mean ± standard error. Noise: standard deviation "
            "of the accuracy between seeds. The lost hypervolume is a share of the box, the other errors are in "
            "accuracy; points are counted per sweep."
        )
        store("noise", {"confirmation": Table(caption, COLUMNS, tuple(found))})


if __name__ == "__main__":
    main()
