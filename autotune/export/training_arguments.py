"""The settings of an exported run: the loop of the search in the terms of `transformers.TrainingArguments`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from autotune.sweep.schema import Sweep
from search_spaces.parameters.training import optimizer_of
from search_spaces.parameters.types import Configuration
from trials.tasks.specs import AUTO, ModelSpec
from trials.training.run import MAX_GRAD_NORM, learning_rate
from trials.training.schedules import transformers_schedule
from trials.training.selection import selection_of

_OPTIM = {"adamw": "adamw_torch", "adafactor": "adafactor"}
"""The names of optimizers in transformers; train.py builds the others itself."""
_CHECKPOINTING: dict[str, Any] = {
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
}
"""Without reentry, layers below the lowest adapter need no gradient and are not run again."""


def training_arguments(
    config: Configuration, model: ModelSpec, steps: int, seed: int, tokens: float | None = None
) -> dict[str, Any]:
    """Return the fields of `transformers.TrainingArguments` for the loop of the search on all of the data.

    Args:
        config: the configuration.
        model: the base model.
        steps: number of optimizer steps.
        seed: of the trial.
        tokens: number of training tokens; None for all epochs of the data.
    """
    optimizer = optimizer_of(config)
    return {
        "learning_rate": learning_rate(config),
        "per_device_train_batch_size": int(config["batch_size"]),
        "per_device_eval_batch_size": 64,
        "num_train_epochs": int(config["epochs"]),
        **({} if tokens is None else {"max_steps": steps}),
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
        **(_CHECKPOINTING if model.gradient_checkpointing else {}),
    }


def exported_precision(model: ModelSpec) -> str:
    """Return the precision of the exported run: bf16 for weights in bf16, fp32 for int8, else that of the search."""
    if model.weights == "bf16":
        return "bf16"
    return "fp32" if model.precision == "int8" else model.precision


def exported_attention(model: ModelSpec) -> str | None:
    """Return the implementation of attention that the exported run names; None for that of the architecture."""
    return None if model.attn_implementation == AUTO else model.attn_implementation


def exported_evaluations(sweep: Sweep) -> dict[str, Any] | None:
    """Return how often the exported run is evaluated, and which evaluation counts, as in the confirmation.

    It is None if the last one counts in any case.
    """
    fidelity = sweep.confirm.fidelity(sweep.fidelity)
    if not fidelity.selects_evaluations:
        return None
    metric = sweep.task.metric
    selection = selection_of(fidelity, metric, sweep.task.metric_of(metric).direction)
    return {"count": fidelity.evaluations, "selection": asdict(selection)}
