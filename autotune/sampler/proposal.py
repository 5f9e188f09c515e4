"""The choice of one configuration, given the history of a study: a start-up point, or the best candidate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.candidates import Columns, every_configuration
from autotune.sampler.feasible_sampling import Excess, draw_within
from autotune.sampler.history import History
from autotune.sampler.posterior import Objectives, Posterior
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]

_ATTEMPTS = 4096
"""Configurations tried before giving up on finding one that is new and within the limits."""

_STEPS = (0.2, 0.1, 0.05, 0.02, 0.01)
"""The shrinking steps of the local search, in units of the encoded range."""

_LOCAL_STARTS = 6

_ENOUGH = 32
"""Where fewer candidates than this keep the limits, more are looked for inside."""


@dataclass(frozen=True)
class Pool:
    """Candidates that may be proposed."""

    configs: list[Configuration]
    rows: Array
    """[c, d], encoded."""
    known: Array
    """[c, m + k], known outcomes, NaN elsewhere."""

    def best(self, scores: Array, count: int) -> tuple[Pool, Array]:
        """The candidates with the largest scores, best first."""
        order = np.argsort(-scores, kind="stable")[:count]
        return Pool([self.configs[i] for i in order], self.rows[order], self.known[order]), scores[order]

    def plus(self, other: Pool) -> Pool:
        return Pool(
            self.configs + other.configs,
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.known, other.known]),
        )


@dataclass
class Search:
    """The choice of one configuration. `exhausted` becomes True where only a repetition was left.

    `constraints` gives the excess of configurations over what all of them must keep, beside the limits of
    known objectives.
    """

    space: SearchSpace
    columns: Columns
    objectives: Objectives
    history: History
    rng: np.random.Generator
    constraints: Excess | None = None
    exhausted: bool = False

    @cached_property
    def seen(self) -> set[bytes]:
        """Keys of what must not be proposed again."""
        return set(self.columns.keys(self.space.encode(self.history.seen)))

    def spread(self, seed: int, defaults: bool) -> Configuration:
        """The study's place in the sequence of defaults, then Sobol points, without what limits forbid."""
        taken = set(self.columns.keys(self.space.encode(self.history.enqueued)))
        place = tried = 0
        for rows, configs in self._sequence(seed, defaults):
            broken = self._broken(configs, self._known(configs))
            for config, key, out in zip(configs, self.columns.keys(rows), broken, strict=True):
                if out or key in taken:
                    continue
                taken.add(key)
                if place == self.history.rank and key not in self.seen:
                    return config
                place += 1
            tried += len(rows)
            if tried > _ATTEMPTS or place > self.history.rank:
                break
        pool = self._some(self.columns.random(256, self.rng))
        return pool.configs[int(self.rng.integers(len(pool.configs)))]

    def _sequence(self, seed: int, defaults: bool) -> Iterator[tuple[Array, list[Configuration]]]:
        if defaults and not self.columns.fixed:
            # As they are written down, not through their encoding, which would cost them a rounding.
            yield self.space.encode(self.space.defaults()), self.space.defaults()
        start, count = 0, 64
        while True:
            rows = self.columns.startup(start, count, seed)
            yield rows, self.columns.configurations(rows)
            start, count = start + count, 2 * count

    def best(self, n_candidates: int) -> Configuration:
        """The candidate with the largest acquisition: global candidates first, then a local search.

        Not with the largest acquisition per FLOP of its trial, as when time is short (Snoek, Larochelle and Adams
        2012, section 3.2): on a surrogate of 595 recorded trials this brought more trials and, for the same FLOPs,
        a worse front.
        """
        posterior = self._posterior()
        rows = self.columns.random(n_candidates, self.rng)
        near = self.columns.neighbors(posterior.front_rows, n_candidates // 2, _STEPS[0], self.rng)
        pool = self._some(np.concatenate([near, rows]))
        if len(pool.configs) < _ENOUGH:
            pool = self._distinct(pool.plus(self._allowed(self._inside(_ENOUGH))))
        score = posterior.acquisition
        if not score(pool.rows, pool.known).max() > 0:
            # No improvement in sight in double precision: go where least is known.
            score = posterior.uncertainty
        pool, scores = pool.best(score(pool.rows, pool.known), _LOCAL_STARTS)
        for step in _STEPS:
            rows = self.columns.neighbors(pool.rows, max(n_candidates // 8, 1), step, self.rng)
            fresh = self._allowed(rows)
            if fresh.configs:
                scores = np.concatenate([scores, score(fresh.rows, fresh.known)])
                pool, scores = pool.plus(fresh).best(scores, _LOCAL_STARTS)
        return pool.configs[0]

    def _posterior(self) -> Posterior:
        history, m = self.history, len(self.objectives)
        outcomes = [self.objectives.minimized(history.values[:, j], j) for j in range(m)]
        return Posterior(
            self.objectives,
            self.space.encode(history.configs),
            np.column_stack([*outcomes, history.constraints]),
            self.space.encode(history.pending),
            self._known(history.pending),
            self.space.encode(history.failed),
            self.space.nominal,
            np.column_stack([history.variances, np.zeros_like(history.constraints)]),
        )

    def _known(self, configs: Sequence[Configuration]) -> Array:
        return self.objectives.known_outcomes(
            configs, len(self.objectives) + self.history.constraints.shape[1]
        )

    def _allowed(self, rows: Array, repeat: bool = False) -> Pool:
        """The candidates among encoded rows that are within the known limits and, unless `repeat`, new."""
        unique: dict[bytes, int] = {}
        for i, key in enumerate(self.columns.keys(rows)):
            if repeat or key not in self.seen:
                unique.setdefault(key, i)
        rows = rows[list(unique.values())]
        configs = self.columns.configurations(rows)
        known = self._known(configs)
        keep = np.flatnonzero(~self._broken(configs, known))
        return Pool([configs[i] for i in keep], rows[keep], known[keep])

    def _broken(self, configs: Sequence[Configuration], known: Array) -> NDArray[np.bool_]:
        """Shape [c]: which configurations break a limit of a known objective or a constraint."""
        broken = np.asarray(self.objectives.broken(known).any(axis=1))
        if self.constraints is None or not len(configs):
            return broken
        return broken | np.asarray((self.constraints(configs) > 0).any(axis=1))

    def _excess(self, configs: Sequence[Configuration]) -> Array:
        """Shape [c, m + k']: the excess over limits and constraints."""
        excess = self.objectives.excess(self._known(configs))
        if self.constraints is None:
            return excess
        return np.concatenate([excess, self.constraints(configs)], axis=1)

    def _inside(self, count: int) -> Array:
        """Random rows that keep limits and constraints, wherever they hide; none if none are found."""
        return draw_within(self.columns, self._excess, count, self.rng).rows

    def _distinct(self, pool: Pool) -> Pool:
        first = sorted(
            dict(reversed([(key, i) for i, key in enumerate(self.columns.keys(pool.rows))])).values()
        )
        return Pool([pool.configs[i] for i in first], pool.rows[first], pool.known[first])

    def _some(self, rows: Array) -> Pool:
        """At least one candidate: from `rows`, else by looking harder, else a repetition.

        Raises:
            ValueError: no configuration within the hard limits was found.
        """
        pool = self._allowed(rows)
        if pool.configs:
            return pool
        pool = self._allowed(self._inside(2 * _ENOUGH))
        if pool.configs:
            return pool
        history = self.history
        past = self._allowed(self.space.encode(history.configs + history.pending), repeat=True)
        everything = every_configuration(self.space)
        if everything is not None:
            fixed = self.columns.fixed.items()
            matching = (c for c in everything if all(c.get(name, value) == value for name, value in fixed))
            looked = list(itertools.islice(matching, len(self.seen) + _ATTEMPTS))
            pool = self._allowed(self.space.encode(looked))
        else:
            more = [self.columns.random(_ATTEMPTS, self.rng)]
            if past.configs:
                more += [self.columns.neighbors(past.rows, 256, step, self.rng) for step in _STEPS]
            pool = self._allowed(np.concatenate(more))
        if pool.configs:
            return pool
        self.exhausted = True
        again = past if past.configs else self._allowed(rows, repeat=True)
        if not again.configs:
            raise self._out_of_limits(rows)
        return again

    def _out_of_limits(self, rows: Array) -> ValueError:
        nearest = draw_within(self.columns, self._excess, 1, self.rng).nearest
        configs = nearest + self.columns.configurations(rows)
        broken = self.objectives.broken(self._known(configs)).sum(axis=0)
        if not broken.any():
            assert self.constraints is not None
            excess = self.constraints(configs)
            j = int((excess > 0).sum(axis=0).argmax())
            return ValueError(
                f"constraints: found no configuration that keeps constraint {j}; the nearest of {len(configs)} "
                f"breaks it by {100 * excess[:, j].min():.3g} % of its limit; relax it or widen the space"
            )
        j = int(broken.argmax())
        values = [float(self.objectives.known[j](config)) for config in configs]
        low, high = self.objectives.limits.get(j, (None, None))
        return ValueError(
            f"limits: found no configuration within the limits of objective {j} (min {low}, max {high}); it "
            f"ran from {min(values):g} to {max(values):g} over {len(configs)} of them; relax the limit or "
            "widen the space"
        )
