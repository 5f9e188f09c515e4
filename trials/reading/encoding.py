"""Encoding of rows of text as token ids and labels: the same in the search and in an exported run.

`task` is the mapping of a task spec's fields. The loss does not cover labels of IGNORED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .rows import Row
from .special_tokens import choose_padding

IGNORED = -100
"""The label that torch's cross entropy excludes."""

Encoded = dict[str, Any]


def prepare_tokenizer(tokenizer: Any) -> Any:
    """Return the tokenizer with a padding token, see `choose_padding`."""
    return choose_padding(tokenizer)


def encode(row: Row, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None) -> Encoded:
    """Return the token ids (`input_ids`, and other inputs of the model) and `labels` of one row.

    The labels of a causal language model are token ids, and IGNORED outside the target tokens. All of them are
    IGNORED if no target token is within `max_length`.

    Args:
        row: The values by column.
        task: The fields of the task's spec.
        tokenizer: The model's tokenizer.
        classes: The label values in order for classification, else None.
    """
    if task["type"] == "causal-lm":
        return _encode_causal(row, task, tokenizer)
    texts = [row[column] for column in task["text"]]
    encoded = dict(tokenizer(*texts, truncation=True, max_length=task["max_length"]))
    label = row[task["label"]]
    encoded["labels"] = float(label) if classes is None else list(classes).index(label)
    return encoded


def _encode_causal(row: Row, task: Mapping[str, Any], tokenizer: Any) -> Encoded:
    if task["messages"]:
        ids, labels = _encode_messages(row[task["messages"]], tokenizer)
    elif task["prompt"]:
        prompt = tokenizer(row[task["prompt"]])["input_ids"]
        if prompt and prompt[-1] == tokenizer.eos_token_id:
            prompt = prompt[:-1]  # some tokenizers end every text; the completion follows
        completion = tokenizer(row[task["completion"]], add_special_tokens=False)["input_ids"]
        completion = _closed(completion, tokenizer)
        ids, labels = prompt + completion, [IGNORED] * len(prompt) + completion
    else:
        ids = _closed(tokenizer(row[task["text"][0]])["input_ids"], tokenizer)
        labels = list(ids)
    limit = task["max_length"]
    return {"input_ids": ids[:limit], "attention_mask": [1] * len(ids[:limit]), "labels": labels[:limit]}


def _closed(ids: list[int], tokenizer: Any) -> list[int]:
    end = tokenizer.eos_token_id
    return ids if end is None or (ids and ids[-1] == end) else [*ids, end]


def _encode_messages(messages: Sequence[Row], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Encode a chat with the tokenizer's template; only assistant turns have labels.

    The text of assistant turn i is what the template adds when turn i follows its generation prompt. So the spans are
    found in characters, and mapped to tokens by the tokenizer's offsets.
    """
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    learned: list[tuple[int, int]] = []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(messages[:turn], tokenize=False, add_generation_prompt=True)
        after = tokenizer.apply_chat_template(messages[: turn + 1], tokenize=False)
        if not (text.startswith(after) and after.startswith(before)):
            raise ValueError(
                "the tokenizer's chat template rewrites earlier turns, so the assistant turns cannot be located; "
                "use prompt and completion columns instead of messages"
            )
        learned.append((len(before), len(after)))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    labels = [
        token if any(start <= begin < end for start, end in learned) else IGNORED
        for token, (begin, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
    return encoded["input_ids"], labels


def collate(examples: Sequence[Encoded], tokenizer: Any) -> dict[str, Any]:
    """Return a batch of tensors, padded on the right to its longest example."""
    import torch

    inputs = [{k: v for k, v in example.items() if k != "labels"} for example in examples]
    batch = dict(tokenizer.pad(inputs, padding_side="right", return_tensors="pt"))
    labels = [example["labels"] for example in examples]
    if isinstance(labels[0], list):
        width = batch["input_ids"].shape[1]
        labels = [row + [IGNORED] * (width - len(row)) for row in labels]
    batch["labels"] = torch.tensor(labels)
    return batch
