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
`--fill` trains all of them, else searches train what they need. A source is a sweep in a folder of DIR. A search of a
target has the sampler and the first trials of its sweep, in a study in memory; DIR/searches.jsonl keeps its result.

Hypervolume is of accuracy on validation data and the logarithm of the trainable parameters, between the bounds that
a sweep derives: the accuracy of the majority class and the largest adapter of the space.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from autotune.engine.samplers import make_sampler
from autotune.engine.start import prepare_start
from autotune.engine.sweep_run import run_sweep
from autotune.results.sweep_tables import read_tables
from autotune.sampler.sources import SourceTrials, first_configurations
from autotune.sweep.schema import Sweep
from benchmarks.result_files import store, this_run
from benchmarks.run_cache import environment
from benchmarks.transfer_tables import (
    Search,
    agreement_table,
    transfer_table,
    trust_of,
    trust_table,
    volume_of,
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
from trials.records import TrialSpec

PAGE = "transfer"
CHOSEN_ON = 8
"""Seeds below this one took part in the choice of rules (`benchmarks/notes/transfer.md`)."""
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


def run_source(seed: int, out: Path, table: TrialTable, setting: Setting) -> None:
    """Run the source sweep with a seed in its folder, unless it is finished."""
    if not (source_folder(out, seed) / "report.html").exists():
        executor = TableExecutor(table, SOURCE, setting)
        run_sweep(sweep_of(SOURCE, seed, setting), source_folder(out, seed), executor=executor)


def search(arm: str, task: str, seed: int, out: Path, table: TrialTable, setting: Setting) -> Search:
    """Run a search of a target: the sampler and the first trials of its sweep, in a study in memory."""
    before = time.process_time()
    sweep = arm_sweep(arm, task, seed, out, setting)
    start = prepare_start(sweep, out / f"{arm}-{task}-{seed}")
    prepared, sources = start.prepared, [each.for_sampler for each in start.search.sources]
    objectives = prepared.sweep.objectives
    study = optuna.create_study(
        directions=[objective.direction for objective in objectives], sampler=make_sampler(prepared, sources)
    )
    for first in start.search.first:
        study.enqueue_trial(dict(first.config))
    values: list[list[float]] = []
    executor = TableExecutor(table, task, setting)
    executor.start(prepared.sweep.model, prepared.sweep.task)
    for _ in range(setting.trials):
        trial = study.ask()
        config = prepared.space.suggest(trial)
        values.append(prepared.values(config, executor.run(TrialSpec(config))))
        study.tell(trial, values[-1])
    executor.stop()
    volumes = tuple(volume_of(objectives, np.array(values[:n])) for n in range(1, len(values) + 1))
    seconds = time.process_time() - before
    return Search(arm, task, seed, volumes, trust_of(study.trials), round(seconds, 1), **environment())


def load(out: Path) -> list[Search]:
    """Return the finished searches of a folder."""
    path = out / "searches.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [Search.from_json(json.loads(line)) for line in lines]


def paired(found: list[Search]) -> list[Search]:
    """Return the searches of the seeds that have all arms on all targets."""
    arms = {(each.arm, each.task) for each in found}
    counts = Counter(each.seed for each in found)
    return [each for each in found if counts[each.seed] == len(arms)]


def run(given: argparse.Namespace, table: TrialTable, setting: Setting) -> None:
    """Run what is missing in the folder."""
    for seed in given.seeds if given.arms else ():
        run_source(seed, given.out, table, setting)
        done = {(each.arm, each.task, each.seed) for each in load(given.out)}
        for arm, task in itertools.product(given.arms, TARGETS):
            if (arm, task, seed) in done:
                continue
            found = search(arm, task, seed, given.out, table, setting)
            with (given.out / "searches.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found)) + "\n")
            print(f"{arm} {task} {seed}: {found.seconds:.0f} s of processor time", flush=True)


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
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    setting = Setting(Path(os.environ.get("AUTOTUNE_DATA", "../shared/data")).resolve(), minilm())
    out, table = given.out, TrialTable(given.out / "trials.jsonl", setting)
    if given.fill:
        fill(table, setting)
    run(given, table, setting)
    found = paired([each for each in load(out) if each.seed in given.seeds])
    configs = configurations(setting)
    tables = {"agreement": agreement_table(table, configs, setting)}
    if found:
        tables |= {"transfer": transfer_table(found, table, configs, setting), "trust": trust_table(found)}
    if later := [each for each in found if each.seed >= CHOSEN_ON]:
        tables["later-seeds"] = transfer_table(later, table, configs, setting)
    for each in tables.values():
        print(f"\n{each.as_markdown()}\n\n{each.caption}")
    if given.write:
        made = replace(this_run(), commit=", ".join(dict.fromkeys(each.commit for each in found)))
        store(PAGE, tables, made)


if __name__ == "__main__":
    main()
