"""Random configurations that keep constraints, however few of them there are.

Rejection alone would take 1/p draws for a region of share p. So a few draws are tried, and what is missing is
found by chains: each begins at a random configuration and takes local steps that do not increase the total
excess, until it is inside; then it walks on inside, so that it does not stay where it came in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.candidates import Columns
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]
Excess = Callable[[Sequence[Configuration]], Array]
"""Shape [c, k] for c configurations: how far each breaks each constraint, at most 0 where it keeps it."""

_DRAWS = 256
_STEPS = (0.3, 0.1, 0.03, 0.01)
_APPROACHES = 240
"""Local steps of a chain before it is given up."""
_STUCK = 60
"""Steps after which a chain that is outside still moves to a better chain's place. After twice as many
without any improvement of the best there is nothing to be found."""
_WALKS = 24
_CHAINS = 16


@dataclass(frozen=True)
class Draw:
    """What was found.

    Args:
        rows: shape [n, d], encoded, inside; n is the number asked for, or 0 where nothing inside was found.
        nearest: the configurations nearest to the inside, for a message, where nothing was found.
    """

    rows: Array
    nearest: list[Configuration]


def sample_within(
    space: SearchSpace, excess: Excess, count: int, rng: np.random.Generator
) -> list[Configuration]:
    """`count` random configurations that keep the constraints; `SearchSpace.sample` for a constrained space.

    Where the constraints leave more than a few per cent of the space, the draws are independent and follow
    `SearchSpace.sample`; where they leave less, they are spread over what is left but not evenly.

    Raises:
        ValueError: nothing inside was found; the message names the least excess.
    """
    columns = Columns(space)
    draw = draw_within(columns, excess, count, rng)
    if not len(draw.rows):
        worst = excess(draw.nearest).max(axis=1)
        raise ValueError(
            f"constraints: found no configuration that keeps all of them; the nearest breaks one by "
            f"{100 * float(worst.min()):.3g} % of its limit; relax it or widen the space"
        )
    return columns.configurations(draw.rows)


def draw_within(columns: Columns, excess: Excess, count: int, rng: np.random.Generator) -> Draw:
    """`count` random encoded rows that keep the constraints (repetitions are possible)."""

    def total(rows: Array) -> Array:
        return total_excess(excess(columns.configurations(rows)))

    rows = columns.random(max(_DRAWS, 2 * count), rng)
    outside = total(rows)
    inside = rows[outside == 0]
    if 0 < len(inside) < count and len(inside) * 32 > len(rows):
        more = columns.random(len(rows) * min(count // len(inside), 32), rng)
        inside = np.concatenate([inside, more[total(more) == 0]])
    if len(inside) >= count:
        return Draw(inside[:count], [])
    chains = max(count - len(inside), _CHAINS)
    # The best of eight random ones each: near, and still from everywhere.
    entrants = rng.integers(len(rows), size=(chains, 8))
    chosen = entrants[np.arange(chains), outside[entrants].argmin(axis=1)]
    chain, outside = rows[chosen], outside[chosen]
    chain, outside = _approach(columns, total, chain, outside, rng)
    found = np.concatenate([inside, _walk(columns, total, chain[outside == 0], rng)])
    if not len(found):
        order = np.argsort(outside, kind="stable")
        return Draw(found, columns.configurations(chain[order]))
    if len(found) < count:
        again = found[rng.integers(len(found), size=count - len(found))]
        found = np.concatenate([found, _walk(columns, total, again, rng)])
    return Draw(found[rng.permutation(len(found))[:count]], [])


def total_excess(excess: Array) -> Array:
    """Shape [c]: 0 inside, and else one number that falls as any of the excesses [c, k] falls."""
    over = np.where(np.isnan(excess), 1e300, np.clip(excess, 0.0, 1e300))
    return np.log1p(over).sum(axis=1)


def _approach(
    columns: Columns, total: Callable[[Array], Array], chain: Array, outside: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Move every row of the chain until its total excess is 0, or until it is given up."""
    chain, outside = chain.copy(), outside.copy()
    best, best_step = outside.min(), 0
    for step in range(_APPROACHES):
        if outside.min() < best:
            best, best_step = outside.min(), step
        moving = np.flatnonzero(outside > 0)
        if not len(moving) or (best > 0 and step - best_step > 2 * _STUCK):
            break
        if (step % _STUCK == _STUCK - 1 and len(moving) < len(chain)) or step == _APPROACHES // 2:
            better = np.argsort(outside, kind="stable")[: max(len(chain) // 4, 1)]
            source = better[rng.integers(len(better), size=len(moving))]
            chain[moving], outside[moving] = chain[source], outside[source]
            moving = np.flatnonzero(outside > 0)
            if not len(moving):
                break
        moved = columns.moved(chain[moving], _STEPS[step % len(_STEPS)], rng)
        now = total(moved)
        accepted = now <= outside[moving]
        chain[moving[accepted]], outside[moving[accepted]] = moved[accepted], now[accepted]
    return chain, outside


def _walk(columns: Columns, total: Callable[[Array], Array], chain: Array, rng: np.random.Generator) -> Array:
    """The rows after a random walk inside."""
    chain = chain.copy()
    for step in range(_WALKS if len(chain) else 0):
        moved = columns.moved(chain, _STEPS[step % len(_STEPS)], rng)
        kept = total(moved) == 0
        chain[kept] = moved[kept]
    return chain
