"""From a point of the front to a training run that needs only transformers, peft and datasets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autotune.picks import pick_trial
from autotune.results import SweepResults
from autotune.sweep import Sweep
from search_spaces import parameters
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families import REGISTRY
from search_spaces.families.base import local_config
from search_spaces.parameters import Config
from search_spaces.shapes import ModelShape, read_shape
from search_spaces.training import OPTIMIZERS, optimizer_of
from trials import encoding
from trials.data import SPLITS, TaskData, load_task, resolve_model
from trials.quantized import unquantized
from trials.schedules import transformers_schedule
from trials.specs import POCKET
from trials.training import MAX_GRAD_NORM, learning_rate, sequence_length

_TEMPLATE = Path(__file__).parent / "templates" / "train.py"
_OPTIM = {"adamw": "adamw_torch", "adafactor": "adafactor"}
"""transformers' names of optimisers; train.py builds the others itself."""
_TUNERS = Path(parameters.__file__).parent / "tuners"


def export_run(results: SweepResults, pick: str, where: Sequence[str], to: str | Path) -> Path:
    """Write a training run of the picked configuration into the folder `to`, and return it.

    The folder gets adapter_config.json, training_args.json, run.json, train.py with encoding.py, a README,
    and, where the data or the base cannot be named, a copy of them; for an adapter of our own also `tuners`.

    Raises:
        InvalidInputError: see `pick_trial`; or the folder is not empty.
    """
    to = Path(to)
    trial = pick_trial(results, pick, where)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InvalidInputError(
            Problem("--to", f"{str(to)!r} exists and is not empty", "Give a folder that does not exist yet.")
        )
    sweep, config = results.sweep, results.config(trial)
    data = load_task(sweep.task, sweep.model)
    shape, family = _shape(sweep, data), REGISTRY[str(config["family"])]
    adapter = family.peft_config(local_config(family.name, config), shape, sweep.task.type)
    to.mkdir(parents=True, exist_ok=True)
    model = _place_model(results, to)
    adapter.base_model_name_or_path = model
    settings = _training_arguments(results, trial, config, data)
    family.schedule(adapter, _steps(results, config, data))
    adapter.save_pretrained(str(to))
    _write_json(to / "training_args.json", settings)
    _write_json(to / "run.json", {
        "sweep": sweep.name,
        "trial": trial,
        "configuration": config,
        "model": model,
        "revision": sweep.model.revision,
        "trust_remote_code": sweep.model.trust_remote_code,
        "precision": "bf16" if sweep.model.weights == "bf16" else sweep.model.precision,
        "weights": sweep.model.weights,
        "unquantized": unquantized(shape),
        "task": sweep.task.model_dump(),
        "sequence_length": min(sequence_length(config) or sweep.task.max_length, sweep.task.max_length),
        "optimizer": optimizer_of(config),
        "columns": list(sweep.task.columns),
        "classes": data.classes,
        "learning_rate_factors": family.learning_rate_factors(local_config(family.name, config)),
        "splits": {name: _place_split(data, name, to) for name in SPLITS},
    })  # fmt: skip
    shutil.copyfile(_TEMPLATE, to / "train.py")
    shutil.copyfile(encoding.__file__, to / "encoding.py")
    if adapter.peft_type == "COMPOSITE":  # a method that peft learns from this folder
        shutil.copytree(_TUNERS, to / "tuners", ignore=shutil.ignore_patterns("__pycache__"))
    readme = _readme(results, trial, config, own_tuner=(to / "tuners").is_dir())
    (to / "README.md").write_text(readme, encoding="utf-8")
    return to


def train_run(run: str | Path) -> dict[str, dict[str, float]]:
    """Run an exported `train.py` in its own process; the scores by split.

    Raises:
        InvalidInputError: the folder holds no exported run.
        RuntimeError: the training failed; its own output says why.
    """
    run = Path(run)
    for name in ("train.py", "run.json", "training_args.json", "adapter_config.json"):
        if not (run / name).is_file():
            raise InvalidInputError(
                Problem("RUN", f"{str(run)!r} has no {name}", "Give a folder that autotune export wrote.")
            )
    code = subprocess.call([sys.executable, str(run.resolve() / "train.py")])
    if code:
        raise RuntimeError(f"{run / 'train.py'} ended with exit code {code}")
    scores: dict[str, dict[str, float]] = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    return scores


