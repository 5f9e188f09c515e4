"""The trials of a study as records for the sampler.

Shapes: n observed trials, m objectives, k constraints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from autotune.trial_attributes import TrialAttributes
from search_spaces.parameters.types import Configuration, Value
from search_spaces.space import SearchSpace
from trials.records import TrialStatus

if TYPE_CHECKING:
    from optuna.study import Study

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """Objective values of a trial, with the variance of their errors.

    Args:
        values: objective values in the study's units, shape [m].
        variances: variances of the errors of the values, shape [m], in squared units of the minimized
            objective: of the logarithm where an objective is logarithmic. 0 for a complete measurement.
    """

    values: Sequence[float]
    variances: Sequence[float]


Observe = Callable[[FrozenTrial], Observation | Sequence[float] | None]
"""A function that returns the objective values of a trial in the study's units, or None to leave it out."""


def completed_values(trial: FrozenTrial) -> Sequence[float] | None:
    """Return the objective values of a completed trial, and None for any other trial."""
    return trial.values if trial.state == TrialState.COMPLETE else None


@dataclass(frozen=True, kw_only=True)
class History:
    """The trials of a study as configurations of a space, with the values that surrogates are fitted to.

    Args:
        configs: configurations of the n observed trials, whose values are finite.
        numbers: numbers of these trials.
        values: their objective values in the study's units, shape [n, m].
        variances: variances of their errors beside the common noise, shape [n, m]; see `Observation`.
        constraints: their constraint values, shape [n, k]; at most 0 is feasible.
        pending: configurations that are running and have no values yet.
        failed: configurations that failed through their own fault.
        seen: configurations of all trials: finished, running or waiting.
        enqueued: the configurations among `seen` that were enqueued rather than proposed.
        started: number of earlier trials that count as startup trials.
        sequence_index: number of earlier trials that were not enqueued, the position in the startup sequence.
    """

    configs: list[Configuration]
    numbers: list[int]
    values: Array
    variances: Array
    constraints: Array
    pending: list[Configuration]
    failed: list[Configuration]
    seen: list[Configuration]
    enqueued: list[Configuration]
    started: int
    sequence_index: int

    @cached_property
    def groups(self) -> list[NDArray[np.int_]]:
        """The observed trials by configuration: for each one, the positions of its trials, in order of the first.

        Trials of the same configuration differ by noise only, so surrogates see their mean as one observation.
        """
        found: dict[frozenset[tuple[str, Value]], list[int]] = {}
        for position, config in enumerate(self.configs):
            found.setdefault(frozenset(config.items()), []).append(position)
        return [np.array(positions) for positions in found.values()]

    @classmethod
    def read(
        cls,
        study: Study,
        trial: FrozenTrial,
        space: SearchSpace,
        observe: Observe,
        *,
        models_constraints: bool = True,
    ) -> History:
        """Read the other trials of a study.

        Args:
            study: the study.
            trial: the trial to propose a configuration for; it is left out.
            space: the space. Trials whose parameters it does not accept are left out.
            observe: returns a trial's objective values.
            models_constraints: whether the constraint values that trials report are read.
        """
        reader = _Reader(space, observe)
        for other in study.get_trials(deepcopy=False):
            if other.number != trial.number:
                reader.add(other, is_earlier=other.number < trial.number)
        return cls(
            configs=reader.configs,
            numbers=reader.numbers,
            values=np.array([list(o.values) for o in reader.observations], dtype=float),
            variances=np.array([list(o.variances) for o in reader.observations], dtype=float),
            constraints=_table(
                reader.constraints if models_constraints else [[] for _ in reader.constraints]
            ),
            pending=reader.pending,
            failed=reader.failed,
            seen=reader.seen,
            enqueued=reader.enqueued,
            started=reader.started,
            sequence_index=reader.sequence_index,
        )


@dataclass
class _Reader:
    """Sorts trials into the lists of a `History`."""

    space: SearchSpace
    observe: Observe
    configs: list[Configuration] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    constraints: list[list[float]] = field(default_factory=list)
    pending: list[Configuration] = field(default_factory=list)
    failed: list[Configuration] = field(default_factory=list)
    seen: list[Configuration] = field(default_factory=list)
    enqueued: list[Configuration] = field(default_factory=list)
    started: int = 0
    sequence_index: int = 0

    def add(self, trial: FrozenTrial, is_earlier: bool) -> None:
        is_queued = "fixed_params" in trial.system_attrs
        is_waiting = trial.state == TrialState.WAITING
        is_lost = TrialAttributes(trial).status == TrialStatus.LOST
        self.sequence_index += is_earlier and not is_queued
        self.started += is_earlier and not is_waiting and not is_lost
        params = trial.system_attrs["fixed_params"] if is_waiting and is_queued else trial.params
        config = {name: value for name, value in params.items() if name in self.space}
        if self.space.problems(config):
            return
        # A trial with further parameters is not repeated by a configuration with equal parameters of the space.
        is_whole = all(name in self.space or trial.distributions[name].single() for name in trial.params)
        if is_whole and not is_lost:
            self.seen.append(config)
            if is_queued:
                self.enqueued.append(config)
        if not is_lost and not is_waiting:
            self._add_outcome(trial, config)

    def _add_outcome(self, trial: FrozenTrial, config: Configuration) -> None:
        if trial.state == TrialState.FAIL or TrialAttributes(trial).status == TrialStatus.FAILED:
            self.failed.append(config)
            return
        # `observe` may return values for a running trial, from what it reached so far.
        observed = _observation(self.observe(trial))
        if observed is None:
            if trial.state == TrialState.RUNNING:
                self.pending.append(config)
        elif all(map(math.isfinite, observed.values)):
            self.configs.append(config)
            self.numbers.append(trial.number)
            self.observations.append(observed)
            self.constraints.append(_constraints(trial))


def _observation(observed: Observation | Sequence[float] | None) -> Observation | None:
    if observed is None or isinstance(observed, Observation):
        return observed
    return Observation(observed, [0.0] * len(observed))


def _constraints(trial: FrozenTrial) -> list[float]:
    """Return a trial's constraint values; Optuna before version 5 stores them only in a system attribute."""
    found = getattr(trial, "constraints", None)
    if found is None:
        return list(trial.system_attrs.get("constraints") or ())
    return list(found.values())


def _table(rows: list[list[float]]) -> Array:
    """Return shape [n, k] if every trial has the same number k of finite constraint values, else [n, 0]."""
    if len({len(row) for row in rows}) == 1 and np.isfinite(rows).all():
        return np.array(rows, dtype=float)
    return np.empty((len(rows), 0))
