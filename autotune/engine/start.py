"""The start of a sweep in its folder: what a run and its preview check and prepare alike. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune.engine.events import WARNING
from autotune.engine.samplers import sampler_notes
from autotune.ledger.ledger import check_same_sweep, continued, read_fingerprint, read_ledger
from autotune.prepare.fingerprint import changes_first, check_unchanged, sweep_fingerprint
from autotune.prepare.prepared_sweep import PreparedSweep, prepare
from autotune.sweep.sampler_spec import check_sampler
from autotune.sweep.schema import Sweep


@dataclass(frozen=True)
class SweepStart:
    """A sweep that can start in its folder.

    Args:
        prepared: the sweep.
        fingerprint: of its data and base model.
        notes: warnings and notes, in sentences for the user.
    """

    prepared: PreparedSweep
    fingerprint: Mapping[str, Any]
    notes: tuple[str, ...]


def prepare_start(sweep: Sweep, folder: Path) -> SweepStart:
    """Prepare a sweep, and check the folder that it will run in.

    Raises:
        InvalidInputError: the sweep cannot be run, or the folder holds another one.
    """
    check_sampler(sweep.sampler)
    sweep = continued(sweep, folder)
    with changes_first(folder, sweep):
        prepared = prepare(sweep)
    fingerprint = sweep_fingerprint(prepared)
    notes = (
        *(f"{WARNING}{text}" for text in prepared.warnings),
        *_origin_notes(folder, sweep, fingerprint),
        *prepared.notes,
        *sampler_notes(prepared),
    )
    return SweepStart(prepared, fingerprint, notes)


def _origin_notes(folder: Path, sweep: Sweep, fingerprint: Mapping[str, Any]) -> list[str]:
    """Check a folder that holds the sweep, and return notes about what could not be checked.

    Raises:
        InvalidInputError: the folder holds another sweep, or its data or base model changed.
    """
    check_same_sweep(folder, sweep)
    before = read_fingerprint(folder, sweep)
    check_unchanged(before, fingerprint)
    if before is not None or not read_ledger(folder, sweep):
        return []
    return [
        "the folder does not say which data and base model its trials were trained with; it is now assumed, and "
        "stored, that they are the present ones"
    ]
