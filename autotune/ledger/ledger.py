"""The ledger of a sweep: its folder and the Optuna studies in it.

A folder holds the resolved `sweep.yaml`, `study.db` (a SQLite file with the study of the search, named after
the sweep, and those of its confirmation and probe runs) and the outputs. All state that matters is on disk. The
result of a trial is written as one attribute before Optuna's state of the trial changes, so a process that dies in
between loses nothing, and one that dies during a trial leaves a running trial, which `recover` puts back into the
queue.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from autotune.ledger.folder_reader import (
    CONFIGURATIONS,
    FINGERPRINT,
    NAMES,
    NOTES,
    POSTERIOR,
    SOURCES,
    STUDY_FILE,
    FolderReader,
    Part,
    study_name,
)
from autotune.ledger.optuna_storage import TrialWriter, can_show_curve, open_storage
from autotune.sweep.comparison import search_differences
from autotune.sweep.data_version import at_data_version
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import dump_sweep, load_sweep
from autotune.trial_attributes import Attributes, RungResult, TrialAttributes, stored
from search_spaces.errors import AutotuneError, InvalidInputError, Problem, first_line
from trials.kinds.kind import Direction
from trials.records import TrialResult, TrialStatus
from trials.tasks.specs import AUTO, ROWS_APART

SWEEP_FILE, LOCK_FILE = "sweep.yaml", ".lock"
_LOSS: dict[str, Direction] = {"eval_loss": "minimize"}
INTERRUPTED = "interrupted"
"""The error of a trial that was running when its process ended."""
STORAGE_ERRORS = (optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError)
"""What a full or read-only disk raises."""
MAX_TRIES = 3
"""A trial that was lost this often fails: by then the configuration itself is the likely cause."""
_FINAL_KEYS = ("result", "values", "status")
"""The attributes of a trial that has ended, which a trial that takes its place does not inherit."""


class LedgerError(AutotuneError, RuntimeError):
    """The ledger cannot be written; everything written before is kept."""


class Ledger:
    """One study of a sweep's folder.

    Life cycle: `open_ledger` makes it, `recover` repairs what a dead process left, and then every
    trial that `study.ask` started ends with `tell`, after any number of `pause`. The trials are read once and kept;
    call `changed` after writing to the study directly.

    Args:
        study: the Optuna study.
        storage: the storage that the study was opened with.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage) -> None:
        self.study = study
        self._writer = TrialWriter(storage, study.study_name)
        self._read: list[FrozenTrial] | None = None

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial that was started, in order."""
        return [trial for trial in self._all if trial.state != TrialState.WAITING]

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial."""
        return self._all[number]

    def attributes(self, number: int) -> TrialAttributes:
        """Return the attributes of one trial."""
        return TrialAttributes(self.trial(number))

    @property
    def _all(self) -> list[FrozenTrial]:
        # Optuna reads unfinished trials on every call, and on a ladder most trials are unfinished.
        if self._read is None:
            self._read = self.study.get_trials(deepcopy=False)
        return self._read

    def changed(self) -> None:
        """Forget the trials that were read, after the study was written to directly."""
        self._read = None

    def set(self, number: int, **attributes: Unpack[Attributes]) -> None:
        """Write attributes of a trial that has not ended, in the order given."""
        self._writer.set_attributes(number, stored(**attributes))
        self.changed()

    def set_posterior(self, scores: Mapping[str, Mapping[int, tuple[float, float]]]) -> None:
        """Write what the search's surrogate knows about the scores of the finished trials.

        Args:
            scores: (posterior mean, standard deviation) by score and trial number; empty where the values of the
                trials are to be used.
        """
        plain = {name: {str(number): list(pair) for number, pair in s.items()} for name, s in scores.items()}
        self.study.set_user_attr(POSTERIOR, {"scores": plain})

    def set_origin(self, fingerprint: Mapping[str, Any], notes: Sequence[str]) -> None:
        """Write what the search began with, unless that is known: its data and base models, and notes about them."""
        if FINGERPRINT not in self.study.user_attrs:
            self.study.set_user_attr(NOTES, list(notes))
            self.study.set_user_attr(FINGERPRINT, dict(fingerprint))

    def set_names(self, classes: Sequence[str], groups: Sequence[str]) -> None:
        """Write the names of the classes and of the groups, whose indices the runs of the confirmation hold."""
        names = {"classes": list(classes), "groups": list(groups)}
        if self.study.user_attrs.get(NAMES) != names:
            self.study.set_user_attr(NAMES, names)

    @property
    def sources_digest(self) -> str | None:
        """The fingerprint of what was carried over from earlier sweeps; None before it is stored."""
        found: str | None = self.study.user_attrs.get(SOURCES)
        return found

    def set_sources_digest(self, digest: str) -> None:
        """Write the fingerprint of what was carried over from earlier sweeps."""
        self.study.set_user_attr(SOURCES, digest)

    def set_configurations(self, count: int) -> None:
        """Write after how many configurations the search ends, because the space has no others."""
        if self.study.user_attrs.get(CONFIGURATIONS) != count:
            self.study.set_user_attr(CONFIGURATIONS, count)

    def tell(
        self,
        number: int,
        result: TrialResult,
        values: list[float] | None,
        attributes: Attributes | None = None,
        violations: Sequence[float] = (),
    ) -> None:
        """Write the final result of a trial.

        Args:
            number: of the trial.
            result: of its training.
            values: the objectives in the sweep's order, None unless the trial is complete.
            attributes: further ones to keep.
            violations: of the hard limits, at most 0 where one is kept; Optuna's constraint values.
        """
        if violations:
            self._writer.set_constraints(number, violations)
        # Samplers read the status by itself: they ignore a lost trial and learn from a failed one.
        ending: Attributes = {"status": result.status, "values": values, "result": result}
        self._writer.set_attributes(number, {**stored(**(attributes or {})), **stored(**ending)})
        self._close(number, result.status, values)

    def pause(
        self, number: int, rung: int, result: TrialResult, attributes: Attributes | None = None
    ) -> None:
        """Write the result on a rung of the ladder; Optuna's state of the trial stays RUNNING."""
        earlier = self.attributes(number).rungs
        self.set(number, **(attributes or {}))
        self.set(number, rungs=[*earlier, RungResult(rung, result.flops_share, result)])

    def show_curve(self, number: int, points: Mapping[int, float], *, is_final: bool) -> None:
        """Write a validation curve as Optuna's intermediate values.

        Args:
            number: of a trial that has not ended.
            points: value by optimizer step; points that are known are not written again.
            is_final: whether the trial is complete, and not only on a rung of the ladder.
        """
        if not (is_final or can_show_curve(self.study)):
            return
        known = self.trial(number).intermediate_values
        for step, value in points.items():
            if step not in known:
                self._writer.set_intermediate_value(number, step, value)
        self.changed()

    def stop(self, number: int) -> None:
        """Prune a paused trial."""
        self.study.tell(number, state=TrialState.PRUNED)
        self.changed()

    def lost_again(self, number: int) -> bool:
        """Count a loss of a trial that had paused before, and return whether that was one loss too many."""
        tries = self.attributes(number).tries + 1
        self.set(number, tries=tries)
        return tries > MAX_TRIES

    def recover(self) -> int:
        """Repair what a dead process left.

        A trial whose result was written but whose state was not is closed; one that was between two rungs of the
        ladder stays paused on the lower one; any other running trial is `lost` and enters the queue again with the
        same configuration and seed.

        Returns:
            The number of trials that entered the queue.
        """
        requeued = 0
        self.changed()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            attributes = TrialAttributes(trial)
            if (result := attributes.result) is not None:
                self._close(trial.number, result.status, attributes.values)
            elif not attributes.rungs:
                self.tell(trial.number, TrialResult(TrialStatus.LOST, error=INTERRUPTED), None)
                requeued += self.requeue(trial)
        return requeued

    def requeue(self, trial: FrozenTrial) -> bool:
        """Put a lost trial back into the queue, unless it was lost too often or never got its parameters.

        Returns:
            Whether it was put back.
        """
        tries = TrialAttributes(trial).tries + 1
        if tries > MAX_TRIES or not trial.params:
            return False
        kept = {key: value for key, value in trial.user_attrs.items() if key not in _FINAL_KEYS}
        self.study.enqueue_trial(dict(trial.params), user_attrs={**kept, **stored(tries=tries)})
        self.changed()
        return True

    def _close(self, number: int, status: TrialStatus, values: list[float] | None) -> None:
        is_complete = status == TrialStatus.COMPLETE
        self.study.tell(
            number,
            values if is_complete else None,
            None if is_complete else TrialState.FAIL,
            skip_if_finished=True,
        )
        self.changed()


