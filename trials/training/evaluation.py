"""Scoring a model on a split: one pass, examples of like length together, every metric of the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trials.tasks.data import TaskData
from trials.tasks.encoding import IGNORED, Encoded, collate
from trials.tasks.metrics import TokenScores, compute_metrics
from trials.training.length_batching import chunks, starting_cost, suited_tokens

EVAL_BATCH = 64
"""Examples per batch in evaluation, at most."""


Forward = Callable[[Sequence[Encoded], Mapping[str, torch.Tensor]], torch.Tensor]
"""From examples, and the same collated without their labels, to the model's logits."""


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    data: TaskData,
    examples: Sequence[Encoded],
    *,
    task_type: str,
    device: torch.device,
    autocast: torch.dtype,
    forward: Forward | None = None,
) -> dict[str, float]:
    """Every metric of the task on `examples`, and `eval_loss`; `forward` stands in for the model's own.

    `eval_loss` is the mean over examples, in nats for classification and squared units for regression; for a
    causal language model it is the mean over learned tokens, in nats. The model is left in evaluation mode.
    """
    model.eval()
    outputs = []
    for indices in _batches(examples, device):
        chosen = [examples[i] for i in indices]
        batch = collate(chosen, data.tokenizer)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        labels = batch.pop("labels")
        with torch.autocast(device.type, dtype=autocast, enabled=autocast != torch.float32):
            logits = (forward(chosen, batch) if forward else model(**batch).logits).float()
        outputs.append((indices, *_score(logits, labels, task_type)))
    order = np.argsort(np.concatenate([indices for indices, *_ in outputs]))
    columns = [np.concatenate(column)[order] for column in zip(*(rest for _, *rest in outputs), strict=True)]
    return _summarize(task_type, columns)


def _batches(examples: Sequence[Encoded], device: torch.device) -> Iterator[list[int]]:
    lengths = np.array([len(example["input_ids"]) for example in examples])
    for chunk in chunks(lengths, suited_tokens(device), starting_cost(device), EVAL_BATCH):
        yield chunk.tolist()


def _score(logits: torch.Tensor, labels: torch.Tensor, task_type: str) -> tuple[np.ndarray, ...]:
    """Per example: (loss, outputs, references), or (tokens, loss, correct) for causal-lm."""
    if task_type == "causal-lm":
        width = labels.shape[1]
        logits, targets = logits[:, -width:-1], labels[:, 1:]  # virtual tokens stand in front
        learned = targets != IGNORED
        loss = functional.cross_entropy(
            logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        correct = (logits.argmax(-1) == targets) & learned
        return tuple(column.sum(1).double().cpu().numpy() for column in (learned, loss, correct))
    if task_type == "regression":
        outputs = logits.squeeze(-1)
        loss = (outputs - labels) ** 2
    else:
        outputs = logits
        loss = functional.cross_entropy(logits, labels, reduction="none")
    return tuple(column.double().cpu().numpy() for column in (loss, outputs, labels))


def _summarize(task_type: str, columns: Sequence[np.ndarray]) -> dict[str, float]:
    if task_type == "causal-lm":
        tokens, loss, correct = columns
        scores = TokenScores(tokens=tokens, loss=loss, correct=correct)
        eval_loss = float(loss.sum() / tokens.sum())
        return {"eval_loss": eval_loss, **compute_metrics(task_type, scores)}
    losses, outputs, references = columns
    eval_loss = float(losses.mean())
    if not np.isfinite(outputs).all():
        return {"eval_loss": float("nan")}
    return {"eval_loss": eval_loss, **compute_metrics(task_type, outputs, references)}


def without_model(data: TaskData, task_type: str) -> dict[str, float]:
    """The metrics on validation of the best answer that looks at no input: the share of each class in
    training, or the mean of the training labels. Empty for causal-lm, whose baseline is the base itself."""
    if task_type == "causal-lm":
        return {}
    train = np.array([example["labels"] for example in data.splits["train"]])
    labels = np.array([example["labels"] for example in data.splits["validation"]])
    outputs: Any
    if task_type == "regression":
        outputs = np.full(len(labels), train.mean())
        losses = (outputs - labels) ** 2
    else:
        shares = np.bincount(train, minlength=data.outputs) / len(train)
        outputs = np.tile(np.log(shares), (len(labels), 1))
        losses = -outputs[np.arange(len(labels)), labels]
    return _summarize(task_type, (losses, outputs, labels))
