"""Time to the same front: the time until 95 % of the reference hypervolume is reached.

    python -m benchmarks.time_to_front --out DIR [--seeds 0 1 2] [--arms gp tpe …] [--quick] [--write]

Adapters for all-MiniLM-L6-v2 on SST-2: LoRA, (IA)³, norms and bottlenecks, with the training parameters. Objectives
are accuracy on validation data, as searched, and trainable parameters. Every arm has the same space, examples and
fidelity:

* `gp`, `tpe`: Optuna's GPSampler and multi-objective TPESampler, transformers.Trainer and peft, the model loaded
  for each trial, with Trainer's defaults (the base model's dropout is on). They receive the logarithm of the
  parameters. `--hand-workers` trials run at a time, each in a process with its part of the threads; the processes
  share one study.
* `default`: a sweep of this project that names neither an executor nor a precision.
* `plain`: a sweep of this project, one trial after another, without ladder and packs.
* `ladder`, `packed`, `both`: the same with either, and with both. With a ladder, `--ladder-times` as many trials
  may begin, as most stop early.
* `int8`, `plain8`: as `packed` and `plain`, with products in 8 bits (CPUs with VNNI).

The reference is the front of all trials of all arms and seeds in DIR, so it can move when there are more of them.
Hypervolume is of (1 - accuracy, log10 parameters) against the corner (0.5, 6). Clocks run from loading the first
model to the trial's end, including the sampler's time; imports and tokenization are excluded. Training FLOPs are
those of the cost model for what was trained: a trial stopped at a fifth counts a fifth. Hidden states are not kept
on disk, so that arms and seeds share nothing.

A hand-written arm may end earlier, at `--until` of the reference as DIR has it then, which must be above the shares
in the tables and leave room for a reference that grows: run it after the arms of this project. If the reference has
grown since, the same command continues with it. Where it ends before a share, the table says `>`.

Each arm and seed writes its trials to DIR/ARM-SEED.json as it runs. A complete arm does not run again; an
interrupted one resumes, and so does one that had fewer trials and minutes than are allowed now. `--write` stores
the tables of DIR in benchmarks/results/time-to-front.json; `--arms` without names runs nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.front_records import ARMS, BY_HAND, SHARE, Done, Record, reference_volume, table
from benchmarks.processor import processor_seconds
from benchmarks.result_files import Table, store

if TYPE_CHECKING:
    from autotune.sweep.schema import Sweep

ON_LADDER = ("ladder", "both")
PACKED = ("packed", "both", "int8")


@dataclass(frozen=True)
class Setting:
    """What all arms share.

    Args:
        sweep: of the arm `plain` with seed 0, as a mapping.
        corner: of the hypervolume.
        trials: of an arm without ladder.
        ladder_trials: those that may begin on a ladder.
        minutes: after which an arm ends.
        packs: the executor of the arms that pack.
        threads: of an arm, which its processes divide.
        hand_workers: trials at a time, and processes, of an arm by hand.
        hand_minutes: after which an arm by hand ends; by default as the others.
        until: the share of the reference hypervolume at which an arm by hand ends; by default none.
    """

    sweep: dict[str, Any]
    corner: tuple[float, float]
    trials: int
    ladder_trials: int
    minutes: float
    packs: str | dict[str, Any] = "packed"
    threads: int = 1
    hand_workers: int = 2
    hand_minutes: float | None = None
    until: float | None = None

    def minutes_of(self, arm: str) -> float:
        """Return the minutes after which an arm ends."""
        return self.minutes if self.hand_minutes is None or arm not in BY_HAND else self.hand_minutes


def setting(arguments: argparse.Namespace) -> Setting:
    """MiniLM on SST-2, or with --quick the built-in model and task."""
    from benchmarks.throughput import setting as minilm

    space: dict[str, Any] = {"families": ["lora", "ia3", "norm", "serial"]}
    space["parameters"] = {
        "lora.rank": {"low": 1, "high": 32},
        "lora.dora": False,
        "lora.dropout": 0.0,
        "lora.learning_rate": {"low": 3e-4, "high": 1e-2, "default": 2e-3},
        "ia3.learning_rate": {"low": 3e-3, "high": 5e-2, "default": 1e-2},
        "norm.learning_rate": {"low": 1e-3, "high": 3e-2, "default": 5e-3},
        "serial.learning_rate": {"low": 3e-4, "high": 1e-2, "default": 2e-3},
        "epochs": {"low": 1, "high": 3, "default": 2},
        "batch_size": [16, 32],
    }
    corner = (0.5, 6.0)
    if arguments.quick:
        model: dict[str, Any] = {"name": "builtin:pocket", "precision": "fp32"}
        task: dict[str, Any] = {"dataset": "builtin:docstrings", "text": "text", "label": "label"}
        task |= {"max_length": 40}
        corner = (0.95, 6.0)
    else:
        model_spec, task_spec = minilm("cpu", "fp32")
        model, task = model_spec.model_dump(), task_spec.model_dump(exclude_none=True)
    return Setting(
        sweep={
            "name": "time-to-front",
            "model": model,
            "task": {**task, "metric": "accuracy"},
            "space": space,
            "objectives": ["accuracy", "trainable_params"],
            "fidelity": {
                "train_samples": arguments.samples,
                "eval_samples": arguments.eval_samples,
                "evaluations": 1,  # as by hand: the ladder adds its own at its rungs
            },
            "confirm": {"seeds": 0},
        },
        corner=corner,
        trials=arguments.trials,
        ladder_trials=round(arguments.trials * arguments.ladder_times),
        minutes=arguments.minutes,
        packs={"name": "packed", "workers": arguments.workers, "processes": arguments.processes},
        threads=arguments.threads,
        hand_workers=arguments.hand_workers,
        hand_minutes=arguments.hand_minutes,
        until=arguments.until,
    )


class Clock:
    """Wall and processor seconds of an arm, its worker processes among them, going on from an earlier process's."""

    def __init__(self, record: Record) -> None:
        last = record.trials[-1] if record.trials else None
        self._wall = time.perf_counter() - (last.wall if last else 0.0)
        self._cpu = processor_seconds() - (last.cpu if last else 0.0)

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, processor_seconds() - self._cpu


