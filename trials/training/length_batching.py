"""Rows of unlike length, cut so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

_TOKENS = {"cpu": 2048, "cuda": 65536}
"""Tokens in a chunk, at most, by device; more bring no more throughput."""
_COST = {"cpu": 64, "cuda": 4096}
"""What starting a chunk costs, in tokens: below so many saved, two chunks are not better than one."""


def suited_tokens(device: torch.device) -> int:
    """Tokens in a chunk beyond which a device becomes no faster."""
    return _TOKENS.get(device.type, _TOKENS["cuda"])


def starting_cost(device: torch.device) -> int:
    """What starting a chunk costs a device, in tokens."""
    return _COST.get(device.type, _COST["cuda"])


def chunks(
    lengths: NDArray[np.int_], limit: int, cost: int, most: int | None = None
) -> Iterator[NDArray[np.int_]]:
    """Rows cut into chunks of like length, so that padded tokens plus `cost` a chunk are fewest.

    Exact dynamic programming over the distinct lengths; a chunk of more than `limit` tokens or `most` rows is then
    divided evenly. Longest first, so that memory runs out early if it does.

    Args:
        lengths: shape [rows], tokens of each row.
    """
    sizes, counts = np.unique(lengths, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    best, start = np.zeros(len(sizes) + 1), np.zeros(len(sizes) + 1, dtype=int)
    for end in range(1, len(sizes) + 1):
        totals = best[:end] + cost + (below[end] - below[:end]) * sizes[end - 1]
        start[end] = int(totals.argmin())
        best[end] = totals[start[end]]
    order = np.argsort(lengths, kind="stable")
    end = len(sizes)
    while end > 0:
        rows = order[below[start[end]] : below[end]]
        pieces = max(-(-len(rows) * int(sizes[end - 1]) // limit), -(-len(rows) // (most or len(rows))))
        yield from np.array_split(rows, min(max(pieces, 1), len(rows)))
        end = start[end]
