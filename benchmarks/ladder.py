"""The ladder on tables of real learning curves, against full evaluation, ASHA and Hyperband.

    python -m benchmarks.ladder [--seeds 10] [--configs 1000] [--tables NAME ...] [--json FILE]

Every method meets the same configurations in the same order, drawn from a table by the seed, and stops where they
end. A table holds validation losses of one task at 50 checkpoints (TaskSet, 1,000 configurations of an optimizer),
or training losses of 63 adapters at 20 checkpoints (the PEFT comparison on MetaMathQA). Reported are

* the share used: checkpoints computed, of those that training everything to the end would take;
* the regret: how far the final loss of the best configuration trained to the end is above the best of all the
  configurations drawn, relative to it; and the same at the moment when 15 % of the full budget was used.

The pruners are optuna's, told every checkpoint, with the ladder's lowest rung and reduction factor. "ASHA, promoting"
is asynchronous successive halving as published (Li et al. 2020): our ladder without curves and random share.
The tables are read from $AUTOTUNE_DATA, or from ../shared/data beside the project.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table as Printed

from autotune.blackbox.objectives import Budget
from autotune.blackbox.optimization import optimize
from autotune.ladder.rungs import Ladder

Array = NDArray[np.float64]
DATA = Path(os.environ.get("AUTOTUNE_DATA") or Path(__file__).parents[2] / "shared" / "data")
MARK = 0.15
"""The share of the full budget at which regret is read off."""


@dataclass(frozen=True)
class Curves:
    """One table.

    Args:
        name: for the output.
        losses: shape [n, T], after each checkpoint; not finite where training had diverged.
        ladder: rungs in checkpoints.
    """

    name: str
    losses: Array
    ladder: Ladder

    def drawn(self, count: int, seed: int) -> Curves:
        """`count` of the configurations in an order of the seed's."""
        order = np.random.default_rng(seed).permutation(len(self.losses))[:count]
        return replace(self, losses=self.losses[order])

    @property
    def final(self) -> Array:
        """Shape [n]: final losses, inf where there is none."""
        return np.where(np.isfinite(self.losses).all(axis=1), self.losses[:, -1], np.inf)


@dataclass(frozen=True)
class Run:
    """What a method did: `used` checkpoints so far and the final loss, each time one was trained to the end."""

    finished: list[tuple[float, float]]
    used: float

    def measure(self, table: Curves) -> dict[str, float]:
        full, best = table.losses.size, float(table.final.min())
        early = [loss for used, loss in self.finished if used <= MARK * full]
        return {
            "share": self.used / full,
            "regret": min(loss for _, loss in self.finished) / best - 1,
            "regret at 15 %": (min(early) / best - 1) if early else float("nan"),
        }


class InOrder(optuna.samplers.BaseSampler):
    """Proposes the row of the trial's number."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> int:
        return trial.number


def on_the_ladder(table: Curves, seed: int, **changes: Any) -> Run:
    """Our ladder."""
    finished: list[tuple[float, float]] = []
    used = 0.0

    def evaluate(config: dict[str, Any], fidelity: float, state: int | None) -> tuple[dict[str, Any], int]:
        nonlocal used
        start, row = state or 0, table.losses[config["row"]]
        used += fidelity - start
        steps = range(start + 1, int(fidelity) + 1)
        if not np.isfinite(row[start : int(fidelity)]).all():
            raise FloatingPointError("diverged")
        if fidelity == table.ladder.max:
            finished.append((used, float(row[-1])))
        return {"loss": {step: float(row[step - 1]) for step in steps}}, int(fidelity)

    n = len(table.losses)
    rows = {"row": IntDistribution(0, n - 1)}
    ladder = replace(table.ladder, **changes)
    optimize(evaluate, rows, ["loss"], ladder, Budget(trials=n), sampler=InOrder(), seed=seed)
    return Run(finished, used)


def pruning(table: Curves, pruner: optuna.pruners.BasePruner) -> Run:
    """Optuna's way: train until the pruner objects; a pruned trial does not come back."""
    study = optuna.create_study(sampler=InOrder(), pruner=pruner)
    finished: list[tuple[float, float]] = []
    used = 0
    for row in table.losses:
        trial = study.ask()
        for step, loss in enumerate(row, start=1):
            used += 1
            if not np.isfinite(loss):
                study.tell(trial, state=TrialState.FAIL)
                break
            trial.report(float(loss), step)
            if step < len(row) and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(row[-1]))
            finished.append((used, float(row[-1])))
    return Run(finished, used)