def run_arm(arm: str, seed: int, given: Setting, out: Path) -> Record:
    """One arm with one seed, as far as it is not there already."""
    path = out / f"{arm}-{seed}.json"
    record = Record.load(path) if path.exists() else Record(arm, seed)
    others = [Record.load(each) for each in out.glob("*-*.json") if each != path]
    if not (record.complete and (spent(record, given) or is_far(record, given, others))):
        record.complete = False
        if arm in BY_HAND:
            by_hand(record, path, given, out)
        else:
            by_sweep(record, path, given, out)
        record.complete = True
        record.save(path)
    return record


def spent(record: Record, given: Setting) -> bool:
    """Whether a record has the trials or the minutes that are given now."""
    wanted = given.ladder_trials if record.arm in ON_LADDER else given.trials
    wall = record.trials[-1].wall if record.trials else 0.0
    # An arm ends with the trial in whose time the minutes are over, or that they would not have been enough for.
    return len({trial.number for trial in record.trials}) >= wanted or wall >= 0.8 * 60 * given.minutes_of(
        record.arm
    )


def sweep_of(arm: str, seed: int, given: Setting) -> Sweep:
    """The sweep of an arm of this project."""
    from autotune.sweep.sweep_file import parse_sweep

    scheduler = arm in ON_LADDER
    precision = {"int8": "int8", "plain8": "int8", "default": "auto"}.get(
        arm, given.sweep["model"]["precision"]
    )
    mapping = {
        **given.sweep,
        "model": {**given.sweep["model"], "precision": precision},
        "seed": seed,
        "ladder": scheduler,
        "executor": given.packs if arm in PACKED else "local",
        "budget": {
            "trials": given.ladder_trials if scheduler else given.trials,
            "minutes": given.minutes,
        },
    }
    if arm == "default":  # what the file leaves open, autotune chooses
        del mapping["executor"]
    return parse_sweep(mapping)


def by_sweep(record: Record, path: Path, given: Setting, out: Path) -> None:
    """An arm of this project; its folder lies beside its record."""
    from autotune.engine.events import SilentListener
    from autotune.engine.sweep_run import run_sweep
    from autotune.prepare.prepared_sweep import prepare
    from trials.records import TrialResult

    sweep = sweep_of(record.arm, record.seed, given)
    # Tokenizes, before the clock runs; the measurements that choose the defaults are in the time of their arm.
    costs = prepare(sweep_of("plain", record.seed, given)).costs
    configs: dict[int, Any] = {}
    clock = Clock(record)

    class Watch(SilentListener):
        def trial_started(self, number: int, config: Any, *, seed: int, origin: str = "") -> None:
            configs[number] = config

        def trial_finished(
            self, number: int, result: TrialResult, values: dict[str, float], on_front: bool
        ) -> None:
            flops = costs(configs[number]).train_flops
            done = Done(number, *clock.read(), flops, result.flops_share)
            if values:
                done.accuracy, done.parameters = values["accuracy"], values["trainable_params"]
            record.trials.append(done)
            record.save(path)

    run_sweep(sweep, out / f"{record.arm}-{record.seed}", Watch())


