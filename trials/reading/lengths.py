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
        lengths: Tokens of each example without the limit, shape [n].
        targets: Tokens that the loss covers without the limit, over all examples; 0 for tasks with labels.
        lost: How many of them are cut.
        shortened: Examples that lose some of them.
    """

    limit: int
    lengths: NDArray[np.int64]
    targets: int = 0
    lost: int = 0
    shortened: int = 0

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
        whole = f"{len(self.lengths):,} {SPLIT_ADJECTIVES.get(split, split)} examples"
        if not self.count and self.lost:  # of a decoder, whose limit is another
            share = 100 * self.lost / self.targets
            lost = f"lose the end of what is learned, {share:.2g} % of all target tokens"
            return f"{self.shortened:,} of {whole} {lost}"
        if not self.count:
            return ""
        examples = f"{self.count:,} of {whole}"
        middle, longest = np.median(self.lengths), self.lengths.max()
        words = f"{examples} are cut at {self.limit:,} tokens (median {middle:,.0f}, longest {longest:,})"
        if self.lost:
            share = 100 * self.lost / self.targets
            words += (
                f"; {self.shortened:,} lose the end of what is learned, {share:.2g} % of all target tokens"
            )
        return words


def measured_cut(limit: int, encodings: Sequence[tuple[int, int, int]]) -> Cut:
    """Return what a limit cuts of examples.

    Args:
        limit: Tokens.
        encodings: For each example its tokens and its target tokens without the limit, and its target tokens within.
    """
    lengths, targets, within = np.array(encodings, dtype=np.int64).reshape(-1, 3).T
    lost = targets - within
    return Cut(limit, lengths, int(targets.sum()), int(lost.sum()), int((lost > 0).sum()))
