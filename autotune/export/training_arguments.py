"""The settings of an exported run for transformers' Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from autotune.export.exported_trial import ExportedTrial, train_split
from autotune.sweep.schema import Sweep
from search_spaces.parameters.training import optimizer_of
from trials.kinds.registry import find_kind
from trials.reading.encoding import token_count
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


def micro_batch(batch_size: int, longest: int, chunk_tokens: float) -> int:
    """Return how many examples of a batch fit into one forward pass: the largest divisor of the batch size.

    At least one; a trial, too, runs a text that is longer than a chunk.

    Args:
        batch_size: examples per optimizer step.
        longest: tokens of the longest example, over all of its rows.
        chunk_tokens: the most tokens of a forward pass, padding included.
    """
    fitting = (size for size in range(batch_size, 1, -1) if batch_size % size == 0)
    return next((size for size in fitting if size * longest <= chunk_tokens), 1)


def training_arguments(export: ExportedTrial) -> dict[str, Any]:
    """Return the fields of `transformers.TrainingArguments` for the loop of the search on the exported data."""
    config, model, steps = export.config, export.sweep.model, export.steps
    seed = int(export.results.trials.set_index("trial")["seed"][export.trial])
    optimizer, micro, epochs = optimizer_of(config), _micro_batch_of(export), float(config["epochs"])
    return {
        "learning_rate": learning_rate(config),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": int(config["batch_size"]) // micro,
        "per_device_eval_batch_size": 64,
        "num_train_epochs": int(epochs) if epochs.is_integer() else epochs,
        # transformers would round part of an epoch to other steps than the search.
        **({} if export.tokens is None and epochs.is_integer() else {"max_steps": steps}),
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


def _micro_batch_of(export: ExportedTrial) -> int:
    """Return the examples of a forward pass, so that the run fits into memory where the trial did."""
    batch_size = int(export.config["batch_size"])
    tokens = float(export.results.trials.set_index("trial")["chunk_tokens"][export.trial])
    # A loss that reads the whole batch cannot be divided; its trial ran the batch in one pass, too.
    if np.isnan(tokens) or not find_kind(export.sweep.task.type).packs(export.data.fields):
        return batch_size
    longest = max(map(token_count, train_split(export.sweep, export.data, export.config)))
    return micro_batch(batch_size, longest, tokens)


def accumulation_note(arguments: Mapping[str, Any]) -> str:
    """Return how the run divides its batches, for its README; empty if it does not."""
    micro, count = arguments["per_device_train_batch_size"], arguments["gradient_accumulation_steps"]
    if count == 1:
        return ""
    return (
        f"\nEach step runs its {micro * count} examples in {count} micro-batches of {micro}, whose gradients add up\n"
        "to those of the whole: no forward pass has more tokens than those of the trial. With more memory,\n"
        "raise `per_device_train_batch_size` in training_args.json, and lower `gradient_accumulation_steps` by the\n"
        "same factor.\n"
    )


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
