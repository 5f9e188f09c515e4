"""What a study says about the configurations of a space, as plain records for the sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from optuna.study import Study

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """What a trial's objectives are taken to be where they were not measured to the end.

    Args:
        values: [m], in the study's units.
        variances: [m], of their errors, minimized as the sampler does: of the logarithm where an objective is
            logarithmic.
    """

    values: Sequence[float]
    variances: Sequence[float]


Observe = Callable[[FrozenTrial], Observation | Sequence[float] | None]
"""A trial's objective values in the study's units, or None to leave it out."""


def values_of_complete(trial: FrozenTrial) -> Sequence[float] | None:
    return trial.values if trial.state == TrialState.COMPLETE else None


@dataclass(frozen=True)
class History:
    """What the study says, in configurations of the space."""

    configs: list[Configuration]
    """Finished with finite values (and constraints): what the models learn from."""
    values: Array
    """[n, m], in the study's units."""
    variances: Array
    """[n, m], of the values beside the noise that all have, minimized; see `Observation`."""
    constraints: Array
    """[n, k]; at most 0 is feasible."""
    pending: list[Configuration]
    failed: list[Configuration]
    seen: list[Configuration]
    """Every configuration finished, running or waiting."""
    enqueued: list[Configuration]
    """Those of them that were put into the queue and not proposed."""
    earlier: int
    """Earlier trials that count towards the start-up."""
    rank: int
    """Earlier trials that were not enqueued: the place in the start-up sequence."""

    @classmethod
    def read(
        cls,
        study: Study,
        trial: FrozenTrial,
        space: SearchSpace,
        observe: Observe,
    ) -> History:
        configs, values, variances, constraints = [], [], [], []
        pending, failed, seen, enqueued = [], [], [], []
        earlier = rank = 0
        for other in study.get_trials(deepcopy=False):
            if other.number == trial.number:
                continue
            queued = "fixed_params" in other.system_attrs
            before = other.number < trial.number
            rank += before and not queued
            waiting = other.state == TrialState.WAITING
            params = other.system_attrs["fixed_params"] if waiting and queued else other.params
            config = {name: value for name, value in params.items() if name in space}
            lost = other.user_attrs.get("status") == "lost"
            earlier += before and not waiting and not lost
            if space.problems(config):
                continue
            # A trial with parameters that are not ours is not repeated by repeating those that are.
            if all(name in space or other.distributions[name].single() for name in other.params) and not lost:
                seen.append(config)
                if queued:
                    enqueued.append(config)
            if lost or waiting:
                continue
            if other.state == TrialState.FAIL or other.user_attrs.get("status") == "failed":
                failed.append(config)
                continue
            # A running trial may already be known by what it reached so far, where `observe` says so.
            observed = _observation(observe(other))
            if observed is None:
                if other.state == TrialState.RUNNING:
                    pending.append(config)
            elif all(map(math.isfinite, observed.values)):
                configs.append(config)
                values.append(list(observed.values))
                variances.append(list(observed.variances))
                constraints.append(_constraints(other))
        return cls(
            configs,
            np.array(values, dtype=float),
            np.array(variances, dtype=float),
            _table(constraints),
            pending,
            failed,
            seen,
            enqueued,
            earlier,
            rank,
        )


def _observation(observed: Observation | Sequence[float] | None) -> Observation | None:
    if observed is None or isinstance(observed, Observation):
        return observed
    return Observation(observed, [0.0] * len(observed))


def _constraints(trial: FrozenTrial) -> list[float]:
    """A trial's constraint values; releases of optuna before 5 keep them in a system attribute alone."""
    found = getattr(trial, "constraints", None)
    if found is None:
        return list(trial.system_attrs.get("constraints") or ())
    return list(found.values())


def _table(rows: list[list[float]]) -> Array:
    """Shape [n, k] where every trial has the same k finite constraints, else [n, 0]."""
    if len({len(row) for row in rows}) == 1 and np.isfinite(rows).all():
        return np.array(rows, dtype=float)
    return np.empty((len(rows), 0))
