"""What strategies propose a configuration with: startup points, feasible candidates and a local search over them.

Shapes: c candidates, d encoded dimensions, m objectives, k constraints.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.candidates import EncodedSpace, enumerate_configurations
from autotune.sampler.feasible_sampling import Excess, draw_feasible
from autotune.sampler.history import History
from autotune.sampler.objectives import StudyObjectives
from autotune.sampler.prior import EncodedPrior
from autotune.sampler.startup import startup_sequence
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]

_MAX_ATTEMPTS = 4096
"""Configurations tried before the search for one that is new and within the limits ends."""

_STEPS = (0.2, 0.1, 0.05, 0.02, 0.01)
"""Decreasing step sizes of the local search, in units of the encoded range."""

_LOCAL_STARTS = 6
"""Candidates from which the local search continues after each step size."""

_PREFERRED = 256
"""Points of the prior that the startup design is chosen from."""

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
        return Candidates.concatenated([self, other])

    @classmethod
    def concatenated(cls, parts: Sequence[Candidates]) -> Candidates:
        """Return the candidates of all parts, of which there is at least one, in order."""
        return cls(
            [config for part in parts for config in part.configs],
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.known for part in parts]),
        )


@dataclass
class Proposer:
    """The study as seen by a strategy, and the candidates that it may propose.

    Args:
        space: the search space.
        columns: the encoded space.
        objectives: the objectives of the study.
        history: the trials of the study.
        rng: source of randomness.
        constraints: hard constraints on configurations beside the limits of known objectives.
        number: number of the trial that is proposed.
        trial_cost: cost of a trial of each of c configurations, shape [c], which orders the startup trials.
        memory: what the latest earlier proposal of the study left in `notes`; empty at first.
        has_defaults: whether the default configurations of the space are among the startup trials.
        prior: the user's prior on good configurations, from which half of the startup design and of the random
            candidates are drawn; None without one. The default configurations are kept as they are: with the
            centers of a wrong prior, every startup trial of a space with several families would be a bad one.
        notes: what this proposal leaves for later ones, as JSON values; it is stored with the trial.
        is_exhausted: set to True if every configuration has been proposed and one is repeated.
    """

    space: SearchSpace
    columns: EncodedSpace
    objectives: StudyObjectives
    history: History
    rng: np.random.Generator
    constraints: Excess | None = None
    number: int = 0
    trial_cost: Callable[[Sequence[Configuration]], Array] | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    has_defaults: bool = False
    prior: EncodedPrior | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    is_exhausted: bool = False

    @cached_property
    def seen(self) -> set[bytes]:
        """Keys of the configurations that are not proposed again."""
        return set(self.columns.keys(self.space.encode(self.history.seen)))

    def startup_point(self, count: int, seed: int) -> Configuration:
        """Return the study's next feasible point of the startup sequence.

        Args:
            count: number of startup trials.
            seed: seed of the scrambled Sobol sequence.
        """
        taken = set(self.columns.keys(self.space.encode(self.history.enqueued)))
        index = tried = 0
        for config in self._sequence(count, seed):
            tried += 1
            [key] = self.columns.keys(self.space.encode([config]))
            if key in taken or self._infeasible([config], self.known([config]))[0]:
                if tried > _MAX_ATTEMPTS:
                    break
                continue
            taken.add(key)
            if index == self.history.sequence_index and key not in self.seen:
                return config
            index += 1
            if tried > _MAX_ATTEMPTS or index > self.history.sequence_index:
                break
        pool = self.at_least_one(self.columns.random(256, self.rng))
        return pool.configs[int(self.rng.integers(len(pool.configs)))]

    def _sequence(self, count: int, seed: int) -> Iterator[Configuration]:
        # Fixed values of an enqueued trial hold in the encoded space and not in the default configurations.
        first = self.space.defaults() if self.has_defaults and not self.columns.fixed else []
        preferred = None
        if self.prior is not None:
            preferred = self.prior.sobol(_PREFERRED, seed + 1)
        return startup_sequence(
            self.columns,
            first,
            count,
            seed=seed,
            costs=self._costs,
            trial_cost=self.trial_cost,
            preferred=preferred,
        )

    def _costs(self, configs: Sequence[Configuration]) -> Array:
        """Return the known objectives of configurations, shape [c, k], not finite where one is infeasible."""
        known = self.known(configs)
        costs = known[:, sorted(self.objectives.known)]
        costs = np.where((costs > 0).all(axis=0), np.log(np.maximum(costs, 1e-300)), costs)
        infeasible = self._infeasible(configs, known)
        return np.where(infeasible[:, None], np.nan, costs)

    def maximize(
        self,
        score: Callable[[Candidates], Array],
        near: Array,
        n_candidates: int,
        keep: int = 1,
        further: Array | None = None,
    ) -> tuple[Candidates, Array]:
        """Return the best feasible, new candidates by a score, best first, and their scores.

        Global candidates and neighbors of the given rows are scored, then a local search with decreasing steps
        continues from the best.

        Args:
            score: returns the scores of candidates, shape [c], larger is better.
            near: encoded rows around which half of the candidates are drawn, shape [k, d].
            n_candidates: number of random candidates; half as many neighbors come with them.
            keep: number of candidates to return, at least; a local search has several starts.
            further: encoded rows of further candidates to start from, shape [l, d].
        """
        keep = max(keep, _LOCAL_STARTS)
        rows = self._random(n_candidates)
        neighbors = self.columns.neighbors(near, n_candidates // 2, _STEPS[0], self.rng)
        parts = [neighbors, rows] if further is None else [neighbors, rows, further]
        pool = self.at_least_one(np.concatenate(parts))
        if len(pool.configs) < _MIN_CANDIDATES:
            pool = self._distinct(pool.joined(self.feasible(self._draw_feasible(_MIN_CANDIDATES))))
        pool, scores = pool.best(score(pool), keep)
        for step in _STEPS:
            starts = pool.rows[:_LOCAL_STARTS]
            rows = self.columns.neighbors(starts, max(n_candidates // 8, 1), step, self.rng)
            new = self.feasible(rows)
            if new.configs:
                pool, scores = pool.joined(new), np.concatenate([scores, score(new)])
                first = self._first_of_equals(pool)
                pool, scores = pool.take(first).best(scores[first], keep)
        return pool, scores

    def _random(self, count: int) -> Array:
        """Draw encoded rows of shape [count, d], half of them from the prior if there is one."""
        if self.prior is None:
            return self.columns.random(count, self.rng)
        preferred = self.prior.random(count // 2, self.rng)
        return np.concatenate([preferred, self.columns.random(count - count // 2, self.rng)])

    def known(self, configs: Sequence[Configuration]) -> Array:
        """Return the known objectives of configurations, shape [c, m + k], NaN in the other columns."""
        return self.objectives.known_outcomes(
            configs, len(self.objectives) + self.history.constraints.shape[1]
        )

    def feasible(self, rows: Array, repeat: bool = False) -> Candidates:
        """Return the distinct feasible candidates among encoded rows; unless `repeat`, only new ones."""
        unique: dict[bytes, int] = {}
        for i, key in enumerate(self.columns.keys(rows)):
            if repeat or key not in self.seen:
                unique.setdefault(key, i)
        rows = rows[list(unique.values())]
        configs = self.columns.configurations(rows)
        known = self.known(configs)
        return Candidates(configs, rows, known).take(np.flatnonzero(~self._infeasible(configs, known)))

    def _infeasible(self, configs: Sequence[Configuration], known: Array) -> NDArray[np.bool_]:
        """Return which configurations violate a limit of a known objective or a constraint, shape [c]."""
        infeasible = np.asarray(self.objectives.violated(known).any(axis=1))
        if self.constraints is None or not len(configs):
            return infeasible
        return infeasible | np.asarray((self.constraints(configs) > 0).any(axis=1))

    def _excess(self, configs: Sequence[Configuration]) -> Array:
        """Return the violations of the m known limits and the k' constraints, shape [c, m + k']."""
        excess = self.objectives.excess(self.known(configs))
        if self.constraints is None:
            return excess
        return np.concatenate([excess, self.constraints(configs)], axis=1)

    def _draw_feasible(self, count: int) -> Array:
        """Draw encoded rows that satisfy limits and constraints; no row if none is found."""
        return draw_feasible(self.columns, self._excess, count, self.rng).rows

    def _distinct(self, pool: Candidates) -> Candidates:
        return pool.take(self._first_of_equals(pool))

    def _first_of_equals(self, pool: Candidates) -> NDArray[np.int_]:
        """Return the indices of the candidates that equal no earlier one."""
        keys = enumerate(self.columns.keys(pool.rows))
        return np.array(sorted(dict(reversed([(key, i) for i, key in keys])).values()), dtype=int)

    def at_least_one(self, rows: Array) -> Candidates:
        """Return at least one candidate: from `rows`, else from a wider search, else a repeated configuration.

        Raises:
            ValueError: No configuration within the hard limits was found.
        """
        pool = self.feasible(rows)
        if pool.configs:
            return pool
        pool = self.feasible(self._draw_feasible(2 * _MIN_CANDIDATES))
        if pool.configs:
            return pool
        history = self.history
        past = self.feasible(self.space.encode(history.configs + history.pending), repeat=True)
        pool = self._search_everywhere(past)
        if pool.configs:
            return pool
        self.is_exhausted = True
        repeated = past if past.configs else self.feasible(rows, repeat=True)
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
            return self.feasible(self.space.encode(enumerated))
        more = [self.columns.random(_MAX_ATTEMPTS, self.rng)]
        if past.configs:
            more += [self.columns.neighbors(past.rows, 256, step, self.rng) for step in _STEPS]
        return self.feasible(np.concatenate(more))

    def _no_feasible_error(self, rows: Array) -> ValueError:
        nearest = draw_feasible(self.columns, self._excess, 1, self.rng).nearest
        configs = nearest + self.columns.configurations(rows)
        violations = self.objectives.violated(self.known(configs)).sum(axis=0)
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
        if np.isnan(values).any() or not np.isfinite(values).any():
            return _not_finite_error(j, configs, values)
        low, high = self.objectives.limits.get(j, (None, None))
        return ValueError(
            f"limits: found no configuration within the limits of objective {j} (min {low}, max {high}); its "
            f"values ranged from {min(values):g} to {max(values):g} over {len(configs)} configurations; relax the "
            "limit or widen the space"
        )


def _not_finite_error(j: int, configs: Sequence[Configuration], values: Sequence[float]) -> ValueError:
    """Return the error for a known objective j whose values are not finite, with one of the configurations."""
    affected = np.flatnonzero(~np.isfinite(values))
    first = int(affected[0])
    return ValueError(
        f"known_objectives: the function of objective {j} returned {values[first]} for {len(affected)} of "
        f"{len(configs)} configurations, such as {configs[first]}; return a finite number"
    )
