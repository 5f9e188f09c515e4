"""The study of one call of `autotune.optimize`: an Optuna study with the result of every rung, and the states.

A state is what an evaluation returned to resume from. With a file, the study is an ordinary Optuna study in SQLite,
and a state is stored with the result of its rung as one attribute: a process that dies loses at most the evaluations
that were running.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autotune.ledger.optuna_storage import TrialWriter, can_show_curve, open_storage
from autotune.trial_attributes import RungValues, TrialAttributes, stored
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace
from trials.records import TrialStatus

_NAME = "ladder"
_SETTINGS = "asked"
"""The attribute of the study with the settings that must not change."""


class BlackBoxStudy:
    """The study and the states of one search.

    Life cycle: every trial that `suggest` starts ends with `finish`, `stop` or `fail`, after any number of `record`;
    `close` ends all use of the file.

    Args:
        storage: a file, or None to keep everything in memory.
        directions: `minimize` or `maximize` for each objective.
        settings: what must not change between two calls with one file, by name.
        sampler: of the study.

    Raises:
        ValueError: the file is in use, or holds another search.
    """

    def __init__(
        self,
        storage: str | Path | None,
        directions: list[str],
        settings: Mapping[str, Any],
        sampler: optuna.samplers.BaseSampler,
    ) -> None:
        self._file = None if storage is None else Path(storage).absolute()
        self._states: dict[int, Any] = {}
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(f"{self._file}.lock")
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise ValueError(f"storage: {str(storage)!r} is in use by another search") from error
        try:
            opened = open_storage(self._file)
            self.study = self._open(opened, directions, json.loads(json.dumps(settings)), sampler)
            self._writer = TrialWriter(opened, _NAME)
        except BaseException:
            self.close()
            raise

    def _open(
        self,
        storage: BaseStorage,
        directions: list[str],
        settings: dict[str, Any],
        sampler: optuna.samplers.BaseSampler,
    ) -> optuna.Study:
        names = optuna.get_all_study_names(storage)
        if names and _NAME not in names:
            raise ValueError(
                f"storage: {str(self._file)!r} holds the study {names[0]!r}, which autotune.optimize did not write; "
                "use another file"
            )
        if not names:
            study = optuna.create_study(
                study_name=_NAME,
                storage=storage,
                directions=[StudyDirection[name.upper()] for name in directions],
                sampler=sampler,
            )
            study.set_user_attr(_SETTINGS, settings)
            return study
        study = optuna.load_study(study_name=_NAME, storage=storage, sampler=sampler)
        before = study.user_attrs[_SETTINGS]
        for name, value in settings.items():
            if name not in before:  # an earlier version did not store it
                continue
            if isinstance(value, dict):
                _check_equal(name, before[name], value, str(self._file))
            elif before[name] != value:
                raise ValueError(
                    f"storage: {str(self._file)!r} holds a search whose {name} differ: "
                    f"{before.get(name)}, now {value}; use another file"
                )
        return study

    def close(self) -> None:
        """Let other processes use the file."""
        if self._file is not None:
            self._lock.release()

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial, in order."""
        return self.study.get_trials(deepcopy=False)

    def suggest(self, space: SearchSpace) -> tuple[int, Configuration]:
        """Start a trial, and return its number and its configuration."""
        trial = self.study.ask()
        return trial.number, space.suggest(trial)

    def record(self, number: int, values: RungValues, state: Any) -> None:
        """Write the result of a rung, and the state to resume from.

        Raises:
            ValueError: there is a file, and the state is not plain data.
        """
        if self._file is not None:
            values = replace(values, state=_plain(state))
        self._states[number] = state
        earlier = TrialAttributes(self.trials[number]).rung_values
        self._writer.set_attributes(number, stored(rungs=[*earlier, values]))

    def show_point(self, number: int, step: int, value: float, *, is_final: bool = False) -> None:
        """Write a point of the curve of the first objective as an intermediate value of Optuna's.

        Args:
            number: of a trial that has not ended. Several threads may write at a time.
            step: how far it was trained; see `FidelitySteps`.
            value: of the objective.
            is_final: whether the trial is on the top rung, and cannot be pruned any more.
        """
        if is_final or can_show_curve(self.study):
            self._writer.set_intermediate_value(number, step, value)

    def finish(self, number: int, values: list[float], violations: Sequence[float] = ()) -> None:
        """Complete a trial; `violations` of the hard limits are at most 0 where one is kept."""
        if violations:
            self._writer.set_constraints(number, violations)
        self.study.tell(number, values)
        self._states.pop(number, None)

    def stop(self, number: int) -> None:
        """Prune a trial."""
        self.study.tell(number, state=TrialState.PRUNED)
        self._states.pop(number, None)

    def fail(
        self, number: int, error: str, cost: float = 0.0, status: TrialStatus = TrialStatus.FAILED
    ) -> None:
        """Fail a trial.

        Args:
            number: of the trial.
            error: the reason.
            cost: of the failed evaluation, in the ladder's unit of fidelity.
            status: `failed`, which the sampler learns from, or `lost`, which says nothing about the configuration.
        """
        self._writer.set_attributes(number, stored(status=status, error=error, failed_cost=cost))
        self.study.tell(number, state=TrialState.FAIL)
        self._states.pop(number, None)

    def state(self, number: int) -> Any:
        """Return the state that the evaluation of the trial's last rung returned, or None."""
        return self._states.get(number)

    def restore_state(self, number: int, state: Any) -> None:
        """Keep a state that was read from the study."""
        self._states[number] = state


def _check_equal(name: str, before: Mapping[str, Any], now: Mapping[str, Any], file: str) -> None:
    """Check a setting that is a mapping, part by part.

    Raises:
        ValueError: a part differs.
    """
    for part in dict.fromkeys([*before, *now]):
        was, present = before.get(part), now.get(part)
        if was != present:
            raise ValueError(
                f"storage: {file!r} holds a search with another {name}: {part} was {was} and is {present}; use "
                "another file"
            )


def _plain(state: Any) -> Any:
    """Return the state, if JSON returns it unchanged."""
    try:
        decoded = json.loads(json.dumps(state))
    except (TypeError, ValueError):
        decoded = None
    if decoded != state:
        raise ValueError(
            f"state: {type(state).__name__} is not plain data; with storage, save a checkpoint and return its "
            "path, or a dictionary of numbers and strings"
        )
    return state
