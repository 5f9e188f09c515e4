"""Random subsets of examples, the same for every trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Example = TypeVar("Example")


def subset(examples: Sequence[Example], size: int | None, seed: int) -> Sequence[Example]:
    """Return a random subset of at most `size` examples, the same for every trial.

    A smaller subset is the beginning of a larger one.
    """
    if size is None or size >= len(examples):
        return examples
    order = np.random.default_rng(seed).permutation(len(examples))[:size]
    return [examples[i] for i in order]
