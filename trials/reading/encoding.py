"""Encoding of rows of text as token ids and labels: the same in the search and in an exported run.

`task` is the mapping of a task spec's fields. The loss does not cover labels of IGNORED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .chat import render_chat
from .chat_templates import AUTO, find_template, require_template
from .forms import Chat, read_example, with_merged_system
from .labels import TargetScale
from .sequences import shared_length
from .special_tokens import choose_padding
from .tables.rows import Row

IGNORED = -100
"""The label that torch's cross entropy excludes."""

Encoded = dict[str, Any]
_APART = 1
"""The data version of sweeps that began when prompts and completions were encoded apart."""


def prepare_tokenizer(tokenizer: Any) -> Any:
    """Return the tokenizer with a padding token, see `choose_padding`."""
    return choose_padding(tokenizer)


@dataclass(frozen=True)
class Encoding:
    """The encoding of one row.

    Args:
        example: The inputs of the model and the labels, cut to the task's `max_length`.
        full_length: The number of tokens before the cut.
        full_targets: The number of tokens that the loss covers before the cut; 0 for tasks with labels.
        remarks: What was decided or left out for this row, for the user.
    """

    example: Encoded
    full_length: int
    full_targets: int = 0
    remarks: tuple[str, ...] = ()


def encode(row: Row, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None) -> Encoded:
    """Return the token ids (`input_ids`, and other inputs of the model) and `labels` of one row.

    The labels of a causal language model are token ids, and IGNORED outside the target tokens. All of them are
    IGNORED if no target token is within `max_length`.

    Args:
        row: The values by column.
        task: The fields of the task's spec; for a regression also `target_scale`, the fields of a `TargetScale` by
            which targets are standardized, or None.
        tokenizer: The model's tokenizer.
        classes: The label values in order for classification, else None.

    Raises:
        RowError: The row has another form than its task says, or the chat template refuses it.
        DataError: The data are chats and there is no chat template.
    """
    return encode_fully(row, task, tokenizer, classes).example


def encode_fully(
    row: Row, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
) -> Encoding:
    """Return what `encode` does, with the length before the cut and with remarks."""
    if task["type"] == "causal-lm":
        return _encode_causal(row, task, tokenizer)
    texts = [row[column] for column in task["text"]]
    encoded = dict(tokenizer(*texts, truncation=True, max_length=task["max_length"]))
    length = len(encoded["input_ids"])
    if length >= task["max_length"]:
        length = len(tokenizer(*texts, verbose=False)["input_ids"])
    label = row[task["label"]]
    encoded["labels"] = _target(float(label), task) if classes is None else list(classes).index(label)
    return Encoding(encoded, length)


def _target(value: float, task: Mapping[str, Any]) -> float:
    scale = task.get("target_scale")
    return value if scale is None else float(TargetScale(**scale).standardize(value))


def full_length(row: Row, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None) -> int:
    """Return the number of tokens of a row before `max_length` cuts it."""
    return encode_fully(row, task, tokenizer, classes).full_length


def _encode_causal(row: Row, task: Mapping[str, Any], tokenizer: Any) -> Encoding:
    if task.get("data_version") == _APART and task["completion"]:
        return _encode_apart(row, task, tokenizer)
    choice = task.get("chat_template", AUTO)
    as_chat = not task["text"] and find_template(tokenizer, choice) is not None
    example = read_example(row, task, as_chat=as_chat)
    remarks = example.remarks
    if isinstance(example, Chat):
        example = with_merged_system(example) if task.get("merge_system") else example
        template = require_template(tokenizer, choice, with_tools=bool(example.tools))
        rendered = render_chat(example, template)
        remarks = rendered.remarks
        ids, labels = tokens_and_labels(rendered.text, rendered.spans, tokenizer, with_special_tokens=False)
        if not rendered.is_closed and (end := tokenizer.eos_token_id) is not None:
            ids, labels = [*ids, end], [*labels, end]
    else:
        text, start = example.prompt + example.completion, len(example.prompt)
        ids, labels = tokens_and_labels(text, [(start, len(text))], tokenizer, with_special_tokens=True)
        ids, labels = _closed(ids, labels, tokenizer)
        if not example.prompt:
            labels = list(ids)
    return _cut(ids, labels, task, remarks)


