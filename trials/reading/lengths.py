"""Lengths of examples in tokens, and what a limit cuts of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPLIT_ADJECTIVES = {"train": "training"}
"""The names of splits in sentences, where they differ."""


@dataclass(frozen=True)
class Cut:
    """What a limit cuts of the examples of a split.

    Args:
        limit: Tokens.
        lengths: Tokens of each example without the limit, shape [n]; of its prompt alone if completions have a limit
            of their own.
        targets: Tokens that the loss covers without the limit, over all examples; 0 for tasks with labels.
        lost: How many of them are cut.
        shortened: Examples that lose some of them.
        target_limit: Tokens of a completion, where these have a limit of their own; else None.
    """

    limit: int
    lengths: NDArray[np.int64]
    targets: int = 0
    lost: int = 0
    shortened: int = 0
    target_limit: int | None = None

    @property
    def count(self) -> int:
        """How many examples are longer than the limit."""
        return int((self.lengths > self.limit).sum())

    @property
    def share(self) -> float:
        """The share of examples that are longer than the limit."""
        return self.count / len(self.lengths) if len(self.lengths) else 0.0

    def text(self, split: str) -> str:
        """Return a sentence about the cut examples; empty if there are none."""
        if not self.count:
            return ""
        what = "examples" if self.target_limit is None else "prompts"
        examples = f"{self.count:,} of {self._all(split, what)}"
        middle, longest = np.median(self.lengths), self.lengths.max()
        words = f"{examples} are cut at {self.limit:,} tokens (median {middle:,.0f}, longest {longest:,})"
        if self.lost and self.target_limit is None:
            words += f"; {self.shortened:,} lose the end of what is learned, {self._lost_share} of all target tokens"
        return words

    def target_text(self, split: str) -> str:
        """Return a sentence about completions that a limit of their own cuts; empty if there are none."""
        if self.target_limit is None or not self.shortened:
            return ""
        completions = f"{self.shortened:,} of {self._all(split, 'completions')}"
        return (
            f"{completions} are cut at {self.target_limit:,} tokens, "
            f"and lose {self._lost_share} of all target tokens"
        )

    @property
    def _lost_share(self) -> str:
        return f"{100 * self.lost / self.targets:.2g} %"

    def _all(self, split: str, what: str) -> str:
        return f"{len(self.lengths):,} {SPLIT_ADJECTIVES.get(split, split)} {what}"


def measured_cut(
    limit: int, encodings: Sequence[tuple[int, int, int]], target_limit: int | None = None
) -> Cut:
    """Return what a limit cuts of examples.

    Args:
        limit: Tokens.
        encodings: For each example its tokens and its target tokens without the limit, and its target tokens within.
        target_limit: Tokens of a completion, where these have a limit of their own.
    """
    lengths, targets, within = np.array(encodings, dtype=np.int64).reshape(-1, 3).T
    lost = targets - within
    return Cut(limit, lengths, int(targets.sum()), int(lost.sum()), int((lost > 0).sum()), target_limit)
