"""The command `python -m benchmarks.scale`; see `benchmarks/scale/__init__.py`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import benchmarks.scale
from autotune.engine.sweep_run import run_sweep
from autotune.formatting.units import duration
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.sweep.schema import Sweep
from benchmarks.processor import processor_seconds
from benchmarks.result_files import store, this_run
from benchmarks.scale.cases import BASES, CASES, EXAMPLES, Case
from benchmarks.scale.exports import at_the_law, compared_arms, scaled_point
from benchmarks.scale.grids import best_on_grid, grid_plans, rank_plans
from benchmarks.scale.laws import checked_laws, searched_names
from benchmarks.scale.runs import FinishedRun, RunPlan, read_runs, train_missing
from benchmarks.scale.tables import (
    ExportCheck,
    FrontPoint,
    LawCheck,
    export_table,
    front_table,
    law_table,
    required_table,
)

PAGE = "scale"


@dataclass(frozen=True)
class Searched:
    """A sweep of the benchmark.

    Args:
        name: The name in tables.
        folder: The name of its folder.
        grid: The case whose grid is its held-out scale.
        seed: The seed of the search.
    """

    name: str
    folder: str
    grid: str
    seed: int = 0

    @property
    def case(self) -> Case:
        """The case of the grid."""
        return CASES[self.grid]

    def sweep(self, trials: int) -> Sweep:
        """Return the sweep."""
        if self == BOTH:
            return self.case.sweep(trials, EXAMPLES, BASES, eval_samples=600)
        return self.case.sweep(trials, seed=self.seed)


BOTH = Searched("SST-2, two bases", "both", "sst2")
LONG = Searched(f"{CASES['cr-text'].name}, more trials", "cr-text-long", "cr-text")
SWEEPS = {
    BOTH.folder: BOTH,
    **{name: Searched(case.name, name, name) for name, case in CASES.items()},
    LONG.folder: LONG,
    **{
        f"{name}-1": Searched(f"{CASES[name].name}, second sweep", f"{name}-1", name, seed=1)
        for name in ("sst2-text", "cr-text", "trec-text")
    },
}


def main() -> None:
    """Run a part of the benchmark, or report all of it."""
    given = _parser().parse_args()
    before, seeds = processor_seconds(), range(given.seeds)
    sweeps = [SWEEPS[name] for name in given.cases]
    if given.part == "grid":
        _train_grids(given.runs, {searched.grid: searched.case for searched in sweeps})
    elif given.part == "sweep":
        for searched in sweeps:
            run_sweep(searched.sweep(given.trials), given.runs / searched.folder)
    elif given.part == "export":
        for searched in sweeps:
            _train_exports(given.runs, searched, seeds)
    elif given.part == "at-law":
        for searched in sweeps:
            results = read_tables(given.runs / searched.folder)
            point = at_the_law(results, scaled_point(searched.case, results))
            plans = [plan for plan in point.plans(seeds) if plan.arm == point.arm]
            path, case = _arms_file(given.runs, searched), searched.case
            train_missing(path, plans, case.model_spec(point.base), case.task_spec())
    else:
        _report(given.runs, sweeps, seeds, given.load if given.write else None)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{duration(processor_seconds() - before)} of processor time; load {load}")


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=(benchmarks.scale.__doc__ or "").splitlines()[0]
    )
    found.add_argument("part", choices=["grid", "sweep", "export", "at-law", "report"])
    found.add_argument("--runs", type=Path, default=Path("build/scale"), help="the folder of runs and sweeps")
    found.add_argument("--cases", nargs="+", choices=SWEEPS, default=list(SWEEPS), help="by default all")
    found.add_argument("--trials", type=int, default=30, help="of each sweep")
    found.add_argument("--seeds", type=int, default=6, help="of each exported point")
    found.add_argument("--write", action="store_true", help="store the tables of the page")
    found.add_argument("--load", default="1", help="of the machine during the runs, for --write: 9 to 15")
    return found


def _train_grids(folder: Path, cases: dict[str, Case]) -> None:
    for name, case in cases.items():
        path, is_both = _grid_file(folder, name), name == BOTH.grid
        plans = grid_plans(case, repeat_all=is_both)
        grid = train_missing(path, plans, case.model_spec(), case.task_spec())
        if is_both:
            rate = best_on_grid(grid, next(iter(searched_names(case)))).value
            train_missing(path, rank_plans(case, rate), case.model_spec(), case.task_spec())


def _train_exports(folder: Path, searched: Searched, seeds: range) -> None:
    case = searched.case
    point = scaled_point(case, read_tables(folder / searched.folder))
    print(f"{searched.name}: {point.examples} examples of {point.base}; " + "\n  ".join(point.reasons))
    path = _arms_file(folder, searched)
    train_missing(path, point.plans(seeds), case.model_spec(point.base), case.task_spec())


def _report(folder: Path, sweeps: Sequence[Searched], seeds: range, load: str | None) -> None:
    laws, exports, at_law = list[LawCheck](), list[ExportCheck](), list[ExportCheck]()
    for searched in sweeps:
        if not (folder / searched.folder).is_dir():
            continue
        case, results = searched.case, read_tables(folder / searched.folder)
        grid = [run for run in read_runs(_grid_file(folder, searched.grid)) if run.examples == case.held_out]
        laws += checked_laws(searched.name, case, results, grid)
        point = scaled_point(case, results)
        done = read_runs(_arms_file(folder, searched))
        for each, found in ((point, exports), (at_the_law(results, point), at_law)):
            plans = {plan.key: plan for plan in each.plans(seeds)}
            ended = [run for run in done if run.key in plans]
            paired = [run for run in ended if _has_both(run.seed, plans.values(), ended)]
            if len(paired) >= 2 * len({run.arm for run in paired}) > 0:
                found.append(compared_arms(searched.name, case, each, paired))
            else:
                print(f"{searched.name}: {len(ended)} of {len(plans)} runs of the arm {each.arm} have ended")
    points, caption = _front(read_tables(folder / BOTH.folder))
    tables = {
        "required": required_table(points, laws, exports),
        "front": front_table(points, caption),
        "laws": law_table(laws),
        "exports": export_table(exports),
        "at-law": export_table(at_law),
    }
    for table in tables.values():
        print(f"\n{table.as_markdown()}\n\n{table.caption}")
    if load is not None:
        setup = this_run()
        store(PAGE, tables, replace(setup, hardware=f"{setup.hardware} at a load of {load}"))


def _arms_file(folder: Path, searched: Searched) -> Path:
    return folder / f"arms-{searched.folder}.jsonl"


def _has_both(seed: int, plans: Iterable[RunPlan], done: Sequence[FinishedRun]) -> bool:
    """Return whether every planned run with a seed has ended."""
    return {plan.arm for plan in plans} <= {run.arm for run in done if run.seed == seed}


def _front(results: SweepTables) -> tuple[list[FrontPoint], str]:
    front = results.front
    points = [
        FrontPoint(
            str(row["param.model"]),
            int(row["param.train_samples"]),
            float(row["param.lora.learning_rate"]),
            int(row["param.batch_size"]),
            int(row["param.lora.rank"]),
            float(row["train_flops"]),
            float(row["eval_loss"]),
        )
        for _, row in front.iterrows()
    ]
    sweep = results.sweep
    caption = (
        f"Front of {len(results.trials)} trials of MiniLM-L6 and its lowest layer on SST-2, LoRA on the uppermost "
        f"layer, one epoch, seed {sweep.seed}; validation loss on {sweep.fidelity.eval_samples} sentences."
    )
    return points, caption


def _grid_file(folder: Path, name: str) -> Path:
    return folder / f"grid-{name}.jsonl"


if __name__ == "__main__":
    main()
