"""Tokens of the training data in the configuration of an adapter: frequent ones, or those of its first examples.

This file needs only torch, and an exported run carries a copy of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from peft import PeftConfig

    from trials.base.initialization import Pass

_IGNORED = -100
"""The label of tokens that the loss does not cover."""


def complete_config(config: PeftConfig, method: str, passes: Iterable[Pass]) -> None:
    """Set the token ids of a peft configuration to tokens of the training data, as many as it has.

    Args:
        config: The configuration.
        method: `frequent_tokens` or `context_tokens`; other methods change nothing.
        passes: Batches with `input_ids` and, if they are padded, `attention_mask`, shape [rows, tokens].
    """
    if method == "frequent_tokens":
        config.trainable_token_indices = _frequent(passes, len(config.trainable_token_indices))
    elif method == "context_tokens":
        config.cpt_token_ids, config.cpt_tokens_type_mask = _context(passes, len(config.cpt_token_ids))


def _frequent(passes: Iterable[Pass], number: int) -> list[int]:
    """Return the ids of the most frequent tokens, in order.

    Of equally frequent tokens, the one with the smaller id is first. Tokens that no batch has fill the places of
    those that are missing; they are never trained, because no input contains them.
    """
    counts = Counter(token for ids, _ in _examples(passes) for token in ids)
    ranked = sorted(counts, key=lambda token: (-counts[token], token))[:number]
    unseen = (token for token in range(number + len(counts)) if token not in counts)
    return sorted([*ranked, *(next(unseen) for _ in range(number - len(ranked)))])


def _context(passes: Iterable[Pass], number: int) -> tuple[list[int], list[int]]:
    """Return the first tokens of the examples, repeated if there are too few, and their types in peft's CPT.

    The types of example k, counted from 0, are 4k + 2 for its input and 4k + 4 for its answer. The last token of the
    context belongs to an answer, because peft counts on from the type of the last one.
    """
    ids, types = list[int](), list[int]()
    for number_of_example, (example, is_answer) in enumerate(cycle(_examples(passes))):
        if all(is_answer):
            is_answer = [False] * (len(example) - 1) + [True]
        ids += example
        types += [4 * number_of_example + (4 if answer else 2) for answer in is_answer]
        if len(ids) >= number:
            break
    types[number - 1] += types[number - 1] % 4
    return ids[:number], types[:number]


def _examples(passes: Iterable[Pass]) -> Iterator[tuple[list[int], list[bool]]]:
    """Yield the tokens of each row without padding, and whether each is in an answer."""
    for inputs, _, labels in passes:
        ids = inputs["input_ids"]
        is_answer = (
            torch.ones_like(ids) if labels is None or labels.shape != ids.shape else labels != _IGNORED
        )
        mask = inputs.get("attention_mask", torch.ones_like(ids)).bool()
        for row, answers, kept in zip(ids, is_answer, mask, strict=True):
            yield row[kept].tolist(), answers[kept].bool().tolist()
