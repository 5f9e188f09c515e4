"""Random configurations that satisfy constraints, including regions of very small volume.

Rejection sampling needs 1/p draws for a feasible region of share p. So a few draws are tried first, and the rest
come from Markov chains: each starts at a random configuration, takes local steps that do not increase the total
excess until it is feasible, and then performs a random walk inside the region to leave its point of entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.candidates import EncodedSpace
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]
Excess = Callable[[Sequence[Configuration]], Array]
"""A function from c configurations to an array of shape [c, k]: by how much each one violates each of k
constraints, at most 0 where it satisfies it."""

_DRAWS = 256
_STEPS = (0.3, 0.1, 0.03, 0.01)
_DESCENT_STEPS = 240
"""Maximum number of local steps of a chain towards the feasible region."""
_RESTART_STEPS = 60
"""Steps after which an infeasible chain restarts from a better chain. After twice as many steps in which no chain
improves the best one, the search ends."""
_WALK_STEPS = 24
_CHAINS = 16


@dataclass(frozen=True)
class FeasibleDraw:
    """The result of `draw_feasible`.

    Args:
        rows: feasible encoded rows, shape [n, d]; n is the requested number, or 0 if none was found.
        nearest: the configurations with the smallest excess, best first; empty if `rows` is not.
    """

    rows: Array
    nearest: list[Configuration]


def sample_feasible(
    space: SearchSpace, excess: Excess, count: int, rng: np.random.Generator
) -> list[Configuration]:
    """Draw random configurations that satisfy the constraints; `SearchSpace.sample` for a constrained space.

    If more than a few percent of the space are feasible, the draws are independent and distributed as
    `SearchSpace.sample`. Otherwise they cover the feasible region, but not evenly.

    Args:
        space: a search space that is bound to a model.
        excess: the constraints.
        count: number of configurations.
        rng: source of randomness.

    Raises:
        ValueError: No feasible configuration was found; the message gives the smallest excess.
    """
    columns = EncodedSpace(space)
    draw = draw_feasible(columns, excess, count, rng)
    if not len(draw.rows):
        worst = excess(draw.nearest).max(axis=1)
        raise ValueError(
            f"constraints: found no configuration that satisfies all of them; the nearest violates one by "
            f"{100 * float(worst.min()):.3g} % of its limit; relax it or widen the space"
        )
    return columns.configurations(draw.rows)


def draw_feasible(
    columns: EncodedSpace, excess: Excess, count: int, rng: np.random.Generator
) -> FeasibleDraw:
    """Draw `count` random encoded rows that satisfy the constraints; rows may repeat."""

    def total(rows: Array) -> Array:
        return total_excess(excess(columns.configurations(rows)))

    rows = columns.random(max(_DRAWS, 2 * count), rng)
    outside = total(rows)
    inside = rows[outside == 0]
    if 0 < len(inside) < count and len(inside) * 32 > len(rows):
        more = columns.random(len(rows) * min(count // len(inside), 32), rng)
        inside = np.concatenate([inside, more[total(more) == 0]])
    if len(inside) >= count:
        return FeasibleDraw(inside[:count], [])
    chains = max(count - len(inside), _CHAINS)
    # Each chain starts at the best of eight random rows: close to the region, yet from the whole space.
    entrants = rng.integers(len(rows), size=(chains, 8))
    chosen = entrants[np.arange(chains), outside[entrants].argmin(axis=1)]
    chain, outside = rows[chosen], outside[chosen]
    chain, outside = _descend(columns, total, chain, outside, rng)
    found = np.concatenate([inside, _random_walk(columns, total, chain[outside == 0], rng)])
    if not len(found):
        order = np.argsort(outside, kind="stable")
        return FeasibleDraw(found, columns.configurations(chain[order]))
    if len(found) < count:
        again = found[rng.integers(len(found), size=count - len(found))]
        found = np.concatenate([found, _random_walk(columns, total, again, rng)])
    return FeasibleDraw(found[rng.permutation(len(found))[:count]], [])


def total_excess(excess: Array) -> Array:
    """Sum the excesses [c, k] to shape [c]: 0 if feasible, else positive and increasing in each excess."""
    over = np.where(np.isnan(excess), 1e300, np.clip(excess, 0.0, 1e300))
    return np.log1p(over).sum(axis=1)


def _descend(
    columns: EncodedSpace,
    total: Callable[[Array], Array],
    chain: Array,
    outside: Array,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Move every row of `chain` until its total excess is 0 or the step limit is reached."""
    chain, outside = chain.copy(), outside.copy()
    best, best_step = outside.min(), 0
    for step in range(_DESCENT_STEPS):
        if outside.min() < best:
            best, best_step = outside.min(), step
        moving = np.flatnonzero(outside > 0)
        if not len(moving) or (best > 0 and step - best_step > 2 * _RESTART_STEPS):
            break
        if (
            step % _RESTART_STEPS == _RESTART_STEPS - 1 and len(moving) < len(chain)
        ) or step == _DESCENT_STEPS // 2:
            better = np.argsort(outside, kind="stable")[: max(len(chain) // 4, 1)]
            source = better[rng.integers(len(better), size=len(moving))]
            chain[moving], outside[moving] = chain[source], outside[source]
            moving = np.flatnonzero(outside > 0)
            if not len(moving):
                break
        moved = columns.perturb(chain[moving], _STEPS[step % len(_STEPS)], rng)
        now = total(moved)
        accepted = now <= outside[moving]
        chain[moving[accepted]], outside[moving[accepted]] = moved[accepted], now[accepted]
    return chain, outside


def _random_walk(
    columns: EncodedSpace, total: Callable[[Array], Array], chain: Array, rng: np.random.Generator
) -> Array:
    """Return the rows after a random walk inside the feasible region."""
    chain = chain.copy()
    for step in range(_WALK_STEPS if len(chain) else 0):
        moved = columns.perturb(chain, _STEPS[step % len(_STEPS)], rng)
        kept = total(moved) == 0
        chain[kept] = moved[kept]
    return chain
