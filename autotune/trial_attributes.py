"""The user attributes of the trials in a study: every key, its type, and how it is read and written.

Studies of the search hold `seed`, `origin`, `first_rung`, `tries`, `costs`, `baselines`, `elapsed`, `status`,
`values`, `result` and `rungs`; studies of the confirmation add `trial` and `fidelity`; studies of probe runs hold
`probe` and the columns of its table; studies of `autotune.optimize` hold `rungs`, `status`, `error` and
`failed_cost`. The keys are part of the format of a sweep's folder: they never change.

Example:
    attributes = TrialAttributes(trial)
    if attributes.seed is None:
        live_trial.set_user_attr("seed", 7)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict, Unpack

from optuna.trial import FrozenTrial, TrialState

from trials.records import Fidelity, TrialResult, TrialStatus

SPENT = (TrialStatus.COMPLETE, TrialStatus.FAILED, TrialStatus.PAUSED, TrialStatus.STOPPED)
"""The statuses of trials that count towards a budget."""


@dataclass(frozen=True)
class RungResult:
    """The result of a sweep's trial on one rung of the ladder.

    Args:
        rung: index of the rung, counted from 0.
        share: training done so far, as a share of the full training.
        result: what the run on the rung returned.
    """

    rung: int
    share: float
    result: TrialResult

    def to_json(self) -> dict[str, Any]:
        """Return the record as it is stored."""
        return {"rung": self.rung, "share": self.share, "result": self.result.to_json()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RungResult:
        """Return the record that `to_json` stored."""
        return cls(stored["rung"], stored["share"], TrialResult.from_json(stored["result"]))


@dataclass(frozen=True)
class RungValues:
    """The result of a trial of `autotune.optimize` on one rung of the ladder.

    Args:
        rung: index of the rung, counted from 0.
        fidelity: of the rung.
        values: objective values in their own units, shape [m].
        curves: for each objective, its (fidelity, value) points since the rung below.
        metrics: the metrics that are single numbers, by name.
        cost: training since the rung below, in the ladder's unit of fidelity.
        state: what the evaluation returned to resume from, where the study has a file; else None.
    """

    rung: int
    fidelity: float
    values: Sequence[float]
    curves: Sequence[list[tuple[float, float]]]
    metrics: Mapping[str, float]
    cost: float
    state: Any = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RungValues:
        """Return the record that `to_json` stored."""
        return cls(**stored)


@dataclass(frozen=True)
class Origin:
    """Where the configuration of a trial comes from that no sampler proposed.

    Args:
        number: position in `try` of the sweep file, or the trial of an earlier sweep.
        source: name of the earlier sweep; None for `try`.
    """

    number: int
    source: str | None = None

    def __str__(self) -> str:
        """Return `try[0]`, or `sst2: trial 17`."""
        return f"try[{self.number}]" if self.source is None else f"{self.source}: trial {self.number}"

    def to_json(self) -> dict[str, Any]:
        """Return the origin as it is stored."""
        return asdict(self)


class Attributes(TypedDict, total=False):
    """Every key and the type of its value; see `TrialAttributes` for their meaning."""

    status: str
    values: list[float] | None
    result: TrialResult
    costs: Mapping[str, float]
    baselines: Mapping[str, float]
    elapsed: float
    seed: int
    origin: Origin
    tries: int
    rungs: Sequence[RungResult] | Sequence[RungValues]
    first_rung: int
    trial: int
    fidelity: Fidelity
    error: str
    failed_cost: float
    probe: Mapping[str, Any]
    examples: int | None
    tokens: int
    params: int
    learning_rate: float
    batch_size: int


def stored(**attributes: Unpack[Attributes]) -> dict[str, Any]:
    """Return attributes as a study stores them: plain data under their keys, in the order of the arguments."""
    return {key: _plain(value) for key, value in attributes.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, TrialResult | RungResult | RungValues | Origin):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, TrialStatus):
        return str(value)
    if isinstance(value, Fidelity):
        return asdict(value)
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class TrialAttributes:
    """Typed view of the attributes of one trial.

    Args:
        trial: of any study that the project writes.
    """

    trial: FrozenTrial

    def _get(self, key: str, default: Any = None) -> Any:
        return self.trial.user_attrs.get(key, default)

    @property
    def status(self) -> TrialStatus | None:
        """How the trial ended; None before, and for trials of other programs."""
        status = self._get("status")
        return TrialStatus(status) if isinstance(status, str) and status in set(TrialStatus) else None

    @property
    def values(self) -> list[float] | None:
        """Objective values, in the sweep's order; None unless the trial is complete."""
        return self._get("values")

    @property
    def result(self) -> TrialResult | None:
        """The final result, written before Optuna's state of the trial changes."""
        found = self._get("result")
        return None if found is None else TrialResult.from_json(found)

    @property
    def outcome(self) -> TrialResult | None:
        """The final result, else the one on the highest rung so far, else None.

        A trial that was pruned on a rung has the status `stopped`.
        """
        if (final := self.result) is not None:
            return final
        if not (records := self._get("rungs")):
            return None
        reached = RungResult.from_json(records[-1]).result
        is_pruned = self.trial.state == TrialState.PRUNED
        return replace(reached, status=TrialStatus.STOPPED) if is_pruned else reached

    @property
    def rungs(self) -> list[RungResult]:
        """The results of a sweep's trial on the rungs below the top, lowest first."""
        return [RungResult.from_json(record) for record in self._get("rungs", [])]

    @property
    def rung_values(self) -> list[RungValues]:
        """The results of a trial of `autotune.optimize` on its rungs, lowest first."""
        return [RungValues.from_json(record) for record in self._get("rungs", [])]

    @property
    def costs(self) -> Mapping[str, float]:
        """Known costs of the configuration, by name; empty before the first result."""
        return self._get("costs", {})

    @property
    def baselines(self) -> Mapping[str, float] | None:
        """Scores on validation that need no adapter, by name; None before the first result."""
        return self._get("baselines")

    @property
    def elapsed(self) -> float | None:
        """Wall seconds of the study, over all of its processes, when the result was written."""
        return self._get("elapsed")

    @property
    def seed(self) -> int | None:
        """The seed of the training run."""
        return self._get("seed")

    @property
    def origin(self) -> Origin | None:
        """Where the configuration comes from; None if the sampler proposed it."""
        found = self._get("origin")
        return None if found is None else Origin(**found)

    @property
    def tries(self) -> int:
        """How many times the trial was started, losses included."""
        return int(self._get("tries", 1))

    @property
    def first_rung(self) -> int:
        """The lowest rung on which the smaller base models of the ladder can have the configuration."""
        return int(self._get("first_rung", 0))

    @property
    def repeated_trial(self) -> int:
        """The trial of the search that a run of the confirmation repeats."""
        return int(self.trial.user_attrs["trial"])

    @property
    def fidelity(self) -> Fidelity | None:
        """The fidelity of a run of the confirmation; None where it is that of the search."""
        found = self._get("fidelity")
        return None if found is None else Fidelity(**found)

    @property
    def error(self) -> str | None:
        """Why a trial of `autotune.optimize` failed."""
        return self._get("error")

    @property
    def failed_cost(self) -> float:
        """Training that a failed evaluation of `autotune.optimize` was charged."""
        return float(self._get("failed_cost", 0.0))

    @property
    def probe(self) -> Mapping[str, Any]:
        """The fields of `autotune.results.probe_runs.ProbeRun`."""
        found: Mapping[str, Any] = self.trial.user_attrs["probe"]
        return found

    def column(self, key: str) -> Any:
        """Return a column of the table of probe runs."""
        return self.trial.user_attrs[key]


def trial_result(trial: FrozenTrial) -> TrialResult | None:
    """Return what a trial has achieved so far, or None before its first result; see `TrialAttributes.outcome`."""
    return TrialAttributes(trial).outcome
