"""The sweep's folder and the optuna studies in it: what was asked, what was told, and in which state.

A folder holds the resolved `sweep.yaml`, `study.db` (a SQLite file with the study of the search, named after
the sweep, and those of its confirmation and probe runs) and the outputs. Nothing that matters lives only in memory: a
trial's result is written as one attribute before its state changes, so a process that dies in between loses
nothing, and one that dies during a trial leaves a running trial behind that `recover` puts back in line.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from autotune.sweep.schema import Sweep, dump_sweep, load_sweep, same_search
from autotune.trial_attributes import RUNGS
from search_spaces.errors import AutotuneError, InvalidInputError, Problem, first_line
from trials.records import TrialResult, TrialStatus
from trials.tasks.metrics import Direction

SWEEP_FILE, STUDY_FILE, LOCK_FILE = "sweep.yaml", "study.db", ".lock"
Part = Literal["search", "confirm", "probe"]
"""What a study of the folder holds."""
_LOSS: dict[str, Direction] = {"eval_loss": "minimize"}
MAX_TRIES = 3
"""A trial that was lost this often fails: by then the configuration itself is the likely cause."""


class LedgerError(AutotuneError, RuntimeError):
    """The ledger cannot be written; everything told before stays told."""


class Ledger:
    """One study of a sweep's folder.

    Args:
        study: the optuna study.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._read: list[FrozenTrial] | None = None

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial that was started, in order."""
        return [trial for trial in self._all if trial.state != TrialState.WAITING]

    def trial(self, number: int) -> FrozenTrial:
        """One trial."""
        return self._all[number]

    @property
    def _all(self) -> list[FrozenTrial]:
        # Optuna reads unfinished trials anew every time, and on a ladder most trials are unfinished.
        if self._read is None:
            self._read = self.study.get_trials(deepcopy=False)
        return self._read

    def changed(self) -> None:
        """Forget what was read; for whoever writes to the study past this ledger."""
        self._read = None

    def tell(
        self, number: int, result: TrialResult, values: list[float] | None, attributes: Mapping[str, Any]
    ) -> None:
        """Write a result. `values` are the objectives, None unless the trial is complete."""
        trial_id = self.trial(number)._trial_id
        storage = self.study._storage
        # `status` stands alone as well, for samplers: a lost trial teaches nothing, a failed one does.
        found = {**attributes, "status": str(result.status), "values": values, "result": result.to_json()}
        for name, value in found.items():
            storage.set_trial_user_attr(trial_id, name, value)
        self._close(number, result.status, values)

    def pause(self, number: int, rung: int, result: TrialResult, attributes: Mapping[str, Any]) -> None:
        """Write the result on a rung of the ladder; the trial stays in optuna's state RUNNING and may go on."""
        trial = self.trial(number)
        storage = self.study._storage
        for name, value in attributes.items():
            storage.set_trial_user_attr(trial._trial_id, name, value)
        record = {"rung": rung, "share": result.flops_share, "result": result.to_json()}
        earlier = trial.user_attrs.get(RUNGS, [])
        storage.set_trial_user_attr(trial._trial_id, RUNGS, [*earlier, record])
        self.changed()

    def stop(self, number: int) -> None:
        """Give up a paused trial."""
        self.study.tell(number, state=TrialState.PRUNED)
        self.changed()

    def lost_again(self, number: int) -> bool:
        """Count a loss of a paused trial on its way up; whether it was one too many, which ends the trial."""
        trial = self.trial(number)
        tries = int(trial.user_attrs.get("tries", 1)) + 1
        self.study._storage.set_trial_user_attr(trial._trial_id, "tries", tries)
        self.changed()
        return tries > MAX_TRIES

    def recover(self) -> int:
        """Bring order into what a dead process left: how many trials go back in line.

        A trial whose result was written but whose state was not is told now; one that was on its way from one
        rung of the ladder to the next is paused where it was; any other running trial is `lost` and waits to
        run again with the same configuration and seed.
        """
        requeued = 0
        self.changed()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            told = trial.user_attrs.get("result")
            if told is not None:
                self._close(trial.number, TrialStatus(told["status"]), trial.user_attrs["values"])
            elif RUNGS not in trial.user_attrs:
                lost = TrialResult(TrialStatus.LOST, error="interrupted")
                self.tell(trial.number, lost, None, {})
                requeued += self.requeue(trial)
        return requeued

    def requeue(self, trial: FrozenTrial) -> bool:
        """Put a lost trial back in line, unless it was lost too often or never got its parameters."""
        tries = int(trial.user_attrs.get("tries", 1)) + 1
        if tries > MAX_TRIES or not trial.params:
            return False
        kept = {k: v for k, v in trial.user_attrs.items() if k not in ("result", "values", "status")}
        self.study.enqueue_trial(dict(trial.params), user_attrs={**kept, "tries": tries})
        self.changed()
        return True

    def _close(self, number: int, status: TrialStatus, values: list[float] | None) -> None:
        complete = status == TrialStatus.COMPLETE
        self.study.tell(
            number, values if complete else None, None if complete else TrialState.FAIL, skip_if_finished=True
        )
        self.changed()


