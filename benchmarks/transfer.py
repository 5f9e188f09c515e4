"""Transfer between sweeps on real text: trials to 90 % of the reference hypervolume, from a related and another task.

    python -m benchmarks.transfer --out DIR [--seeds 0 1 2] [--arms cold front start] [--fill] [--write]

Adapters of four families for all-MiniLM-L6-v2. The source is a sweep on SST-2 (sentiment of film reviews); the
targets are CR (sentiment of customer reviews, related) and TREC (type of a question, unrelated). Arms on a target,
whose seed is also that of their source:

* `cold`: a sweep that starts from nothing.
* `front`: the same with the source's front as its `try`.
* `start`: the same with the source's folder as its `start_from`.

The space has 144 configurations. Each is trained once per task; a sweep that proposes it again, in another arm or
with another seed, reads the result from the table DIR/trials.jsonl (`benchmarks.transfer_trials`). So arms and seeds
differ in what they propose and not in the noise of training, and the reference is the front of all configurations.
`--fill` trains all of them, else sweeps train what they need. Every sweep runs in a folder of DIR, and resumes there.

Hypervolume is of accuracy on validation data and the logarithm of the trainable parameters, between the bounds that
a sweep derives: the accuracy of the majority class and the largest adapter of the space.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autotune.engine.sweep_run import run_sweep
from autotune.results.sweep_tables import read_tables
from autotune.sampler.sources import SourceTrials, first_configurations
from autotune.sweep.schema import Sweep
from benchmarks.processor import processor_seconds
from benchmarks.result_files import store
from benchmarks.run_cache import environment
from benchmarks.transfer_tables import (
    Search,
    Trust,
    agreement_table,
    search_of,
    transfer_table,
    trust_of,
    trust_table,
)
from benchmarks.transfer_trials import (
    SOURCE,
    TARGETS,
    Setting,
    TableExecutor,
    TrialTable,
    configurations,
    fill,
    minilm,
    sweep_of,
)
from search_spaces.parameters.types import Configuration

PAGE = "transfer"
TRIES = 6
"""Configurations of the source's front that the arm `front` trains first."""


def source_folder(out: Path, seed: int) -> Path:
    """Return the folder of the source sweep with a seed."""
    return out / f"source-{SOURCE}-{seed}"


def source_front(folder: Path) -> list[Configuration]:
    """Return configurations of the front of a finished sweep, cheapest first."""
    results = read_tables(folder)
    trials = results.trials[results.trials["status"] == "complete"]
    values = trials[[objective.name for objective in results.objectives]].to_numpy(float)
    source = SourceTrials(name=SOURCE, configs=trials["config"].tolist(), values=values)
    directions = [objective.direction for objective in results.objectives]
    return first_configurations([source], TRIES, directions=directions)


CHANGES: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "cold": lambda source: {},
    "front": lambda source: {"try": source_front(source)},
    "start": lambda source: {"start_from": [str(source)]},
}
"""By arm, what its sweep file has beside that of `cold`, given the folder of the source."""


def arm_sweep(arm: str, task: str, seed: int, out: Path, setting: Setting) -> Sweep:
    """Return the sweep of an arm on a target."""
    return sweep_of(task, seed, setting, **CHANGES[arm](source_folder(out, seed)))


def run(name: str, task: str, sweep: Sweep, out: Path, table: TrialTable, setting: Setting) -> None:
    """Run a sweep in its folder unless it is finished, and record what it took."""
    folder, record = out / f"{name}-{task}-{sweep.seed}", out / "runs.jsonl"
    if (folder / "report.html").exists():
        return
    before, trained = processor_seconds(), len(table)
    results = run_sweep(sweep, folder, executor=TableExecutor(table, task, setting))
    entry = {
        "folder": folder.name,
        "trained": len(table) - trained,
        "cpu": processor_seconds() - before,
        "load": os.getloadavg()[0],
        "notes": list(results.notes),
        **environment(),
    }
    with record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    print(f"{folder.name}: {len(results.trials)} trials, {entry['cpu']:.0f} s of processor time", flush=True)


def searches(out: Path, seeds: list[int]) -> list[Search]:
    """Return the finished searches of the targets in a folder."""
    return [
        search_of(arm, task, seed, folder)
        for task in TARGETS
        for arm in CHANGES
        for seed in seeds
        if ((folder := out / f"{arm}-{task}-{seed}") / "report.html").exists()
    ]


def trusts_of(out: Path, seeds: list[int]) -> list[Trust]:
    """Return how far the finished searches of the arm `start` relied on their sources."""
    folders = [(task, out / f"start-{task}-{seed}") for task in TARGETS for seed in seeds]
    finished = [(task, folder) for task, folder in folders if (folder / "report.html").exists()]
    return [trust for task, folder in finished if (trust := trust_of(task, folder)) is not None]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("--out", type=Path, required=True, help="folder of the table and the sweeps")
    found.add_argument("--arms", choices=CHANGES, nargs="*", default=list(CHANGES))
    found.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    found.add_argument("--fill", action="store_true", help="train every configuration on every task first")
    found.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    return found


def main() -> None:
    """Run what is missing in the folder, and print the tables."""
    given = parser().parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    setting = Setting(Path(os.environ.get("AUTOTUNE_DATA", "../shared/data")).resolve(), minilm())
    out, table = given.out, TrialTable(given.out / "trials.jsonl", setting)
    if given.fill:
        fill(table, setting)
    for seed in given.seeds if given.arms else []:
        run("source", SOURCE, sweep_of(SOURCE, seed, setting), out, table, setting)
        for arm in given.arms:
            for task in TARGETS:
                run(arm, task, arm_sweep(arm, task, seed, out, setting), out, table, setting)
    found, configs = searches(out, given.seeds), configurations(setting)
    tables = {
        "transfer": transfer_table(found, table, configs, setting),
        "agreement": agreement_table(table, configs, setting),
    }
    if trusts := trusts_of(out, given.seeds):
        tables["trust"] = trust_table(trusts)
    for each in tables.values():
        print(f"\n{each.as_markdown()}\n\n{each.caption}")
    if given.write:
        store(PAGE, tables)


if __name__ == "__main__":
    main()