def by_hand(record: Record, path: Path, given: Setting, out: Path) -> None:
    """An arm of optuna, Trainer and peft, up to its limits; its study lies beside its record."""
    from benchmarks.front_by_hand import Workers

    parsed = {**given.sweep, "executor": "local", "budget": {"trials": given.trials}}
    processes = given.hand_workers
    threads = max(1, given.threads // processes)
    study = out / f"{record.arm}-{record.seed}.db"
    others = [Record.load(each) for each in out.glob("*-*.json") if each != path]
    with Workers(processes, threads, parsed, study, record) as workers:
        clock = Clock(record)
        for done in workers.trials(
            lambda begun: begun < given.trials and not ended(record, given, others, clock)
        ):
            done.wall, done.cpu = clock.read()
            record.trials.append(done)
            record.save(path)


def ended(record: Record, given: Setting, others: Sequence[Record], clock: Clock) -> bool:
    """Whether an arm by hand has had its minutes or reached the share at which it ends."""
    return clock.read()[0] >= 60 * given.minutes_of(record.arm) or is_far(record, given, others)


def is_far(record: Record, given: Setting, others: Sequence[Record]) -> bool:
    """Whether a record has the share of the reference hypervolume, as known now, at which an arm by hand ends."""
    if given.until is None or record.arm not in BY_HAND:
        return False
    reference = reference_volume([record, *others], given.corner)
    return bool(others) and reference_volume([record], given.corner) >= given.until * reference


def result_tables(records: Sequence[Record], given: Setting, threads: int) -> dict[str, Table]:
    """Return one table per share of the reference hypervolume, for the page of results."""
    data = given.sweep["fidelity"]
    seeds = sorted({record.seed for record in records})
    unfinished = [f"{record.arm}-{record.seed}" for record in records if not record.complete]
    caption = (
        f"{data['train_samples']} + {data['eval_samples']} sentences, seeds {', '.join(map(str, seeds))}, {threads} "
        f"threads per arm, {given.hand_workers} hand-written trials at a time, at most {given.trials} trials per arm "
        f"({given.ladder_trials} with a ladder); median over the seeds, lowest and highest in brackets; `>` where a "
        "seed did not reach it before its end."
    )
    if unfinished:
        caption += f" Not complete: {', '.join(unfinished)}."
    return {
        f"share-{share:.0%}".removesuffix("%"): table(
            records, given.corner, share, f"To {share:.0%} of the reference hypervolume. {caption}"
        )
        for share in (SHARE, 0.9, 0.75)
    }


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="where trials are kept")
    parser.add_argument("--arms", choices=ARMS, nargs="*", default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--ladder-times", type=float, default=2.0)
    parser.add_argument("--minutes", type=float, default=15.0, help="of an arm with a seed, at most")
    parser.add_argument("--hand-minutes", type=float, help="the same of a hand-written arm, if it differs")
    parser.add_argument("--hand-workers", type=int, default=2, help="trials at a time of a hand-written arm")
    parser.add_argument("--until", type=float, help="share of the reference at which a hand-written arm ends")
    parser.add_argument("--samples", type=int, default=300, help="training examples of an epoch")
    parser.add_argument("--eval-samples", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, help="of the arms that pack; by default the executor's own")
    parser.add_argument("--processes", type=int, default=1, help="of the arms that pack, sharing the threads")
    parser.add_argument("--quick", action="store_true", help="the built-in model, few examples, one seed")
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if arguments.quick:
        few = {"seeds": [0], "trials": 6, "samples": 160, "eval_samples": 100, "minutes": 1.0}
        vars(arguments).update(few)
    os.environ["AUTOTUNE_PREFIX_CACHE"] = "0"  # arms and seeds take nothing from each other
    os.environ["AUTOTUNE_CALIBRATION"] = "new"  # nor a choice of defaults, whose measurement takes seconds
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    given = setting(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for arm in arguments.arms:
            record = run_arm(arm, seed, given, arguments.out)
            last = record.trials[-1] if record.trials else None
            print(
                f"{arm}, seed {seed}: {len(record.trials)} ends, {last.wall if last else 0:.0f} s", flush=True
            )
    records = [Record.load(path) for path in sorted(arguments.out.glob("*-*.json"))]
    tables = result_tables(records, given, arguments.threads)
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in tables.values()))
    if arguments.write:
        store("time-to-front", tables)


if __name__ == "__main__":
    main()
