"""Notes and warnings about the examples that a limit of tokens cuts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from trials.data.notes import Notes
from trials.reading.lengths import Cut

TOLERATED = 0.02
"""The share of cut training examples above which the limit is questioned."""
_STEP = 32
"""Proposed limits are multiples of it."""
_REAL_LIMIT = 2**20
"""Tokenizers without a limit of their own have a number far above it."""


def note_cuts(cuts: Mapping[str, Cut], tokenizer: Any, notes: Notes, *, is_meant: bool = False) -> None:
    """Note what the limit of tokens cuts of each split, or warn of it if it cuts more than a few examples.

    Args:
        cuts: What is cut, by split.
        tokenizer: The model's tokenizer, which may know how many tokens the model reads.
        notes: Receives the sentences.
        is_meant: Whether the limit cuts on purpose, so that nothing is a warning.
    """
    for split, cut in cuts.items():
        warns = split == "train" and not is_meant
        if text := cut.text(split):
            if warns and cut.share > TOLERATED:
                notes.warn(f"{text}; {_advice(cut, tokenizer)}")
            else:
                notes.note(text)
        if text := cut.target_text(split):
            if warns and cut.shortened > TOLERATED * len(cut.lengths):
                notes.warn(f"{text}; raise max_target_length, or shorten them")
            else:
                notes.note(text)


def cut_note(what: str, whole: Cut, limits: Iterable[int]) -> str:
    """Return how many training examples each of several limits cuts; empty if they cut none.

    Args:
        what: What has these limits.
        whole: What the limit of the task cuts of the training examples.
        limits: Tokens.
    """
    cuts = [replace(whole, limit=limit) for limit in sorted(set(limits))]
    parts = [f"{cut.count:,} at {cut.limit:,} tokens" for cut in cuts if cut.count]
    if not parts:
        return ""
    return f"{what} cuts training examples, of {len(whole.lengths):,}: {', '.join(parts)}"


def _advice(cut: Cut, tokenizer: Any) -> str:
    enough = sufficient_length(cut.lengths)
    readable = int(tokenizer.model_max_length)
    if readable >= enough or readable > _REAL_LIMIT:
        return f"max_length: {enough} would cut at most {TOLERATED:.0%} of them"
    if readable > cut.limit:
        return f"the model reads {readable:,} tokens: raise max_length, or shorten the texts"
    return f"the model reads no more than {readable:,} tokens: shorten the texts, or choose another model"


def sufficient_length(lengths: Any) -> int:
    """Return the limit of tokens, rounded up, that cuts at most a tolerated share of examples.

    Args:
        lengths: Tokens of each example, shape [n].
    """
    enough = float(np.quantile(lengths, 1 - TOLERATED, method="higher"))
    return max(_STEP, _STEP * -(-int(enough) // _STEP))
