"""Scoring of a model on a split: one pass over batches of similar length, every metric of the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from trials.data.task_data import TaskData
from trials.reading.encoding import IGNORED, Encoded, collate
from trials.tasks.scores import TokenScores, causal_lm_scores, prediction_scores
from trials.training.length_batching import chunks, starting_cost, suited_tokens
from trials.training.out_of_memory import is_out_of_memory

EVAL_BATCH = 64
"""The maximum number of examples per batch in evaluation."""


Forward = Callable[[Sequence[Encoded], Mapping[str, torch.Tensor]], torch.Tensor]
"""(examples, the same examples collated without their labels) -> logits of the model."""

Array = NDArray[np.float64]
Columns = tuple[Array, ...]
"""One array per quantity, with one row per example."""


class Evaluation(NamedTuple):
    """The scores of a model on a split.

    Args:
        metrics: `eval_loss` and every metric of the task.
        columns: What `trials.tasks.example_scores.example_scores` reads, per example in the order of the split.
    """

    metrics: dict[str, float]
    columns: Columns


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    data: TaskData,
    examples: Sequence[Encoded],
    *,
    task_type: str,
    device: torch.device,
    computing: Callable[[], AbstractContextManager[object]] = nullcontext,
    forward: Forward | None = None,
) -> Evaluation:
    """Compute `eval_loss` and every metric of the task. The model is left in evaluation mode.

    `eval_loss` is the mean over examples: in nats for classification, and for regression the squared error of the
    standardized targets, in units of the variance of train. For a causal language model it is the mean over target
    tokens, in nats. Every other metric of a regression is in the units of the targets.

    Args:
        model: The model.
        data: The task's data, for their tokenizer, the positive class and the scale of the targets.
        examples: The encoded examples to score.
        task_type: The type of the task.
        device: The device of the model.
        computing: Returns the context of a forward pass, which decides its precision; see `Base.computing`.
        forward: A replacement for the model's own forward pass.
    """
    model.eval()

    def score(indices: Sequence[int]) -> Columns:
        chosen = [examples[i] for i in indices]
        batch = collate(chosen, data.tokenizer)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        labels = batch.pop("labels")
        with computing():
            logits = (forward(chosen, batch) if forward else model(**batch).logits).float()
        return _score(logits, labels, task_type)

    outputs = list(_in_memory(score, list(_batches(examples, device)), device))
    order = np.argsort(np.concatenate([indices for indices, *_ in outputs]))
    columns = tuple(
        np.concatenate(column)[order] for column in zip(*(rest for _, *rest in outputs), strict=True)
    )
    if task_type != "causal-lm":  # the labels of a batch are rounded to fp32
        columns = _in_units(columns[0], columns[1], np.array([e["labels"] for e in examples]), data)
    return Evaluation(_summarize(task_type, columns, data.positive), columns)


def _in_memory(
    score: Callable[[Sequence[int]], Columns], waiting: list[list[int]], device: torch.device
) -> Iterator[tuple[Any, ...]]:
    """Yield the indices and scores of each batch; batches for which memory does not suffice are halved.

    The logits of a language model with many words take more memory than a training step of the same batch, whose
    chunks the memory model has limited.
    """
    while waiting:
        indices = waiting.pop(0)
        try:
            scores = score(indices)
        except RuntimeError as error:
            if len(indices) == 1 or not is_out_of_memory(error):
                raise
            middle = len(indices) // 2
            halves = ((batch[:middle], batch[middle:]) for batch in (indices, *waiting))
            waiting = [half for pair in halves for half in pair if half]
        else:
            yield indices, *scores
            continue
        if device.type == "cuda":  # here, where the frames of the failed pass are gone
            torch.cuda.empty_cache()


def _in_units(losses: Array, outputs: Array, references: Array, data: TaskData) -> Columns:
    """Return the columns with outputs and references in the units of the targets."""
    scale = data.target_scale
    if scale is None:
        return losses, outputs, references.astype(float)
    return losses, scale.restore(outputs), scale.restore(references)


def _batches(examples: Sequence[Encoded], device: torch.device) -> Iterator[list[int]]:
    lengths = np.array([len(example["input_ids"]) for example in examples])
    for chunk in chunks(lengths, suited_tokens(device), starting_cost(device), EVAL_BATCH):
        yield chunk.tolist()


def _score(logits: torch.Tensor, labels: torch.Tensor, task_type: str) -> Columns:
    """Return (loss, outputs, references) per example, or (tokens, loss, correct) for causal-lm."""
    if task_type == "causal-lm":
        width = labels.shape[1]
        logits, targets = logits[:, -width:-1], labels[:, 1:]  # virtual tokens precede the examples
        is_target = targets != IGNORED
        loss = functional.cross_entropy(
            logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        correct = (logits.argmax(-1) == targets) & is_target
        return tuple(column.sum(1).double().cpu().numpy() for column in (is_target, loss, correct))
    if task_type == "regression":
        outputs = logits.squeeze(-1)
        loss = (outputs - labels) ** 2
    else:
        outputs = logits
        loss = functional.cross_entropy(logits, labels, reduction="none")
    return tuple(column.double().cpu().numpy() for column in (loss, outputs, labels))


def _summarize(task_type: str, columns: Columns, positive: int | None) -> dict[str, float]:
    if task_type == "causal-lm":
        tokens, loss, correct = columns
        scores = TokenScores(tokens=tokens, loss=loss, correct=correct)
        return {"eval_loss": float(loss.sum() / tokens.sum()), **causal_lm_scores(scores)}
    losses, outputs, references = columns
    if not np.isfinite(outputs).all():
        return {"eval_loss": float("nan")}
    return {"eval_loss": float(losses.mean()), **prediction_scores(task_type, outputs, references, positive)}


def without_model(data: TaskData, task_type: str) -> dict[str, float]:
    """Return the validation metrics of the best constant answer, which reads no input.

    It predicts the share of each class in the training split, or the mean of the training labels. The result is empty
    for causal-lm, whose baseline is the base model without an adapter.
    """
    if task_type == "causal-lm":
        return {}
    train = np.array([example["labels"] for example in data.splits["train"]])
    labels = np.array([example["labels"] for example in data.splits["validation"]])
    if task_type == "regression":
        outputs = np.full(len(labels), train.mean())
        losses = (outputs - labels) ** 2
    else:
        shares = np.bincount(train, minlength=data.outputs) / len(train)
        outputs = np.tile(np.log(shares), (len(labels), 1))
        losses = -outputs[np.arange(len(labels)), labels]
    return _summarize(task_type, _in_units(losses, outputs, labels, data), data.positive)
