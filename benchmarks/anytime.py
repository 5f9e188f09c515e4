"""Hypervolume over wall time: sweeps of this project against Optuna's samplers with Trainer, on three data sets.

    python -m benchmarks.anytime --out DIR [--data-sets sst2 cr trec] [--seeds 0 1 2] [--minutes 10] [--write]

Model, space, examples and arms are those of `benchmarks.time_to_front`: adapters for all-MiniLM-L6-v2 with accuracy
on validation data and trainable parameters as objectives. Hypervolume is of (1 - accuracy, log10 parameters) against
the corner (0.5, 6), for the six classes of TREC (0.8, 6), and is shown as a share of that of all trials of all arms
and seeds on the same data set. Minutes count from loading the first model; with `--clock cpu` they are processor
minutes, which other programs on the machine change less. Scores are those that a search sees, on validation data: an
arm with more trials has more chances of a high one.

Each arm and seed writes its trials to DIR/DATA SET/ARM-SEED.json as it runs, and does not run again once complete.
`--arms` without names only reports.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import time_to_front
from benchmarks.front_records import ARMS, Record, losses, reference_volume
from benchmarks.result_files import Table, store
from benchmarks.time_to_front import Setting, run_arm

PAGE = "anytime"
CORNERS = {"sst2": (0.5, 6.0), "cr": (0.5, 6.0), "trec": (0.8, 6.0)}
"""The reference point by data set: an accuracy that a constant answer does not reach by much, and 10⁶ parameters."""
_MANY = 10_000
"""Trials that no arm reaches within its minutes."""


def setting(data_set: str, arguments: argparse.Namespace) -> Setting:
    """Return what all arms share on a data set.

    Raises:
        SystemExit: The model or the data are not there.
    """
    few = ["--out=", f"--minutes={arguments.minutes}", f"--trials={_MANY}", f"--workers={arguments.workers}"]
    sizes = [f"--samples={arguments.samples}", f"--eval-samples={arguments.eval_samples}"]
    sizes += [f"--threads={arguments.threads}", "--hand-workers=1"]
    shared = time_to_front.setting(time_to_front.parser().parse_args([*few, *sizes]))
    folder = Path(os.environ.get("AUTOTUNE_DATA", "../shared/data")) / data_set
    if not (folder / "train.tsv").is_file():
        raise SystemExit(f"no {folder}/train.tsv; set AUTOTUNE_DATA to the folder of the data")
    files = {split: str(folder / f"{split}.tsv") for split in ("train", "validation", "test")}
    sweep = {**shared.sweep, "task": {**shared.sweep["task"], **files}, "name": data_set, **arguments.sweep}
    return replace(shared, sweep=sweep, corner=CORNERS[data_set])


def shares(
    record: Record, corner: Sequence[float], reference: float, minutes: Sequence[float], clock: str = "wall"
) -> list[float]:
    """Return the share of the reference hypervolume after each number of minutes of a clock, `wall` or `cpu`."""
    return [reference_volume([until(record, 60.0 * minute, clock)], corner) / reference for minute in minutes]


def until(record: Record, seconds: float, clock: str = "wall") -> Record:
    """Return the record with the trials that ended within so many seconds."""
    return replace(record, trials=[trial for trial in record.trials if getattr(trial, clock) <= seconds])


def table(
    records: Mapping[str, Sequence[Record]],
    minutes: Sequence[float],
    caption: str,
    clock: str = "wall",
    by_data_set: bool = False,
) -> Table:
    """Return one row per arm: the mean share over data sets and seeds after each minute.

    Args:
        records: The records by data set.
        minutes: The minutes.
        caption: The caption.
        clock: What minutes are of, `wall` or `cpu`.
        by_data_set: Whether each data set has its own rows.
    """
    found: dict[tuple[str, str], list[list[float]]] = {}
    trials: dict[tuple[str, str], list[int]] = {}
    for data_set, made in records.items():
        reference = reference_volume(made, CORNERS[data_set])
        for record in made:
            key = data_set if by_data_set else "all", record.arm
            found.setdefault(key, []).append(shares(record, CORNERS[data_set], reference, minutes, clock))
            trials.setdefault(key, []).append(len(losses(until(record, 60.0 * minutes[-1], clock).trials)))
    rows = []
    for data_set, arm in sorted(found, key=lambda key: (key[0], list(ARMS).index(key[1]))):
        runs = found[data_set, arm]
        count = f"{np.mean(trials[data_set, arm]):.0f}"
        cells = [_cell([run[i] for run in runs]) for i in range(len(minutes))]
        rows.append((data_set, f"`{arm}`", str(len(runs)), count, *cells))
    columns = ("data", "arm", "runs", "trials", *(f"{minute:g} min" for minute in minutes))
    return Table(caption, columns, tuple(rows))


def _cell(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}"


def result_tables(records: Mapping[str, Sequence[Record]], arguments: argparse.Namespace) -> dict[str, Table]:
    """Return the tables `mean` and `data-sets`."""
    minutes = arguments.at or list(range(1, max(int(arguments.minutes), 1) + 1))
    made = [record for each in records.values() for record in each]
    seeds = sorted({record.seed for record in made})
    about = (
        f"{arguments.samples} + {arguments.eval_samples} sentences, seeds {', '.join(map(str, seeds))}, "
        f"{arguments.threads} thread(s) per arm; minutes of {'processor' if arguments.clock == 'cpu' else 'wall'} "
        "time; mean ± standard error over the runs; `trials`: complete trials per run; higher is better."
    )
    if unfinished := [f"{record.arm}-{record.seed}" for record in made if not record.complete]:
        about += f" Not complete: {', '.join(unfinished)}."
    caption = f"Share of the reference hypervolume. {about}"
    return {
        name: table(records, minutes, caption, arguments.clock, by_data_set)
        for name, by_data_set in (("mean", False), ("data-sets", True))
    }


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="where trials are kept")
    parser.add_argument("--data-sets", choices=CORNERS, nargs="+", default=list(CORNERS))
    parser.add_argument("--arms", choices=ARMS, nargs="*", default=["gp", "tpe", "packed"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=10.0, help="of an arm with a seed")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="of the minutes in the tables"
    )
    parser.add_argument("--at", type=float, nargs="+", help="minutes in the tables; by default 1, 2, …")
    parser.add_argument("--samples", type=int, default=1000, help="training examples of an epoch")
    parser.add_argument("--eval-samples", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="trials of a pack")
    parser.add_argument(
        "--sweep",
        type=json.loads,
        default={},
        help='further keys of the sweeps, as JSON: \'{"sampler": "pareto"}\'',
    )
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    os.environ["AUTOTUNE_PREFIX_CACHE"] = "0"  # arms and seeds take nothing from each other
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for seed in arguments.seeds:
        for data_set in arguments.data_sets:
            folder = arguments.out / data_set
            folder.mkdir(parents=True, exist_ok=True)
            for arm in arguments.arms:
                record = run_arm(arm, seed, setting(data_set, arguments), folder)
                print(f"{data_set}, {arm}, seed {seed}: {len(record.trials)} trials", flush=True)
    records = {
        data_set: [Record.load(path) for path in sorted((arguments.out / data_set).glob("*-*.json"))]
        for data_set in arguments.data_sets
    }
    tables = result_tables({name: made for name, made in records.items() if made}, arguments)
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in tables.values()))
    if arguments.write:
        store(PAGE, tables)


if __name__ == "__main__":
    main()
