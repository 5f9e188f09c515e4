"""The start of a sweep in its folder: what a run and its preview check and prepare alike. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune.calibrate.candidates import by_rule
from autotune.engine.events import WARNING
from autotune.engine.samplers import sampler_notes
from autotune.ledger.folder_reader import FolderReader
from autotune.ledger.ledger import SWEEP_FILE, check_same_sweep, continued
from autotune.prepare.fingerprint import changes_first, check_unchanged, sweep_fingerprint
from autotune.prepare.own_scores import with_own_scores
from autotune.prepare.prepared_sweep import PreparedSweep, prepare
from autotune.sweep.sampler_spec import check_sampler
from autotune.sweep.schema import Sweep
from autotune.transfer.old_front import OldFront
from autotune.transfer.start import SearchStart, search_start
from trials.tasks.specs import AUTO, TaskSpec


@dataclass(frozen=True)
class SweepStart:
    """A sweep that can start in its folder.

    Args:
        prepared: the sweep.
        task: with which its data were loaded; a resumed sweep has the folder's version of them. The task of
            `prepared` also names the positive class, so with it a process would load the same data again.
        fingerprint: of its data and base model.
        notes: warnings and notes, in sentences for the user.
        search: what the search starts from: the user's own configurations and earlier sweeps.
    """

    prepared: PreparedSweep
    task: TaskSpec
    fingerprint: Mapping[str, Any]
    notes: tuple[str, ...]
    search: SearchStart


def prepare_start(sweep: Sweep, folder: Path, old_front: OldFront | None = None) -> SweepStart:
    """Prepare a sweep, and check the folder that it will run in.

    Args:
        sweep: the sweep.
        folder: that it will run in.
        old_front: the front of an earlier sweep that is trained alone, without a search; None for a search.

    Raises:
        InvalidInputError: the sweep cannot be run, or the folder holds another one.
    """
    check_sampler(sweep.sampler)
    sweep = with_own_scores(sweep)
    sweep, precision_notes = _with_precision(continued(sweep, folder), folder)
    with changes_first(folder, sweep):
        prepared = prepare(sweep)
    fingerprint = sweep_fingerprint(prepared)
    origin_notes = _origin_notes(folder, sweep, fingerprint)
    search = search_start(prepared, folder, old_front)
    notes = (
        *(f"{WARNING}{text}" for text in prepared.warnings),
        *origin_notes,
        *precision_notes,
        *prepared.notes,
        *search.notes,
        *sampler_notes(prepared),
    )
    return SweepStart(prepared, sweep.task, fingerprint, notes, search)


def _with_precision(sweep: Sweep, folder: Path) -> tuple[Sweep, list[str]]:
    """Return a sweep that resumes with the precision of its trials so far, and notes about it.

    A folder of an earlier version may hold the word `auto`: its trials computed as the instruction sets suggest.
    """
    if sweep.model.precision != AUTO or not (folder / SWEEP_FILE).is_file():
        return sweep, []
    candidate = by_rule(sweep.model)
    note = f"precision: {candidate}, which `auto` was on this device when the folder was begun"
    return sweep.model_copy(update={"model": candidate.of(sweep.model)}), [note]


def _origin_notes(folder: Path, sweep: Sweep, fingerprint: Mapping[str, Any]) -> list[str]:
    """Check a folder that holds the sweep, and return notes about what could not be checked.

    Raises:
        InvalidInputError: the folder holds another sweep, or its data or base model changed.
    """
    check_same_sweep(folder, sweep)
    stored = FolderReader(folder, sweep)
    check_unchanged(stored.fingerprint, fingerprint)
    if stored.fingerprint is not None or not stored.trials():
        return []
    return [
        "the folder does not say which data and base model its trials were trained with; it is now assumed, and "
        "stored, that they are the present ones"
    ]