def open_ledger(folder: Path, sweep: Sweep, part: Part = "search") -> Ledger:
    """Open the study of a part of the sweep, created where it does not exist."""
    objectives = {o.name: o.direction for o in sweep.objectives} if part != "probe" else _LOSS
    storage = open_storage(folder / STUDY_FILE)
    study = optuna.create_study(
        storage=storage,
        study_name=study_name(sweep, part),
        directions=list(objectives.values()),
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(objectives))
    return Ledger(study, storage)


@contextmanager
def claim_folder(folder: Path, sweep: Sweep) -> Iterator[None]:
    """Lock the sweep's folder for this process, and write the resolved sweep into it.

    Raises:
        InvalidInputError: another process works in it, it holds another sweep, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE, timeout=0)
        with lock:
            check_same_sweep(folder, sweep)
            dump_sweep(sweep, folder / SWEEP_FILE)
            yield
    except Timeout as error:
        raise InvalidInputError(
            Problem(
                "out",
                f"another process is working in {str(folder)!r}",
                "Wait until it has ended, or stop it with Ctrl-C, and run the command again. "
                f"To see its progress: autotune status {shlex.quote(str(folder))}",
            )
        ) from error
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise InvalidInputError(
            Problem(
                "out", f"cannot write to {str(folder)!r} ({error.strerror})", "Use --out with another folder."
            )
        ) from error


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into one.

    Raises:
        LedgerError: with the cause and the command that resumes the sweep.
    """
    try:
        yield
    except STORAGE_ERRORS as error:
        cause = error.__cause__ or error
        raise LedgerError(
            f"cannot write to {str(folder)!r} ({first_line(cause, None)}). All results so far "
            f"are kept: free some space, then run: autotune resume {folder}"
        ) from error


