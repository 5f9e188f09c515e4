"""What a ladder keeps: an optuna study with every rung in its trials' attributes, and the states to go on from.

With a file, the study is an ordinary optuna study in SQLite, and states are kept in it beside the results of their
rungs, in one piece with them: a process that dies loses at most the evaluations that were running.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autotune.trial_attributes import RUNGS

_NAME = "ladder"


class Store:
    """The study and the states of one search.

    Args:
        storage: a file, or None to keep everything in memory.
        directions: of the objectives.
        asked: what must not change between two calls with one file.
        sampler: of the study.

    Raises:
        ValueError: the file is in use, or holds another search.
    """

    def __init__(
        self,
        storage: str | Path | None,
        directions: list[str],
        asked: Mapping[str, Any],
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
        url = None if self._file is None else f"sqlite:///{self._file}"
        try:
            self._open(url, directions, json.loads(json.dumps(asked)), sampler)
        except BaseException:
            self.close()
            raise

    def _open(
        self,
        url: str | None,
        directions: list[str],
        asked: dict[str, Any],
        sampler: optuna.samplers.BaseSampler,
    ) -> None:
        earlier = optuna.get_all_study_names(url) if url else []
        if _NAME in earlier:
            assert url is not None
            self.study = optuna.load_study(study_name=_NAME, storage=url, sampler=sampler)
            before = self.study.user_attrs["asked"]
            for name, value in asked.items():
                if before.get(name) != value:
                    raise ValueError(
                        f"storage: {str(self._file)!r} holds a search whose {name} differ: "
                        f"{before.get(name)}, now {value}; use another file"
                    )
        else:
            self.study = optuna.create_study(
                study_name=_NAME,
                storage=url,
                directions=[StudyDirection[name.upper()] for name in directions],
                sampler=sampler,
            )
            self.study.set_user_attr("asked", asked)

    def close(self) -> None:
        if self._file is not None:
            self._lock.release()

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def attribute(self, number: int, name: str, value: Any) -> None:
        self.study._storage.set_trial_user_attr(self._id(number), name, value)

    def record(self, number: int, record: Mapping[str, Any], state: Any) -> None:
        """A rung's result, and the state to go on from.

        Raises:
            ValueError: there is a file, and the state is not plain data.
        """
        self._states[number] = state
        kept = dict(record) if self._file is None else {**record, "state": _plain(state)}
        earlier = self.study._storage.get_trial(self._id(number)).user_attrs.get(RUNGS, [])
        self.attribute(number, RUNGS, [*earlier, kept])
        if len(record["values"]) == 1:
            # Where optuna allows it, so that its samplers and figures see the curve.
            step = record["rung"]
            self.study._storage.set_trial_intermediate_value(self._id(number), step, record["values"][0])

    def finish(self, number: int, values: list[float]) -> None:
        self.study.tell(number, values)
        self._states.pop(number, None)

    def stop(self, number: int) -> None:
        self.study.tell(number, state=TrialState.PRUNED)
        self._states.pop(number, None)

    def fail(self, number: int, error: str, cost: float, status: str = "failed") -> None:
        """`status` is `failed`, the configuration's fault, or `lost`, which teaches nothing."""
        for name, value in (("status", status), ("error", error), ("failed_cost", cost)):
            self.attribute(number, name, value)
        self.study.tell(number, state=TrialState.FAIL)
        self._states.pop(number, None)

    def state(self, number: int) -> Any:
        """What the evaluation of the trial's last rung handed back; None where there is nothing."""
        return self._states.get(number)

    def remember(self, number: int, state: Any) -> None:
        """A state that was read from the study."""
        self._states[number] = state

    def _id(self, number: int) -> int:
        return self.study._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)


def _plain(state: Any) -> Any:
    try:
        again = json.loads(json.dumps(state))
    except (TypeError, ValueError):
        again = None
    if again != state:
        raise ValueError(
            f"state: {type(state).__name__} is not plain data; with storage, save a checkpoint and hand back its "
            "path, or a dictionary of numbers and strings"
        )
    return state
