"""An example as the model sees it: its decoded tokens, and which of them the loss covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from search_spaces.errors import InvalidInputError, Problem
from trials.data.columns import check_columns, without_empty_rows
from trials.data.labels import find_classes
from trials.data.notes import Notes
from trials.data.sources import read_splits
from trials.data.task_data import TaskData
from trials.data.tokenizers import load_tokenizer
from trials.reading.encoding import IGNORED, Encoded, encode
from trials.reading.rows import Row
from trials.tasks.specs import ModelSpec, TaskSpec

_NO_LIMIT = 1_000_000
"""A maximum length that cuts no example."""


@dataclass(frozen=True)
class Span:
    """Consecutive tokens that the loss covers, or does not cover.

    Args:
        text: the decoded tokens, special tokens included.
        is_learned: whether the loss covers them.
    """

    text: str
    is_learned: bool


@dataclass(frozen=True)
class ExamplePreview:
    """An example as the model sees it, without padding.

    Args:
        place: where its row comes from, such as `line 2 of train.tsv`.
        spans: the decoded tokens, divided where the loss begins and ends; a classifier has one span.
        tokens: their number.
        learned: the number of tokens that the loss covers; None unless the model generates text.
        uncut: the number of tokens without the task's maximum length.
        label: the label to predict; None for a model that generates text.
        label_index: the index of the label among the classes; None without classes.
    """

    place: str
    spans: tuple[Span, ...]
    tokens: int
    learned: int | None
    uncut: int
    label: Any = None
    label_index: int | None = None


def preview_examples(data: TaskData, task: TaskSpec, count: int) -> list[ExamplePreview]:
    """Return the first training examples of a task as the model sees them.

    Args:
        data: of the task.
        task: the task.
        count: the maximum number of examples.
    """
    rows, examples = data.raw["train"], data.splits["train"]
    return [
        _preview(rows.row(i), examples[i], rows.place(i), task, data.tokenizer, data.classes)
        for i in range(min(count, len(examples)))
    ]


def preview_first(task: TaskSpec, model: ModelSpec) -> ExamplePreview:
    """Return the first training example as the model sees it, without encoding the others.

    Raises:
        InvalidInputError: the data cannot be read, or the tokenizer cannot encode the example.
    """
    notes = Notes()
    raw, _ = read_splits(task, notes)
    check_columns(raw, task)
    raw = without_empty_rows(raw, task, notes)
    classes = find_classes(raw, task, notes)
    tokenizer, rows = load_tokenizer(model), raw["train"]
    try:
        example = encode(rows.row(0), task.model_dump(), tokenizer, classes)
    except (ValueError, TypeError, KeyError) as error:
        what = f"the tokenizer cannot encode {rows.place(0)} ({error})"
        raise InvalidInputError(Problem("task.train", what, "Check the named columns.")) from error
    return _preview(rows.row(0), example, rows.place(0), task, tokenizer, classes)


def _preview(
    row: Row, example: Encoded, place: str, task: TaskSpec, tokenizer: Any, classes: Sequence[Any] | None
) -> ExamplePreview:
    ids, labels = example["input_ids"], example["labels"]
    generates = isinstance(labels, list)
    # A causal model predicts the next token, so the first one is never scored.
    learned = (
        [i > 0 and label != IGNORED for i, label in enumerate(labels)] if generates else [False] * len(ids)
    )
    return ExamplePreview(
        place=place,
        spans=tuple(_spans(ids, learned, tokenizer)),
        tokens=len(ids),
        learned=sum(learned) if generates else None,
        uncut=_uncut(row, example, task, tokenizer, classes),
        label=None if task.label is None else row[task.label],
        label_index=None if classes is None else int(labels),
    )


def _spans(ids: Sequence[int], learned: Sequence[bool], tokenizer: Any) -> list[Span]:
    """Return the decoded spans, whose texts together are the decoded example.

    A span is what its tokens add to the text before it: decoded alone, it would lose the space before its first word.
    """
    spans, end, before = [], 0, ""
    for is_learned, group in groupby(learned):
        start, end = end, end + len(list(group))
        whole = _decoded(ids[:end], tokenizer)
        added = whole[len(before) :] if whole.startswith(before) else _decoded(ids[start:end], tokenizer)
        spans.append(Span(added, is_learned))
        before = whole
    return spans


def _decoded(ids: Sequence[int], tokenizer: Any) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _uncut(row: Row, example: Encoded, task: TaskSpec, tokenizer: Any, classes: Sequence[Any] | None) -> int:
    tokens = len(example["input_ids"])
    if tokens < task.max_length:
        return tokens
    fields: Mapping[str, Any] = {**task.model_dump(), "max_length": _NO_LIMIT}
    return max(tokens, len(encode(row, fields, tokenizer, classes)["input_ids"]))