def read_sweep(folder: Path) -> Sweep:
    """Read the resolved sweep of a folder.

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
    # A finished sweep is readable after its data were moved. A folder without the version is older than the field.
    return load_sweep(path, check_files=False, data_version=ROWS_APART)


def continued(sweep: Sweep, folder: Path) -> Sweep:
    """Return the sweep with the folder's version of how data are split and scored.

    What the sweep leaves open is that of the folder: fidelity and precision, so that all its trials are comparable,
    and the executor.

    Args:
        sweep: as the user gave it.
        folder: of the sweep, which may not exist yet.
    """
    if not (folder / SWEEP_FILE).is_file():
        return sweep
    before = read_sweep(folder)
    if sweep.is_fidelity_open and not before.is_fidelity_open:
        sweep = sweep.model_copy(update={"fidelity": before.fidelity})
    if sweep.is_executor_open:
        sweep = sweep.model_copy(update={"executor": before.executor})
    open_fields = [
        name for name in ("precision", "attn_implementation") if getattr(sweep.model, name) == AUTO
    ]
    kept = {name: getattr(before.model, name) for name in open_fields}
    sweep = sweep.model_copy(update={"model": sweep.model.model_copy(update=kept)})
    return at_data_version(sweep, before.task.data_version)


def check_same_sweep(folder: Path, sweep: Sweep) -> None:
    """Check that a folder holds no other sweep.

    Files and folders may have moved where the fingerprint of their content is known.

    Raises:
        InvalidInputError: it holds another sweep.
    """
    if not (folder / SWEEP_FILE).is_file():
        return
    before = read_sweep(folder)
    is_known = FolderReader(folder, before).fingerprint is not None
    differs = search_differences(before, sweep, compare_paths=not is_known)
    if differs:
        raise InvalidInputError(
            Problem(
                "out",
                f"{str(folder)!r} already holds another sweep: {', '.join(differs)} differ",
                "Use --out with another folder, or resume the one that is there.",
            )
        )