def _shape(sweep: Sweep, data: TaskData) -> ModelShape:
    return read_shape(
        resolve_model(sweep.model.name),
        sweep.task.type,
        labels=data.outputs,
        trust_remote_code=sweep.model.trust_remote_code,
        quantized=sweep.model.quantized,
    )


def _training_arguments(results: SweepResults, trial: int, config: Config, data: TaskData) -> dict[str, Any]:
    """For `transformers.TrainingArguments`: the loop of the search on the whole training split."""
    seed = int(results.trials.set_index("trial")["seed"][trial])
    batch_size, epochs = int(config["batch_size"]), int(config["epochs"])
    steps = _steps(results, config, data)
    optimizer = optimizer_of(config)
    return {
        "learning_rate": learning_rate(config),
        "per_device_train_batch_size": batch_size,
        "per_device_eval_batch_size": 64,
        "num_train_epochs": epochs,
        "weight_decay": config["weight_decay"],
        **transformers_schedule(config, steps),
        "max_grad_norm": MAX_GRAD_NORM,
        **({"optim": _OPTIM[optimizer]} if optimizer in _OPTIM else {}),
        "seed": seed,
        "bf16": "bf16" in (results.sweep.model.precision, results.sweep.model.weights),
        "use_cpu": results.sweep.model.device == "cpu",
        "save_strategy": "no",
        "logging_steps": max(1, steps // 20),
        "report_to": "none",
        "remove_unused_columns": False,
        "label_names": ["labels"],
    }


def _steps(results: SweepResults, config: Config, data: TaskData) -> int:
    """Optimiser steps of the exported run."""
    cut = data.at_length(results.sweep.task, sequence_length(config))
    return int(config["epochs"]) * -(-len(cut.splits["train"]) // int(config["batch_size"]))


def _place_model(results: SweepResults, to: Path) -> str:
    """How the run names its base; the embedded one is copied: the run needs nothing of this project."""
    name = results.sweep.model.name
    if name == POCKET:
        shutil.copytree(resolve_model(name), to / "base")
        return "./base"
    return name


def _place_split(data: TaskData, name: str, to: Path) -> dict[str, Any]:
    """How the run reads a split; one that cannot be read from its source is written beside the script."""
    if name in data.sources:
        return data.sources[name]
    file = Path("data") / f"{name}.parquet"
    (to / "data").mkdir(exist_ok=True)
    data.raw[name].to_parquet(str(to / file))
    return {"file": str(file)}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _readme(results: SweepResults, trial: int, config: Config, own_tuner: bool) -> str:
    row = results.trials.set_index("trial").loc[trial]
    objectives = "\n".join(f"* {o.name}: {row[o.name]:,.6g} (search, one seed)" for o in results.objectives)
    settings = "\n".join(f"* `{name}`: {value}" for name, value in config.items())
    package = OPTIMIZERS[optimizer_of(config)].package
    further = "" if package is None else f"\nIts optimiser also needs `pip install {package}`.\n"
    if results.sweep.model.quantized:
        further += f"\nIts base, in {results.sweep.model.weights}, also needs `pip install bitsandbytes`.\n"
    loading = (
        "Before peft can load this adapter, `import tuners` (the folder here) once.\n\n" if own_tuner else ""
    )
    return (
        f"# Trial {trial} of the sweep `{results.sweep.name}`\n\n{objectives}\n\n"
        "Train it with `python train.py`: it needs transformers, peft and datasets. The adapter is saved in\n"
        "`adapter/` and the scores in `scores.json`. The search trained on "
        f"{results.sweep.fidelity.train_samples or 'all'} examples an epoch; this run trains on all.\n{further}\n"
        f"{loading}## The configuration\n\n{settings}\n"
    )
