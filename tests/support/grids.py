"""Grids of test parameters of which every run tests a part and `-m slow` the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from search_spaces.families import REGISTRY

REPRESENTATIVES = (
    *("lora", "adalora", "ia3", "oft", "vera", "norm", "prefix", "prompt", "head", "full"),
    *("serial", "composite", "autopeft", "lily"),
)
"""One family of each way to be built and trained: products, ranks that move, rescalings, rotations, shared random
factors, the model's own parameters, prefixes and prompts, bottlenecks, parts, rows that mix."""


def every_family(usual: Sequence[str] = REPRESENTATIVES) -> list[Any]:
    """Return every registered family as a parameter; those that are not `usual` are slow."""
    return [pytest.param(name, marks=() if name in usual else pytest.mark.slow) for name in sorted(REGISTRY)]


def pairwise(rows: Sequence[Any], columns: Sequence[Any]) -> list[Any]:
    """Return every row with every column as parameters; all but one column per row, in turn, are slow."""
    return [
        pytest.param(row, column, marks=() if turn % len(columns) == place else pytest.mark.slow)
        for turn, row in enumerate(rows)
        for place, column in enumerate(columns)
    ]
