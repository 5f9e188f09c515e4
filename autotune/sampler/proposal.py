"""The proposal of one configuration, given the history of a study: a startup point or the best candidate.

Shapes: c candidates, d encoded dimensions, m objectives, k constraints.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.candidates import EncodedSpace, enumerate_configurations
from autotune.sampler.feasible_sampling import Excess, draw_feasible
from autotune.sampler.history import History
from autotune.sampler.posterior import Posterior, StudyObjectives
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]

_MAX_ATTEMPTS = 4096
"""Configurations tried before the search for one that is new and within the limits ends."""

_STEPS = (0.2, 0.1, 0.05, 0.02, 0.01)
"""Decreasing step sizes of the local search, in units of the encoded range."""

_LOCAL_STARTS = 6
"""Candidates from which the local search continues after each step size."""

_MIN_CANDIDATES = 32
"""With fewer feasible candidates than this, more are drawn by `draw_feasible`."""


@dataclass(frozen=True)
class Candidates:
    """Candidate configurations that satisfy the known limits.

    Args:
        configs: the c configurations.
        rows: their encoding, shape [c, d].
        known: their known outcomes, shape [c, m + k], NaN in the uncertain columns.
    """

    configs: list[Configuration]
    rows: Array
    known: Array

    def take(self, indices: NDArray[np.int_]) -> Candidates:
        """Return the candidates at the given indices."""
        return Candidates([self.configs[i] for i in indices], self.rows[indices], self.known[indices])

    def best(self, scores: Array, count: int) -> tuple[Candidates, Array]:
        """Return the `count` candidates with the largest scores, best first, and their scores."""
        order = np.argsort(-scores, kind="stable")[:count]
        return self.take(order), scores[order]

    def joined(self, other: Candidates) -> Candidates:
        """Return these candidates followed by the others."""
        return Candidates(
            self.configs + other.configs,
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.known, other.known]),
        )


@dataclass
class Proposer:
    """Proposes one configuration.

    Args:
        space: the search space.
        columns: the encoded space.
        objectives: the objectives of the study.
        history: the trials of the study.
        rng: source of randomness.
        constraints: hard constraints on configurations beside the limits of known objectives.
        is_exhausted: set to True if every configuration has been proposed and one is repeated.
    """

    space: SearchSpace
    columns: EncodedSpace
    objectives: StudyObjectives
    history: History
    rng: np.random.Generator
    constraints: Excess | None = None
    is_exhausted: bool = False

    @cached_property
    def seen(self) -> set[bytes]:
        """Keys of the configurations that are not proposed again."""
        return set(self.columns.keys(self.space.encode(self.history.seen)))

    def startup_point(self, seed: int, defaults: bool) -> Configuration:
        """Return the study's next feasible point of the startup sequence.

        Args:
            seed: seed of the scrambled Sobol sequence.
            defaults: whether the sequence begins with the default configuration of each family.
        """
        taken = set(self.columns.keys(self.space.encode(self.history.enqueued)))
        index = tried = 0
        for rows, configs in self._sequence(seed, defaults):
            infeasible = self._infeasible(configs, self._known(configs))
            for config, key, is_infeasible in zip(configs, self.columns.keys(rows), infeasible, strict=True):
                if is_infeasible or key in taken:
                    continue
                taken.add(key)
                if index == self.history.sequence_index and key not in self.seen:
                    return config
                index += 1
            tried += len(rows)
            if tried > _MAX_ATTEMPTS or index > self.history.sequence_index:
                break
        pool = self._at_least_one(self.columns.random(256, self.rng))
        return pool.configs[int(self.rng.integers(len(pool.configs)))]

    def _sequence(self, seed: int, defaults: bool) -> Iterator[tuple[Array, list[Configuration]]]:
        if defaults and not self.columns.fixed:
            # Not decoded from their encoding, which would round them.
            yield self.space.encode(self.space.defaults()), self.space.defaults()
        start, count = 0, 64
        while True:
            rows = self.columns.sobol(start, count, seed)
            yield rows, self.columns.configurations(rows)
            start, count = start + count, 2 * count

    def maximize_acquisition(self, n_candidates: int) -> Configuration:
        """Return the candidate with the largest acquisition value: global candidates, then a local search.

        Rejected alternative: the acquisition value per FLOP of the trial (Snoek, Larochelle and Adams 2012, section
        3.2). On a surrogate of 595 recorded trials it ran more trials and found a worse front for the same FLOPs.

        Args:
            n_candidates: number of random candidates; half as many neighbors of the front come with them.
        """
        posterior = self._posterior()
        rows = self.columns.random(n_candidates, self.rng)
        near = self.columns.neighbors(posterior.front_rows, n_candidates // 2, _STEPS[0], self.rng)
        pool = self._at_least_one(np.concatenate([near, rows]))
        if len(pool.configs) < _MIN_CANDIDATES:
            pool = self._distinct(pool.joined(self._feasible(self._draw_feasible(_MIN_CANDIDATES))))
        score = posterior.acquisition
        if not score(pool.rows, pool.known).max() > 0:
            # Every expected improvement is 0 in double precision: explore instead.
            score = posterior.uncertainty
        pool, scores = pool.best(score(pool.rows, pool.known), _LOCAL_STARTS)
        for step in _STEPS:
            rows = self.columns.neighbors(pool.rows, max(n_candidates // 8, 1), step, self.rng)
            new = self._feasible(rows)
            if new.configs:
                scores = np.concatenate([scores, score(new.rows, new.known)])
                pool, scores = pool.joined(new).best(scores, _LOCAL_STARTS)
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

    def _feasible(self, rows: Array, repeat: bool = False) -> Candidates:
        """Return the distinct feasible candidates among encoded rows; unless `repeat`, only new ones."""
        unique: dict[bytes, int] = {}
        for i, key in enumerate(self.columns.keys(rows)):
            if repeat or key not in self.seen:
                unique.setdefault(key, i)
        rows = rows[list(unique.values())]
        configs = self.columns.configurations(rows)
        known = self._known(configs)
        return Candidates(configs, rows, known).take(np.flatnonzero(~self._infeasible(configs, known)))

    def _infeasible(self, configs: Sequence[Configuration], known: Array) -> NDArray[np.bool_]:
        """Return which configurations violate a limit of a known objective or a constraint, shape [c]."""
        infeasible = np.asarray(self.objectives.violated(known).any(axis=1))
        if self.constraints is None or not len(configs):
            return infeasible
        return infeasible | np.asarray((self.constraints(configs) > 0).any(axis=1))

    def _excess(self, configs: Sequence[Configuration]) -> Array:
        """Return the violations of the m known limits and the k' constraints, shape [c, m + k']."""
        excess = self.objectives.excess(self._known(configs))
        if self.constraints is None:
            return excess
        return np.concatenate([excess, self.constraints(configs)], axis=1)

    def _draw_feasible(self, count: int) -> Array:
        """Draw encoded rows that satisfy limits and constraints; no row if none is found."""
        return draw_feasible(self.columns, self._excess, count, self.rng).rows

    def _distinct(self, pool: Candidates) -> Candidates:
        first = sorted(
            dict(reversed([(key, i) for i, key in enumerate(self.columns.keys(pool.rows))])).values()
        )
        return pool.take(np.array(first, dtype=int))

    def _at_least_one(self, rows: Array) -> Candidates:
        """Return at least one candidate: from `rows`, else from a wider search, else a repeated configuration.

        Raises:
            ValueError: No configuration within the hard limits was found.
        """
        pool = self._feasible(rows)
        if pool.configs:
            return pool
        pool = self._feasible(self._draw_feasible(2 * _MIN_CANDIDATES))
        if pool.configs:
            return pool
        history = self.history
        past = self._feasible(self.space.encode(history.configs + history.pending), repeat=True)
        pool = self._search_everywhere(past)
        if pool.configs:
            return pool
        self.is_exhausted = True
        repeated = past if past.configs else self._feasible(rows, repeat=True)
        if not repeated.configs:
            raise self._no_feasible_error(rows)
        return repeated

    def _search_everywhere(self, past: Candidates) -> Candidates:
        """Enumerate a finite space; in another one, draw many random rows and neighbors of past candidates."""
        everything = enumerate_configurations(self.space)
        if everything is not None:
            fixed = self.columns.fixed.items()
            matching = (c for c in everything if all(c.get(name, value) == value for name, value in fixed))
            enumerated = list(itertools.islice(matching, len(self.seen) + _MAX_ATTEMPTS))
            return self._feasible(self.space.encode(enumerated))
        more = [self.columns.random(_MAX_ATTEMPTS, self.rng)]
        if past.configs:
            more += [self.columns.neighbors(past.rows, 256, step, self.rng) for step in _STEPS]
        return self._feasible(np.concatenate(more))

    def _no_feasible_error(self, rows: Array) -> ValueError:
        nearest = draw_feasible(self.columns, self._excess, 1, self.rng).nearest
        configs = nearest + self.columns.configurations(rows)
        violations = self.objectives.violated(self._known(configs)).sum(axis=0)
        if not violations.any():
            assert self.constraints is not None
            excess = self.constraints(configs)
            j = int((excess > 0).sum(axis=0).argmax())
            return ValueError(
                f"constraints: found no configuration that satisfies constraint {j}; the nearest of {len(configs)} "
                f"violates it by {100 * excess[:, j].min():.3g} % of its limit; relax it or widen the space"
            )
        j = int(violations.argmax())
        values = [float(self.objectives.known[j](config)) for config in configs]
        low, high = self.objectives.limits.get(j, (None, None))
        return ValueError(
            f"limits: found no configuration within the limits of objective {j} (min {low}, max {high}); its "
            f"values ranged from {min(values):g} to {max(values):g} over {len(configs)} configurations; relax the "
            "limit or widen the space"
        )