def asha(table: Curves, seed: int) -> Run:
    low, eta = int(table.ladder.min), int(table.ladder.eta)
    return pruning(table, optuna.pruners.SuccessiveHalvingPruner(min_resource=low, reduction_factor=eta))


def hyperband(table: Curves, seed: int) -> Run:
    low, high, eta = int(table.ladder.min), int(table.ladder.max), int(table.ladder.eta)
    return pruning(
        table, optuna.pruners.HyperbandPruner(min_resource=low, max_resource=high, reduction_factor=eta)
    )


def everything(table: Curves, seed: int) -> Run:
    return pruning(table, optuna.pruners.NopPruner())


METHODS: dict[str, Callable[[Curves, int], Run]] = {
    "full evaluation": everything,
    "ASHA (optuna)": asha,
    "Hyperband (optuna)": hyperband,
    "ASHA, promoting": lambda table, seed: on_the_ladder(table, seed, random_share=0.0, close=(0.0, 0.0)),
    "ladder": on_the_ladder,
}


def read_tables(folder: Path = DATA) -> list[Curves]:
    """The tables of a folder.

    Raises:
        FileNotFoundError: there are none.
    """
    files = sorted((folder / "taskset").glob("*.parquet"))
    if not files:
        raise FileNotFoundError(
            f"no tables in {folder}; set AUTOTUNE_DATA to a folder with taskset/*.parquet"
        )
    found = []
    for file in files:
        frame = pd.read_parquet(file)
        losses = frame[[f"loss_{step:02d}" for step in range(1, 51)]].to_numpy(float)
        found.append(Curves(file.stem, losses, Ladder(2, 50, eta=3)))
    adapters = folder / "peft_metamathqa" / "curves.csv"
    if adapters.is_file():
        # The last line of a run repeats its last step, with the test's results.
        frame = pd.read_csv(adapters).drop_duplicates(["experiment", "step"])
        frame = frame.pivot(index="experiment", columns="step", values="train_loss")
        found.append(Curves("peft_metamathqa", frame.to_numpy(float)[:, -20:], Ladder(2, 20, eta=3)))
    return found


def summary(rows: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over seeds of each measure; NaN where a seed has none."""
    return {
        name: (
            float(np.mean([row[name] for row in rows])),
            float(np.std([row[name] for row in rows], ddof=len(rows) > 1)),
        )
        for name in rows[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--configs", type=int, default=1000)
    parser.add_argument("--tables", nargs="*", default=[""], help="parts of the names of tables")
    parser.add_argument("--methods", nargs="*", default=[""], help="parts of the names of methods")
    parser.add_argument("--json", type=Path, default=None, help="write every run there as well")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for table in read_tables():
        if not any(part in table.name for part in options.tables):
            continue
        for name, method in METHODS.items():
            if not any(part in name for part in options.methods):
                continue
            drawn = [table.drawn(options.configs, seed) for seed in range(options.seeds)]
            runs = [method(t, seed).measure(t) for seed, t in enumerate(drawn)]
            found.setdefault(table.name, {})[name] = runs
            print(table.name, name, summary(runs), flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=2) + "\n")
    Console(width=118).print(_printed(found))


def _printed(found: dict[str, dict[str, list[dict[str, float]]]]) -> Printed:
    table = Printed(title="mean ± standard deviation over seeds, in %")
    for column in ("table", "method", "share used", "regret", "regret at 15 %", "within 1 % at 15 %"):
        table.add_column(column, justify="left" if column in ("table", "method") else "right")
    for name, methods in found.items():
        for method, runs in methods.items():
            cells = [f"{100 * mean:.2f} ± {100 * sd:.2f}" for mean, sd in summary(runs).values()]
            near = sum(run["regret at 15 %"] <= 0.01 for run in runs)
            table.add_row(name, method, *cells, f"{near} of {len(runs)} seeds")
        table.add_section()
    return table


if __name__ == "__main__":
    main()