def open_ledger(folder: Path, sweep: Sweep, part: Part = "search") -> Ledger:
    """The study of a part of the sweep; made where it does not exist."""
    objectives = {o.name: o.direction for o in sweep.objectives} if part != "probe" else _LOSS
    study = optuna.create_study(
        storage=_storage(folder),
        study_name=_study_name(sweep, part),
        directions=list(objectives.values()),
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(objectives))
    return Ledger(study)


def read_ledger(folder: Path, sweep: Sweep, part: Part = "search") -> list[FrozenTrial]:
    """The trials of a study; none where the study does not exist yet. Another process may be writing it."""
    if not (folder / STUDY_FILE).is_file():
        return []
    try:
        name = _study_name(sweep, part)
        return Ledger(optuna.load_study(study_name=name, storage=_url(folder))).trials
    except KeyError:
        return []


def _study_name(sweep: Sweep, part: Part) -> str:
    return sweep.name if part == "search" else f"{sweep.name}/{part}"


@contextmanager
def claim_folder(folder: Path, sweep: Sweep) -> Iterator[None]:
    """Hold the sweep's folder for this process, with the resolved sweep written in it.

    Raises:
        InvalidInputError: another process holds it, it holds another sweep, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE, timeout=0)
        with lock:
            _check_same_sweep(folder, sweep)
            dump_sweep(sweep, folder / SWEEP_FILE)
            yield
    except Timeout as error:
        raise InvalidInputError(
            Problem("out", f"another process is working in {str(folder)!r}", "Wait for it, or use --out.")
        ) from error
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise InvalidInputError(
            Problem(
                "out", f"cannot write to {str(folder)!r} ({error.strerror})", "Use --out with another folder."
            )
        ) from error


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into one clear error."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError) as error:
        cause = error.__cause__ or error
        raise LedgerError(
            f"cannot write to {str(folder)!r} ({first_line(cause, None)}). Everything that was "
            f"told before stays told: make room, then run: autotune resume {folder}"
        ) from error


def read_sweep(folder: Path) -> Sweep:
    """The resolved sweep of a folder.

    Raises:
        InvalidInputError: the folder holds no sweep.
    """
    path = folder / SWEEP_FILE
    if not path.is_file():
        raise InvalidInputError(
            Problem(
                "DIR", f"{str(folder)!r} holds no {SWEEP_FILE}", "Give the folder of a sweep that was run."
            )
        )
    return load_sweep(path, check_files=False)  # a finished sweep can be read where its data have gone


def _check_same_sweep(folder: Path, sweep: Sweep) -> None:
    if not (folder / SWEEP_FILE).is_file():
        return
    differs = same_search(read_sweep(folder), sweep)
    if differs:
        raise InvalidInputError(
            Problem(
                "out",
                f"{str(folder)!r} already holds another sweep: {', '.join(differs)} differ",
                "Use --out with another folder, or resume the one that is there.",
            )
        )


def _storage(folder: Path) -> optuna.storages.RDBStorage:
    """The study's file, which appears in the folder with all of its tables.

    Optuna finishes a file that it finds half made. Two processes would then do so at once, one that reads
    the status of a sweep that is only just starting among them, and the slower one would fail.
    """
    if not (folder / STUDY_FILE).exists():
        unfinished = folder / f".{STUDY_FILE}"
        unfinished.unlink(missing_ok=True)
        optuna.storages.RDBStorage(_url(folder, unfinished.name)).engine.dispose()
        unfinished.rename(folder / STUDY_FILE)
    return optuna.storages.RDBStorage(_url(folder))


def _url(folder: Path, file: str = STUDY_FILE) -> str:
    return f"sqlite:///{folder / file}"
