"""Token ids and labels of texts, and their padding: the same in the search and in an exported run.

The loss does not cover labels of IGNORED.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .sequences import shared_length
from .special_tokens import choose_padding

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""The label that torch's cross entropy excludes."""

Encoded = dict[str, Any]
PROMPT, REFERENCE = "prompt_ids", "reference_text"
"""The entries of an example that generation reads: the tokens of its prompt, and the text that should follow."""
NO_INPUTS = ("labels", "length", "tags", "words", PROMPT, REFERENCE)
"""Entries of an example that the model does not read."""


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


def cut_tokens(ids: list[int], labels: list[int], limit: int, remarks: tuple[str, ...]) -> Encoding:
    """Return the encoding of token ids and labels that are cut at `limit` tokens."""
    cut = {"input_ids": ids[:limit], "attention_mask": [1] * len(ids[:limit]), "labels": labels[:limit]}
    return Encoding(cut, len(ids), count_targets(labels), remarks)


def count_targets(labels: list[int]) -> int:
    """Return how many tokens the loss covers; the first one is predicted from nothing."""
    return len(labels[1:]) - labels[1:].count(IGNORED)


def token_count(example: Encoded) -> int:
    """Return how many tokens the model reads of an example, without padding.

    An entry `length` states it for examples that have no `input_ids`, or more than these.
    """
    return example["length"] if "length" in example else len(example["input_ids"])


def closed(ids: list[int], labels: list[int], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return token ids and labels that end with the tokenizer's token for the end of a text, if it has one."""
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


def padded(
    examples: Sequence[Encoded], tokenizer: Any, side: Literal["left", "right"] | None = None
) -> dict[str, torch.Tensor]:
    """Return the inputs of a batch, padded to its longest example: on the right by default, see `match_tokens`."""
    inputs = [{k: v for k, v in example.items() if k not in NO_INPUTS} for example in examples]
    side = side or ("left" if getattr(tokenizer, "head_reads_last_position", False) else "right")
    return dict(tokenizer.pad(inputs, padding_side=side, return_tensors="pt"))


def padded_labels(examples: Sequence[Encoded], width: int) -> torch.Tensor:
    """Return the labels of each token, IGNORED on the right of the shorter examples, shape [n, width]."""
    import torch

    rows = [example["labels"] for example in examples]
    return torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows])
