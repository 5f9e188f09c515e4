"""Writing to trials that are still running, through the public interface of Optuna's storages.

An `optuna.Study` changes a running trial only through the `optuna.Trial` that `ask` returned, and a process that
resumes a study never had that object. `optuna.storages.BaseStorage` has what is missing; this module is the only one
that uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import Study

_CONSTRAINTS = "constraints"
"""The system attribute in which every version of Optuna finds the constraint values of a trial."""


class TrialWriter:
    """Writes attributes and intermediate values of the running trials of one study.

    Args:
        storage: the object that the study was opened with.
        study_name: of the study.
    """

    def __init__(self, storage: BaseStorage, study_name: str) -> None:
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study_name)
        self._trial_ids: dict[int, int] = {}

    def set_attributes(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Write user attributes of a trial one by one, in their order."""
        trial_id = self._trial_id(number)
        for key, value in attributes.items():
            self._storage.set_trial_user_attr(trial_id, key, value)

    def set_intermediate_value(self, number: int, step: int, value: float) -> None:
        """Write the value of a trial at a step, for Optuna's samplers and figures."""
        self._storage.set_trial_intermediate_value(self._trial_id(number), step, value)

    def set_constraints(self, number: int, values: Sequence[float]) -> None:
        """Write the constraint values of a trial for other samplers; it is feasible if all are at most 0."""
        self._storage.set_trial_system_attr(self._trial_id(number), _CONSTRAINTS, list(values))

    def _trial_id(self, number: int) -> int:
        if number not in self._trial_ids:
            found = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            self._trial_ids[number] = found
        return self._trial_ids[number]


def can_show_curve(study: Study) -> bool:
    """Return whether a trial that may still be pruned can have intermediate values.

    With several objectives, Optuna's TPE fails on a pruned trial that has some.
    """
    return len(study.directions) == 1 or not isinstance(study.sampler, TPESampler)


def open_storage(file: Path | None) -> BaseStorage:
    """Open a SQLite file as a storage, created where it does not exist; None keeps everything in memory.

    The file appears with all of its tables. Optuna completes a file that it finds half made, and two processes that
    do so at the same time, such as a starting sweep and `autotune status`, make the slower one fail.
    """
    if file is None:
        return InMemoryStorage()
    if not file.exists():
        unfinished = file.with_name(f".{file.name}")
        unfinished.unlink(missing_ok=True)
        RDBStorage(_url(unfinished)).engine.dispose()
        unfinished.rename(file)
    return RDBStorage(_url(file))


def _url(file: Path) -> str:
    return f"sqlite:///{file}"