def _encode_apart(row: Row, task: Mapping[str, Any], tokenizer: Any) -> Encoding:
    """Encode prompt and completion apart and without a chat template, as sweeps of data version 1 began."""
    prompt = list(tokenizer(row[task["prompt"]], verbose=False)["input_ids"])
    if prompt and prompt[-1] == tokenizer.eos_token_id:
        prompt = prompt[:-1]  # some tokenizers end every text; the completion follows
    completion = list(
        tokenizer(row[task["completion"]], add_special_tokens=False, verbose=False)["input_ids"]
    )
    completion, _ = _closed(completion, completion, tokenizer)
    return _cut(prompt + completion, [IGNORED] * len(prompt) + completion, task, ())


def _cut(ids: list[int], labels: list[int], task: Mapping[str, Any], remarks: tuple[str, ...]) -> Encoding:
    limit = task["max_length"]
    cut = {"input_ids": ids[:limit], "attention_mask": [1] * len(ids[:limit]), "labels": labels[:limit]}
    return Encoding(cut, len(ids), count_targets(labels), remarks)


def count_targets(labels: Any) -> int:
    """Return how many tokens the loss covers; the first one is predicted from nothing. A label covers none."""
    return len(labels[1:]) - labels[1:].count(IGNORED) if isinstance(labels, list) else 0


def _closed(ids: list[int], labels: list[int], tokenizer: Any) -> tuple[list[int], list[int]]:
    end = tokenizer.eos_token_id
    if end is None:
        return ids, labels
    if ids and ids[-1] == end:  # some tokenizers end every text
        return ids, [*labels[:-1], end]
    return [*ids, end], [*labels, end]


def tokens_and_labels(
    text: str, spans: Sequence[tuple[int, int]], tokenizer: Any, *, with_special_tokens: bool
) -> tuple[list[int], list[int]]:
    """Return the token ids of a text, and as labels the ids of the tokens that reach into a span, else IGNORED.

    Args:
        text: The text.
        spans: The characters that the loss covers.
        tokenizer: The tokenizer. One without offsets is called for the text up to each end of a span.
        with_special_tokens: Whether the tokenizer adds its special tokens, such as one at the beginning.
    """
    if not tokenizer.is_fast:
        return _by_prefixes(text, spans, tokenizer, with_special_tokens)
    encoded = tokenizer(
        text, add_special_tokens=with_special_tokens, return_offsets_mapping=True, verbose=False
    )
    ids = list(encoded["input_ids"])
    labels = [
        token if any(begin < stop and end > start for start, stop in spans) else IGNORED
        for token, (begin, end) in zip(ids, encoded["offset_mapping"], strict=True)
    ]
    return ids, labels


def _by_prefixes(
    text: str, spans: Sequence[tuple[int, int]], tokenizer: Any, with_special_tokens: bool
) -> tuple[list[int], list[int]]:
    ids = list(tokenizer(text, add_special_tokens=with_special_tokens, verbose=False)["input_ids"])
    labels = [IGNORED] * len(ids)
    for span in spans:
        start, stop = (_tokens_before(place, text, ids, tokenizer, with_special_tokens) for place in span)
        labels[start:stop] = ids[start:stop]
    return ids, labels


def _tokens_before(
    place: int, text: str, ids: Sequence[int], tokenizer: Any, with_special_tokens: bool
) -> int:
    before = tokenizer(text[:place], add_special_tokens=with_special_tokens)["input_ids"]
    return shared_length(before, ids)


def collate(examples: Sequence[Encoded], tokenizer: Any) -> dict[str, Any]:
    """Return a batch of tensors, padded to its longest example: on the right, but see `match_tokens`."""
    import torch

    inputs = [{k: v for k, v in example.items() if k != "labels"} for example in examples]
    side = "left" if getattr(tokenizer, "head_reads_last_position", False) else "right"
    batch = dict(tokenizer.pad(inputs, padding_side=side, return_tensors="pt"))
    labels = [example["labels"] for example in examples]
    if isinstance(labels[0], list):
        width = batch["input_ids"].shape[1]
        labels = [row + [IGNORED] * (width - len(row)) for row in labels]
    batch["labels"] = torch.tensor(labels)
    return batch
