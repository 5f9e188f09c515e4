"""One proposal of CARBS from the trials of a study: a repeat, or the candidate with the largest acquisition value.

Shapes: c candidates, q pending trials, p features.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.carbs.acquisition import Prediction, log_acquisition
from autotune.sampler.carbs.basic_space import SEARCH_RADIUS, BasicSpace, squared_distances
from autotune.sampler.carbs.groups import Group, fewest_runs, front
from autotune.sampler.carbs.observations import Observations, Roles
from autotune.sampler.carbs.surrogates import (
    CostModel,
    FeatureSpace,
    FrontModel,
    LimitModel,
    OutputModel,
    SuccessModel,
)
from autotune.sampler.proposal import Candidates, Proposer
from search_spaces.parameters.types import Configuration

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

RESAMPLE_INTERVAL = 5
"""Successful trials per repeat of a member of the front."""

_CANDIDATES_PER_DIMENSION = 100
_MAX_CANDIDATES = 1000
"""Maximum number of candidates; it bounds the time that their known objectives take."""


class Search:
    """The state of a study from which one proposal follows.

    Args:
        proposer: the study; it has at least one observed trial.
    """

    def __init__(self, proposer: Proposer) -> None:
        self._proposer = proposer
        self._objectives = proposer.objectives
        self._roles = Roles.of(proposer.objectives, proposer.history.started)
        self._data = Observations.of(proposer, self._roles)
        self._groups = self._data.groups(proposer.objectives)
        self._basic = BasicSpace(proposer.columns)

    def repeat(self) -> Configuration | None:
        """Return the configuration to run again, or None if no repeat is due."""
        proposer = self._proposer
        # An enqueued trial with fixed values is completed by a candidate, because no repeat need have these values.
        if proposer.columns.fixed or not self._is_repeat_due():
            return None
        keys = proposer.columns.keys(self._data.rows)
        allowed = set(proposer.columns.keys(proposer.feasible(self._data.rows, repeat=True).rows))
        groups = [group for group in self._groups if keys[group.members[0]] in allowed]
        if not groups:
            return None
        members = front(groups, is_cautious=False)
        pending = self._keys(proposer.history.pending)
        waiting = [pending.count(keys[group.members[0]]) for group in members]
        return proposer.history.configs[fewest_runs(members, waiting).members[0]]

    def _is_repeat_due(self) -> bool:
        """Return whether enough trials have succeeded or run since the latest repeat.

        The trials since then count, rather than all, so that a study with many earlier trials does not begin with as
        many repeats.
        """
        failed = set(self._keys(self._proposer.history.failed))
        keys = [key for key in self._keys(self._proposer.history.seen) if key not in failed]
        is_repeat = [key in keys[:i] for i, key in enumerate(keys)]
        return len(self._data.rows) > RESAMPLE_INTERVAL and not any(is_repeat[-(RESAMPLE_INTERVAL - 1) :])

    def best_candidate(self) -> Configuration:
        """Return the candidate around the front with the largest acquisition value."""
        origins = self._origins
        active = float((~np.isnan(origins)).sum(axis=1).mean())
        count = min(round(_CANDIDATES_PER_DIMENSION * max(active, 1.0)), _MAX_CANDIDATES)
        pool = self._proposer.at_least_one(self._basic.around(origins, count, self._proposer.rng))
        prediction = self.predict(pool)
        scores = log_acquisition(prediction, SEARCH_RADIUS)
        # Where no candidate is affordable, the one with the lowest predicted cost is nearest to it.
        best = np.argmax(scores) if np.isfinite(scores).any() else np.argmin(prediction.cost)
        return pool.configs[int(best)]

    def predict(self, pool: Candidates) -> Prediction:
        """Return the predictions for candidates, which the acquisition function combines."""
        X = self._basic.features(pool.rows)
        costs = self._costs(pool, X)
        mean, std = self._output_model.process.predict(X)
        log_feasible = self._success_model.log_probability(X)
        log_feasible = log_feasible + self._output_model.log_within(mean, std, *self._output_limits())
        for model in self._limit_models:
            log_feasible = log_feasible + model.log_probability(X)
        return Prediction(
            mean=mean,
            std=std,
            cost=costs,
            threshold=self._threshold(costs),
            squared_distance=squared_distances(X, self._basic.features(self._origins)).min(axis=1),
            log_feasible=log_feasible,
            is_affordable=self._is_affordable(costs),
        )

    @cached_property
    def _members(self) -> list[Group]:
        """The cautious front."""
        return front(self._groups, is_cautious=True)

    @property
    def _origins(self) -> Array:
        """The encoded configurations of the front."""
        return self._data.rows[[group.members[0] for group in self._members]]

    @cached_property
    def _features(self) -> FeatureSpace:
        return FeatureSpace.of(self._basic, self._data.rows)

    @cached_property
    def _output_model(self) -> OutputModel:
        data, proposer = self._data, self._proposer
        model = OutputModel.fit(self._features, data.outputs, data.output_variances)
        pending = self._basic.features(proposer.space.encode(proposer.history.pending))
        return model.with_pending(pending, proposer.rng)

    @cached_property
    def _success_model(self) -> SuccessModel:
        failed = self._proposer.space.encode(self._proposer.history.failed)
        return SuccessModel.fit(self._features, self._basic.features(failed))

    @cached_property
    def _limit_models(self) -> list[LimitModel]:
        """Models of uncertain objectives beside output and cost that have a limit, and of reported constraints."""
        others = set(range(self._data.outcomes.shape[1])) - {self._roles.output, self._roles.cost}
        return [
            LimitModel.fit(self._features, self._data.outcomes[:, j], *self._bounds(j))
            for j in sorted(others - set(self._objectives.known))
            if self._bounds(j) != (None, None)
        ]

    @cached_property
    def _cost_model(self) -> CostModel:
        return CostModel.fit(self._features, self._data.costs)

    @cached_property
    def _front_model(self) -> FrontModel:
        indices = [i for group in self._members for i in group.members]
        scores = self._output_model.transform(self._data.outputs[indices])
        return FrontModel.fit(self._data.costs[indices], scores)

    def _costs(self, pool: Candidates, X: Array) -> Array:
        """Return the known or predicted scaled costs of candidates, shape [c]; all equal without a cost."""
        if self._roles.cost is None or self._roles.cost in self._objectives.known:
            return self._data.scaled_costs(pool.known)
        return self._cost_model.predict(X)

    def _threshold(self, costs: Array) -> Array:
        """Return the scores to improve on: those of the front at the costs, at least that at a random cost."""
        model = self._front_model
        high = max(min(model.high, self._cost_limits()[1]), model.low)
        random_cost = np.array([self._proposer.rng.uniform(model.low, high)])
        return np.maximum(model(costs), model(random_cost))

    def _is_affordable(self, costs: Array) -> Mask:
        low, high = self._cost_limits()
        return np.asarray((costs >= low) & (costs <= high))

    def _cost_limits(self) -> tuple[float, float]:
        """Return the limits of the scaled cost; those of a known cost hold for every candidate already."""
        cost = self._roles.cost
        low, high = (None, None) if cost is None else self._bounds(cost)
        is_known = cost in self._objectives.known
        return (
            -np.inf if low is None or is_known else float(self._data.scale(np.array(low))),
            np.inf if high is None else float(self._data.scale(np.array(high))) + 1e-9,
        )

    def _output_limits(self) -> tuple[float | None, float | None]:
        """Return the limits of the output, which is the negative of the minimized objective."""
        low, high = self._bounds(self._roles.output)
        return (None if high is None else -high, None if low is None else -low)

    def _bounds(self, column: int) -> tuple[float | None, float | None]:
        return self._objectives.bounds(column)

    def _keys(self, configs: Iterable[Configuration]) -> list[bytes]:
        return self._proposer.columns.keys(self._proposer.space.encode(configs))
