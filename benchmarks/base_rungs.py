"""Predictions of the top rung by lower rungs: smaller base models and shares of the data, on the built-in sweep.

    python -m benchmarks.base_rungs --trials 24

The smaller base models are the built-in sweep's own without its upper layers; they were not trained separately. The
same random configurations are promoted on each ladder, all of them to the top, whatever their ranking.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from autotune.engine.sweep_run import run_sweep
from autotune.ladder.spec import LadderSpec
from autotune.ledger.folder_reader import FolderReader
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.budget_spec import Budget
from autotune.sweep.confirm_spec import Confirm
from autotune.sweep.executor_spec import ExecutorSpec
from autotune.sweep.sweep_file import load_sweep
from trials.records import Fidelity

LAYERS = ("25%", "50%")
"""The shares of the four layers of the built-in base model."""


@dataclass(frozen=True)
class Foretelling:
    """What a rung said of the accuracy at the top.

    Args:
        rung: what it is.
        spent: its training FLOPs, of those of the trials in full.
        correlation: Spearman's, of the accuracy there with the one at the top.
        kept: of the best quarter at the top, the share in the better half there.
        shift: the median of the accuracy there less that at the top.
        trials: that reached the top.
    """

    rung: str
    spent: float
    correlation: float
    kept: float
    shift: float
    trials: int


def promotion(spec: LadderSpec, trials: int, samples: int, folder: Path, seed: int = 0) -> SweepTables:
    """Return the built-in sweep with random configurations that are all promoted."""
    sweep = load_sweep("quickstart")
    changes = {
        "ladder": spec.model_copy(update={"random_share": 1.0, "first_rung": {}}),
        "sampler": "random",
        "seed": seed,
        "budget": Budget(trials=trials),
        "fidelity": Fidelity(train_samples=samples, evaluations=1),
        "confirm": Confirm(seeds=0),
        "executor": ExecutorSpec(),
    }
    return run_sweep(sweep.model_copy(update=changes), folder)


def predicted(results: SweepTables) -> list[Foretelling]:
    """Each rung below the top, the lowest first."""
    assert results.ladder is not None
    rows = []
    for trial in FolderReader(results.folder, results.sweep).trials():
        records = trial.user_attrs.get("rungs", [])
        if trial.values is None or len(records) < len(results.ladder.shares) - 1:
            continue
        before = 0.0
        for record in records:
            score = record["result"]["metrics"]["accuracy"]
            rows.append((record["rung"], record["share"] - before, score, trial.values[0]))
            before = record["share"]
    table = pd.DataFrame(rows, columns=["rung", "spent", "here", "top"])
    found = []
    for rung, group in table.groupby("rung"):
        here, top = group["here"].to_numpy(), group["top"].to_numpy()
        best = np.argsort(-top, kind="stable")[: max(len(top) // 4, 1)]
        better = set(np.argsort(-here, kind="stable")[: len(here) // 2].tolist())
        found.append(
            Foretelling(
                rung=results.ladder.words[int(rung)],
                spent=float(group["spent"].mean()),
                correlation=float(spearmanr(here, top).statistic),
                kept=float(np.mean([i in better for i in best.tolist()])),
                shift=float(np.median(here - top)),
                trials=len(group),
            )
        )
    return found


def measure(trials: int, samples: int, folder: Path, seed: int = 0) -> list[Foretelling]:
    """Rungs of bases, then rungs of the data of about the same cost."""
    specs = {"base": LadderSpec(of="base", bases=LAYERS), "data": LadderSpec(of="data", min=0.25)}
    return [
        row
        for name, spec in specs.items()
        for row in predicted(promotion(spec, trials, samples, folder / name, seed))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--samples", type=int, default=1600, help="examples an epoch")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(given.trials, given.samples, Path(folder), given.seed)
    print("| rung | FLOPs | rank correlation | best quarter kept | accuracy there less at the top | trials |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.rung} | {100 * row.spent:.0f} % | {row.correlation:.2f} | {100 * row.kept:.0f} % | "
            f"{100 * row.shift:+.1f} points | {row.trials} |"
        )


if __name__ == "__main__":
    main()
