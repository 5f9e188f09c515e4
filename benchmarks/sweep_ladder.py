"""A sweep on the ladder against the same sweep without: the built-in quickstart, trained in this process.

python -m benchmarks.sweep_ladder --seeds 3 --json ladder.json

Three arms for each seed: `full` trains every trial to its end; `ladder` has as many trials; `same training` is the
ladder with as many training FLOPs as `full` spent. Scores are those of the search, which chooses by them: nothing is
confirmed here, so an arm with more trials at the top has more luck.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from autotune.engine.sweep_run import run_sweep
from autotune.ladder.spec import LadderSpec
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.budget_spec import Budget
from autotune.sweep.confirm_spec import Confirm
from autotune.sweep.executor_spec import ExecutorSpec
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import load_sweep

ARMS = ("full", "ladder", "same training")


def sweep_of(arm: str, seed: int, trials: int, flops: float) -> Sweep:
    """The quickstart for one arm."""
    budget = Budget(flops=flops) if arm == "same training" else Budget(trials=trials)
    changes = {
        "ladder": None if arm == "full" else LadderSpec(),
        "seed": seed,
        "budget": budget,
        "confirm": Confirm(seeds=0),
        "executor": ExecutorSpec(),
    }
    return load_sweep("quickstart").model_copy(update=changes)


def measure(results: SweepTables) -> dict[str, Any]:
    """The figures of one sweep."""
    trials = results.trials
    trained = trials[trials["share"].notna()]
    ladder = results.ladder
    return {
        "trials": len(trained),
        "complete": int((trials["status"] == "complete").sum()),
        "train_seconds": float(trained["cost.train_seconds"].sum()),
        "seconds": float(trained["seconds"].sum()),
        "flops": float((trained["cost.train_flops"] * trained["share"]).sum()),
        "hypervolume": results.search_hypervolume,
        "best": float(trials["accuracy"].max()),
        "front": len(results.front),
        "reached": list(ladder.reached) if ladder is not None else [],
        "used": ladder.used if ladder is not None else 1.0,
        "measured": [(rung.count, rung.correlation) for rung in ladder.trust.rungs] if ladder else [],
    }


def run(seeds: int, trials: int, arms: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every arm for every seed, one row each."""
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        flops = math.inf
        for arm in arms:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(run_sweep(sweep_of(arm, seed, trials, flops), Path(folder) / "sweep"))
            flops = found["flops"] if arm == "full" else flops
            rows.append({"arm": arm, "seed": seed, **found})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, an arm a row."""
    names = ("trials", "complete", "train_seconds", "flops", "hypervolume", "best")
    lines = ["| arm | " + " | ".join(names) + " |", "| --- " * (1 + len(names)) + "|"]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        cells = []
        for name in names:
            values = np.array([row[name] for row in mine], dtype=float)
            spread = f" ± {values.std(ddof=1):.3g}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.4g}{spread}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=26)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--json", type=Path, help="keep every run in this file")
    given = parser.parse_args()
    rows = run(given.seeds, given.trials, tuple(given.arms))
    print(table(rows))
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
