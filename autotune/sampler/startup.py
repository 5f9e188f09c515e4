"""The startup sequence: default configurations and a design that is spread over the known costs, cheap trials first.

The first part has as many configurations as there are startup trials: the default configuration of each family,
and points of a scrambled Sobol sequence of which there is one in each of equal intervals of a known cost. It is in
ascending order of the cost of a trial, so that a front exists after a few short trials and a search that ends early
has seen the cheap half of the space. The Sobol sequence follows. With a prior, its points alternate with those of the
sequence in the first part alone, so that what follows can correct a wrong prior.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.candidates import EncodedSpace
from search_spaces.parameters.types import Configuration

Array = NDArray[np.float64]
Costs = Callable[[Sequence[Configuration]], Array]
"""A function from c configurations to k costs each, shape [c, k], NaN or infinite where infeasible."""

_POOL = 256
"""Points of the Sobol sequence that the design is chosen from."""
_TAIL = 0.02
"""Share of the pool beyond either end of the range of costs that is divided into intervals."""


def startup_sequence(
    columns: EncodedSpace,
    defaults: Sequence[Configuration],
    count: int,
    *,
    seed: int,
    costs: Costs,
    trial_cost: Callable[[Sequence[Configuration]], Array] | None,
    preferred: Array | None = None,
) -> Iterator[Configuration]:
    """Yield the configurations of the sequence without end; infeasible ones are among them after the first `count`.

    Args:
        columns: the encoded space.
        defaults: the configurations that must be among the first.
        count: number of startup trials.
        seed: of the scrambled Sobol sequence.
        costs: known costs that the design is spread over; k may be 0.
        trial_cost: cost of a trial of each of c configurations, shape [c], which orders the design; None to keep the
            order of defaults and sequence.
        preferred: encoded rows of a prior, shape [p, d], which alternate with the points of the sequence in the
            design; None without a prior.
    """
    rows = columns.sobol(0, _POOL, seed)
    pool = columns.configurations(rows)
    offered = pool if preferred is None else columns.configurations(_alternated(preferred, rows))
    design = _design(list(defaults)[:count], offered, count, costs)
    if trial_cost is not None and design:
        design = [design[i] for i in np.argsort(trial_cost(design), kind="stable")]
    yield from design
    yield from defaults[count:]
    yield from pool
    start, length = _POOL, _POOL
    while True:
        yield from columns.configurations(columns.sobol(start, length, seed))
        start, length = start + length, 2 * length


def _alternated(first: Array, second: Array) -> Array:
    """Return the rows of two arrays of equal width in turn, then the rest of the longer one."""
    shared = min(len(first), len(second))
    turns = np.stack([first[:shared], second[:shared]], axis=1).reshape(2 * shared, -1)
    return np.concatenate([turns, first[shared:], second[shared:]])


def _design(
    chosen: list[Configuration], pool: Sequence[Configuration], count: int, costs: Costs
) -> list[Configuration]:
    """Return `chosen` with feasible configurations of the pool, `count` together if there are enough."""
    values = costs(pool)
    feasible = np.isfinite(values).all(axis=1)
    k, missing = values.shape[1], count - len(chosen)
    taken: list[int] = []
    for i in range(missing if k else 0):
        j = i % k
        low, high = np.quantile(values[feasible, j], [_TAIL, 1.0 - _TAIL]) if feasible.any() else (0.0, 0.0)
        intervals = (missing - j + k - 1) // k
        edges = np.linspace(low, high, intervals + 1)
        place = i // k
        inside = feasible & (values[:, j] >= edges[place]) & (values[:, j] <= edges[place + 1])
        inside[taken] = False
        if inside.any():
            taken.append(int(inside.argmax()))
    rest = [i for i in np.flatnonzero(feasible).tolist() if i not in set(taken)]
    return chosen + [pool[i] for i in [*taken, *rest][:missing]]
