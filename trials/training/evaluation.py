"""Scoring of a model on a split: one pass over batches of similar length, every metric of the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from trials.data.task_data import TaskData
from trials.kinds.generation import Generated, TextScores, generation_of
from trials.kinds.kind import Array, Batch, Columns, doubles, joined
from trials.kinds.registry import find_kind
from trials.reading.encoding import Encoded, token_count
from trials.training.length_batching import chunks, starting_cost, suited_tokens
from trials.training.out_of_memory import is_out_of_memory

EVAL_BATCH = 64
"""The maximum number of examples per batch in evaluation."""


Forward = Callable[[Sequence[Encoded], Batch], Any]
"""(examples, their batch) -> output of the model."""


class Evaluation(NamedTuple):
    """The scores of a model on a split.

    Args:
        metrics: `eval_loss` and every metric of the task.
        columns: What the kind of task computes scores from, per example in the order of the split.
        outputs: The same before `TaskKind.finish`, from which follow the model's answers.
        generated: The texts that the model generated, if it was to generate any.
        example_scores: The scores of these texts per text, for scores that are means over them.
    """

    metrics: dict[str, float]
    columns: Columns
    outputs: Columns
    generated: tuple[Generated, ...] = ()
    example_scores: Mapping[str, Array] = MappingProxyType({})


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
    generates: bool = False,
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
        generates: Whether to generate texts with the model itself and score them, if the task says how.
    """
    outputs = columns_of(
        model, data, examples, task_type=task_type, device=device, computing=computing, forward=forward
    )
    kind = find_kind(task_type)
    columns = kind.finish(outputs, examples, data.scoring)
    metrics = kind.scores(columns, data.scoring)
    if not generates or not data.scoring.task.get("generation"):
        return Evaluation(metrics, columns, outputs)
    with computing():
        texts, generated = _generate(model, data, examples, device)
    return Evaluation({**metrics, **texts.metrics}, columns, outputs, tuple(generated), texts.example_scores)


@torch.inference_mode()
def columns_of(
    model: nn.Module,
    data: TaskData,
    examples: Sequence[Encoded],
    *,
    task_type: str,
    device: torch.device,
    computing: Callable[[], AbstractContextManager[object]] = nullcontext,
    forward: Forward | None = None,
) -> Columns:
    """Return what scores are computed from, per example in the order of the split; arguments as in `evaluate`."""
    model.eval()
    kind = find_kind(task_type)

    def score(indices: Sequence[int]) -> Columns:
        chosen = [examples[i] for i in indices]
        batch = kind.collate(chosen, data.tokenizer).to(device)
        with computing():
            output = forward(chosen, batch) if forward else model(**batch.inputs)
        return doubles(*kind.columns(output, batch.targets))

    scored = list(_in_memory(score, list(_batches(examples, device)), device))
    order = np.argsort(np.concatenate([indices for indices, *_ in scored]))
    return tuple(column[order] for column in joined([tuple(rest) for _, *rest in scored]))


def _generate(
    model: nn.Module, data: TaskData, examples: Sequence[Encoded], device: torch.device
) -> tuple[TextScores, list[Generated]]:
    """Return the scores of the texts that the model generates, and the texts."""
    generation = generation_of(model, data.tokenizer, data.scoring.task, examples)
    texts: dict[int, str] = {}
    batches = generation.batches(model)
    for indices, *found in _in_memory(lambda chosen: generation.generate(model, chosen), batches, device):
        texts |= dict(zip(indices, found, strict=True))
    return generation.scored(texts)


def _in_memory(
    score: Callable[[Sequence[int]], Sequence[Any]], waiting: list[list[int]], device: torch.device
) -> Iterator[tuple[Any, ...]]:
    """Yield the indices and results of each batch; batches for which memory does not suffice are halved.

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


def _batches(examples: Sequence[Encoded], device: torch.device) -> Iterator[list[int]]:
    lengths = np.array([token_count(example) for example in examples])
    for chunk in chunks(lengths, suited_tokens(device), starting_cost(device), EVAL_BATCH):
        yield chunk.tolist()


def without_model(data: TaskData, task_type: str) -> dict[str, float]:
    """Return the validation metrics of the best constant answer, which reads no input.

    It predicts the share of each class in the training split, or the mean of the training labels. The result is empty
    for kinds of tasks that have no such answer, such as causal-lm, whose baseline is the base model without an
    adapter.
    """
    kind, columns = find_kind(task_type), constant_answer(data, task_type)
    if columns is None:
        return {}
    return kind.scores(kind.finish(columns, data.splits["validation"], data.scoring), data.scoring)


def constant_answer(data: TaskData, task_type: str) -> Columns | None:
    """Return the columns of the best constant answer on validation, before `finish`; None if there is none."""
    return find_kind(task_type).constant_columns(
        data.splits["train"], data.splits["validation"], data.outputs
    )
