"""The settings of an exported run for transformers' Trainer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from autotune.export.exported_trial import ExportedTrial
from autotune.sweep.schema import Sweep
from search_spaces.parameters.training import optimizer_of
from trials.tasks.specs import ModelSpec
from trials.training.run import MAX_GRAD_NORM, learning_rate, selection_of
from trials.training.schedules import transformers_schedule

_OPTIM = {"adamw": "adamw_torch", "adafactor": "adafactor"}
"""The names of optimizers in transformers; train.py builds the others itself."""


def training_arguments(export: ExportedTrial) -> dict[str, Any]:
    """Return the fields of `transformers.TrainingArguments` for the loop of the search on all of the data."""
    config, model, steps = export.config, export.sweep.model, export.steps
    seed = int(export.results.trials.set_index("trial")["seed"][export.trial])
    optimizer = optimizer_of(config)
    return {
        "learning_rate": learning_rate(config),
        "per_device_train_batch_size": int(config["batch_size"]),
        "per_device_eval_batch_size": 64,
        "num_train_epochs": int(config["epochs"]),
        **({} if export.tokens is None else {"max_steps": steps}),
        "weight_decay": config["weight_decay"],
        **transformers_schedule(config, steps),
        "max_grad_norm": MAX_GRAD_NORM,
        **({"optim": _OPTIM[optimizer]} if optimizer in _OPTIM else {}),
        "seed": seed,
        "bf16": "bf16" in (model.precision, model.weights),
        "use_cpu": model.device == "cpu",
        "save_strategy": "no",
        "logging_steps": max(1, steps // 20),
        "report_to": "none",
        "remove_unused_columns": False,
        "label_names": ["labels"],
    }


def evaluations(sweep: Sweep) -> dict[str, Any] | None:
    """Return when the run is evaluated and which evaluation counts; None if it is the last one in any case."""
    fidelity = sweep.fidelity
    if not fidelity.selects_evaluations:
        return None
    selection = asdict(selection_of(fidelity, sweep.task.metric))
    return {"count": fidelity.evaluations, "selection": selection}


def exported_precision(model: ModelSpec) -> str:
    """Return the precision of the exported run: bf16 for weights in bf16, fp32 for int8, else that of the search."""
    if model.weights == "bf16":
        return "bf16"
    return "fp32" if model.precision == "int8" else model.precision
