"""An example as the model sees it: its decoded tokens, and which of them the loss covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from trials.data.notes import Notes
from trials.data.task_data import TaskData, encode_split, read_rows
from trials.data.tokenizers import load_image_reader, load_tokenizer
from trials.kinds.encoding import full_length
from trials.kinds.registry import find_kind
from trials.reading.encoding import IGNORED, Encoded, token_count
from trials.reading.images import image_text
from trials.reading.tables.rows import Row
from trials.tasks.specs import ModelSpec, TaskSpec

_FEW = 20
"""Rows of which one is shown: the first ones may have no target tokens."""


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
        rejected: of a preference pair, the spans of the prompt with the worse answer.
    """

    place: str
    spans: tuple[Span, ...]
    tokens: int
    learned: int | None
    uncut: int
    label: Any = None
    label_index: int | None = None
    rejected: tuple[Span, ...] = ()


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
    raw, _, classes = read_rows(task, notes)
    tokenizer = load_image_reader(model) if task.image else load_tokenizer(model)
    rows = raw["train"]
    few = rows.select(range(min(_FEW, len(rows))))
    encoded = encode_split(few, "train", task.model_dump(), tokenizer, classes, notes)
    first = encoded.kept[0]
    return _preview(few.row(first), encoded.examples[0], few.place(first), task, tokenizer, classes)


def _preview(
    row: Row, example: Encoded, place: str, task: TaskSpec, tokenizer: Any, classes: Sequence[Any] | None
) -> ExamplePreview:
    if task.image:
        return _image_preview(row, example, place, task)
    kind, generates = find_kind(task.type), task.label is None
    rows = [_read_in_order(example)] if kind.has_decoder else kind.rows(example)
    learned = [_learned(each) if generates else [False] * len(each["input_ids"]) for each in rows]
    spans = [tuple(_spans(r["input_ids"], which, tokenizer)) for r, which in zip(rows, learned, strict=True)]
    has_index = classes is not None and not isinstance(rows[0]["labels"], list)
    return ExamplePreview(
        place=place,
        spans=spans[0],
        tokens=max(len(each["input_ids"]) for each in rows),
        learned=sum(map(sum, learned)) if generates else None,
        uncut=full_length(row, task.model_dump(), tokenizer, classes),
        label=_label(row, task),
        label_index=int(rows[0]["labels"]) if has_index else None,
        rejected=spans[1] if len(spans) > 1 else (),
    )


def _read_in_order(example: Encoded) -> Encoded:
    """Return the tokens of encoder and decoder as one row."""
    inputs, labels = example["input_ids"], example["labels"]
    return {"input_ids": [*inputs, *labels], "labels": [IGNORED] * len(inputs) + labels}


def _image_preview(row: Row, example: Encoded, place: str, task: TaskSpec) -> ExamplePreview:
    shape = " × ".join(map(str, example["pixel_values"].shape))
    text, tokens = f"{image_text(row[str(task.image)])}, read as {shape}", token_count(example)
    spans, label = (Span(text, False),), row[str(task.label)]
    return ExamplePreview(place, spans, tokens, None, tokens, label, example["labels"])


def _learned(row: Encoded) -> list[bool]:
    """Return whether the loss covers each token of a row; a causal model never predicts the first one."""
    return [i > 0 and label != IGNORED for i, label in enumerate(row["labels"])]


def _label(row: Row, task: TaskSpec) -> Any:
    """Return the label to predict; for words with a tag each, the text of both."""
    if task.label is None or find_kind(task.type).label_form != "words":
        return None if task.label is None else row[task.label]
    pairs = zip(row[task.text[0]], row[task.label], strict=True)
    return " ".join(f"{word}/{tag}" for word, tag in pairs)


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
