"""Division of rows of different length into batches and chunks with little padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.parameters.amounts import samples_seen
from trials.reading.encoding import Encoded, token_count

_TOKENS = {"cpu": 2048, "cuda": 65536}
"""The maximum number of tokens per chunk, by device; more do not increase throughput."""
_COST = {"cpu": 64, "cuda": 4096}
"""The cost of starting a chunk, in tokens: two chunks are faster than one only if they save more than this."""
_CHUNK = 32
"""The number of batches that are sorted by length together, so that a batch has similar lengths and yet every epoch
has other batches."""


def suited_tokens(device: torch.device) -> int:
    """Return the tokens per chunk above which a device becomes no faster."""
    return _TOKENS.get(device.type, _TOKENS["cuda"])


def starting_cost(device: torch.device) -> int:
    """Return the cost of starting a chunk on a device, in tokens."""
    return _COST.get(device.type, _COST["cuda"])


def chunks(
    lengths: NDArray[np.int_], limit: int, cost: int, most: int | None = None
) -> Iterator[NDArray[np.int_]]:
    """Yield the row indices of chunks of similar length that minimize padded tokens plus `cost` per chunk.

    Exact dynamic programming over the distinct lengths; a chunk of more than `limit` tokens or `most` rows is then
    divided evenly. The longest rows come first, so that a shortage of memory shows early.

    Args:
        lengths: Tokens of each row, shape [rows].
        limit: The maximum number of tokens per chunk, padding included.
        cost: The cost of starting a chunk, in tokens.
        most: The maximum number of rows per chunk; None for no limit.
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


def batches(examples: Sequence[Encoded], batch_size: int, epochs: float, seed: int) -> Iterator[list[int]]:
    """Yield the example indices of each batch.

    The examples are shuffled, then sorted by length within chunks of some batches, then the batches are shuffled, so
    that little is padded and the order still changes from epoch to epoch. A last epoch that is not whole has the
    first examples of its own shuffled order.
    """
    rng = np.random.default_rng(seed)
    lengths = np.array([token_count(example) for example in examples])
    seen = samples_seen(epochs, len(examples))
    for before in range(0, seen, len(examples)):
        order = rng.permutation(len(examples))[: seen - before]
        epoch: list[list[int]] = []
        for start in range(0, len(order), batch_size * _CHUNK):
            chunk = order[start : start + batch_size * _CHUNK]
            chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
            epoch += [chunk[i : i + batch_size].tolist() for i in range(0, len(chunk), batch_size)]
        yield from (epoch[i] for i in rng.permutation(len(epoch)))


def padded_lengths(
    examples: Sequence[Any], batch_size: int, seed: int = 0, count: Callable[[Encoded], int] = token_count
) -> tuple[float, float]:
    """Return the mean and the mean square of the tokens per example once its batch is padded, as `count` counts."""
    lengths = np.array([count(example) for example in examples], dtype=float)
    widths = np.concatenate(
        [np.full(len(batch), lengths[batch].max()) for batch in batches(examples, batch_size, 1, seed)]
    )
    return float(widths.mean()), float((widths**2).mean())
