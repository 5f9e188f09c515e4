"""Time to the same front: the time until 95 % of the reference hypervolume is reached.

    python -m benchmarks.time_to_front --out DIR [--seeds 0 1 2] [--arms gp tpe …] [--quick] [--write]

Adapters for all-MiniLM-L6-v2 on SST-2: LoRA, (IA)³, norms and bottlenecks, with the training parameters. Objectives
are accuracy on validation data, as searched, and trainable parameters. Every arm has the same space, examples and
fidelity:

* `gp`, `tpe`: Optuna's GPSampler and multi-objective TPESampler, transformers.Trainer and peft, the model loaded
  for each trial, with Trainer's defaults (the base model's dropout is on). They receive the logarithm of the
  parameters.
* `plain`: a sweep of this project, one trial after another, without ladder and packs.
* `ladder`, `packed`, `both`: the same with either, and with both. With a ladder, `--ladder-times` as many trials
  may begin, as most stop early.
* `int8`, `plain8`: as `packed` and `plain`, with products in 8 bits (CPUs with VNNI).

The reference is the front of all trials of all arms and seeds in DIR, so it can move when there are more of them.
Hypervolume is of (1 - accuracy, log10 parameters) against the corner (0.5, 6). Clocks run from loading the first
model to the trial's end, including the sampler's time; imports and tokenization are excluded. Training FLOPs are
those of the cost model for what was trained: a trial stopped at a fifth counts a fifth. Hidden states are not kept
on disk, so that arms and seeds share nothing.

Each arm and seed writes its trials to DIR/ARM-SEED.json as it runs. A complete arm does not run again; an
interrupted one resumes, and so does one that had fewer trials and minutes than are allowed now. `--write` stores
the tables of DIR in benchmarks/results/time-to-front.json; `--arms` without names runs nothing.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.front_records import ARMS, BY_HAND, SHARE, SMALLEST, Done, Record, table
from benchmarks.processor import processor_seconds
from benchmarks.result_files import Table, store

if TYPE_CHECKING:
    from autotune.sweep.schema import Sweep

ON_LADDER = ("ladder", "both")
PACKED = ("packed", "both", "int8")
INT8 = ("int8", "plain8")


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
    """

    sweep: dict[str, Any]
    corner: tuple[float, float]
    trials: int
    ladder_trials: int
    minutes: float
    packs: str | dict[str, Any] = "packed"


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
    if not (record.complete and spent(record, given)):
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
    return len({trial.number for trial in record.trials}) >= wanted or wall >= 0.8 * 60 * given.minutes


def sweep_of(arm: str, seed: int, given: Setting) -> Sweep:
    """The sweep of an arm of this project."""
    from autotune.sweep.schema import parse_sweep

    scheduler = arm in ON_LADDER
    model = given.sweep["model"]
    return parse_sweep(
        {
            **given.sweep,
            "model": {**model, "precision": "int8"} if arm in INT8 else model,
            "seed": seed,
            "ladder": scheduler,
            "executor": given.packs if arm in PACKED else "local",
            "budget": {
                "trials": given.ladder_trials if scheduler else given.trials,
                "minutes": given.minutes,
            },
        }
    )


def by_sweep(record: Record, path: Path, given: Setting, out: Path) -> None:
    """An arm of this project; its folder lies beside its record."""
    from autotune.engine.events import SilentListener
    from autotune.engine.sweep_run import run_sweep
    from autotune.prepare.prepared_sweep import prepare
    from trials.records import TrialResult

    sweep = sweep_of(record.arm, record.seed, given)
    costs = prepare(sweep).costs  # tokenizes, before the clock runs
    configs: dict[int, Any] = {}
    clock = Clock(record)

    class Watch(SilentListener):
        def trial_started(self, number: int, config: Any, *, seed: int) -> None:
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
    """An arm of optuna, Trainer and peft; its study lies beside its record."""
    import optuna

    from autotune.prepare.prepared_sweep import prepare
    from autotune.sweep.schema import parse_sweep

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    prepared = prepare(parse_sweep({**given.sweep, "budget": {"trials": given.trials}}))
    clock = Clock(record)
    seed = record.seed
    sampler: optuna.samplers.BaseSampler = (
        optuna.samplers.GPSampler(seed=seed)
        if record.arm == "gp"
        else optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    )
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=sampler,
        storage=f"sqlite:///{out}/{record.arm}-{seed}.db",
        study_name="by hand",
        load_if_exists=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        while len(record.trials) < given.trials and clock.read()[0] < 60 * given.minutes:
            trial = study.ask()
            config = prepared.space.suggest(trial)
            accuracy = with_trainer(prepared, config, 1000 * seed + trial.number, folder)
            costs = prepared.costs(config)
            parameters = float(costs.trainable_params)
            study.tell(trial, [accuracy, math.log10(max(parameters, SMALLEST))])
            done = Done(len(record.trials), *clock.read(), costs.train_flops, 1.0, accuracy, parameters)
            record.trials.append(done)
            record.save(path)


def with_trainer(prepared: Any, config: Mapping[str, Any], seed: int, folder: str) -> float:
    """The accuracy on validation of one configuration, trained as a script of transformers and peft does."""
    from peft import get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from search_spaces.families import REGISTRY, local_config
    from trials.base.parameter_groups import freeze
    from trials.tasks.specs import resolve_model
    from trials.training.run import learning_rate, subset
    from trials.training.schedules import transformers_schedule

    data, shape, fidelity = prepared.data, prepared.shape, prepared.sweep.fidelity
    train = subset(data.splits["train"], fidelity.train_samples, seed=0)
    held_out = subset(data.splits["validation"], fidelity.eval_samples, seed=0)
    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        resolve_model(prepared.sweep.model.name), num_labels=data.outputs
    )
    family = REGISTRY[str(config["family"])]
    parameters = local_config(family.name, config)
    adapted = get_peft_model(model, family.peft_config(parameters, shape, shape.task))
    freeze(adapted, family.learning_rate_factors(parameters))
    batch, epochs = int(config["batch_size"]), int(config["epochs"])
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=64,
        num_train_epochs=float(epochs),
        learning_rate=learning_rate(config),
        weight_decay=float(config["weight_decay"]),
        **transformers_schedule(config, -(-len(train) // batch) * epochs),
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        seed=seed,
    )
    trainer = Trainer(
        adapted,
        arguments,
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=DataCollatorWithPadding(data.tokenizer),
        compute_metrics=lambda scored: {
            "accuracy": float((scored.predictions.argmax(-1) == scored.label_ids).mean())
        },
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return float(trainer.evaluate()["eval_accuracy"])


def result_tables(records: Sequence[Record], given: Setting, threads: int) -> dict[str, Table]:
    """Return one table per share of the reference hypervolume, for the page of results."""
    data = given.sweep["fidelity"]
    seeds = sorted({record.seed for record in records})
    unfinished = [f"{record.arm}-{record.seed}" for record in records if not record.complete]
    caption = (
        f"{data['train_samples']} + {data['eval_samples']} sentences, seeds {', '.join(map(str, seeds))}, {threads} "
        f"threads per arm, at most {given.trials} trials per arm ({given.ladder_trials} with a ladder); median over "
        "the seeds, lowest and highest in brackets; `>` where a seed did not reach it before its end."
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
