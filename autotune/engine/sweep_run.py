"""Running a sweep: prepare, search, confirm, and write the outputs.

A run holds no state that the ledger does not: the process can be killed at any moment and started again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune.engine.confirmation_search import confirmation_search
from autotune.engine.events import WARNING, Listener, Progress, SilentListener
from autotune.engine.posterior import store_posterior
from autotune.engine.progress import SearchProgress
from autotune.engine.samplers import sampler_notes
from autotune.engine.search import sweep_search
from autotune.ledger.ledger import (
    Ledger,
    check_same_sweep,
    claim_folder,
    continued,
    open_ledger,
    read_fingerprint,
    read_ledger,
    storage_errors,
)
from autotune.prepare.fingerprint import check_unchanged, sweep_fingerprint
from autotune.prepare.prepared_sweep import PreparedSweep, prepare, with_base_score
from autotune.report.page import write_report
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.results.tables import write_tables
from autotune.search.failures import SearchFailedError
from autotune.sweep.sampler_spec import check_sampler
from autotune.sweep.schema import Sweep
from search_spaces.errors import AutotuneError
from trials.execution.executors import make_executor
from trials.execution.interface import Executor
from trials.records import TrialSpec, TrialStatus


class SweepInterruptedError(AutotuneError):
    """The sweep was interrupted with Ctrl-C; its folder holds every result, and it can be resumed."""


def run_sweep(
    sweep: Sweep,
    folder: str | Path,
    listener: Listener | None = None,
    executor: Executor | None = None,
) -> SweepTables:
    """Run a sweep in its folder, from where the folder stands to the report.

    A folder that already holds the same sweep resumes where it stopped, so running twice repeats nothing.

    Args:
        sweep: what to search.
        folder: of the ledger and the outputs.
        listener: receives events while the sweep runs; by default none does.
        executor: trains the trials, started and stopped here; by default the one that the sweep describes.

    Returns:
        The finished sweep, read from its folder.

    Raises:
        InvalidInputError: the sweep cannot be run; nothing was written.
        SweepInterruptedError: after Ctrl-C.
        SearchFailedError: the first trials all fail.
        LedgerError: the disk is full or read-only.
    """
    folder, listener = Path(folder), listener or SilentListener()
    listener.progress(Progress(phase="loading"))
    check_sampler(sweep.sampler)
    sweep = continued(sweep, folder)
    prepared = prepare(sweep)
    fingerprint = sweep_fingerprint(prepared)
    notes = [
        *(f"{WARNING}{text}" for text in prepared.warnings),
        *_origin_notes(folder, sweep, fingerprint),
        *prepared.notes,
        *sampler_notes(prepared),
    ]
    if executor is None:
        executor = make_executor(**sweep.executor.model_dump(), device=sweep.model.device)
    try:
        executor.start(sweep.model, sweep.task)
        if sweep.task.type == "causal-lm":
            prepared = with_base_score(prepared, _score_base(executor, prepared))
        with claim_folder(folder, prepared.sweep), storage_errors(folder):
            listener.sweep_started(prepared.sweep, notes)
            open_ledger(folder, prepared.sweep).set_origin(fingerprint, notes)
            progress = _train(prepared, folder, executor, listener)
            results = read_tables(folder)
            # The confirmation may have moved points: the front is no longer that of the search.
            ended = replace(
                progress.progress("report"),
                front_size=len(results.front),
                hypervolume=results.hypervolume,
                remaining=0.0,
            )
            listener.progress(ended)
            write_tables(results)
            write_report(results)
            listener.progress(replace(ended, phase="done"))
            return results
    finally:
        executor.stop()


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


def _score_base(executor: Executor, prepared: PreparedSweep) -> dict[str, float]:
    """Return the scores of the base model without an adapter, on the validation split."""
    result = executor.run(TrialSpec(config={}, fidelity=prepared.sweep.fidelity))
    if result.status != TrialStatus.COMPLETE:
        raise SearchFailedError(f"the base model cannot be scored: {result.error}")
    return result.metrics


def _train(prepared: PreparedSweep, folder: Path, executor: Executor, listener: Listener) -> SearchProgress:
    """Run the search and then the confirmation, each from where its ledger stands."""
    search_ledger = open_ledger(folder, prepared.sweep, "search")
    confirm_ledger = open_ledger(folder, prepared.sweep, "confirm")
    ledgers = (search_ledger, confirm_ledger)
    for ledger in ledgers:
        ledger.recover()
    search = sweep_search(prepared, folder, search_ledger, executor=executor, listener=listener)
    with _tidy_interrupt(folder, ledgers, executor), _traceback_hint(folder):
        search.run()
        store_posterior(prepared, search_ledger)
        if prepared.sweep.confirm.seeds:
            confirmation = confirmation_search(
                prepared,
                read_tables(folder),
                confirm=confirm_ledger,
                executor=executor,
                progress=search.progress,
                listener=listener,
            )
            confirmation.run()
    return search.progress


@contextmanager
def _traceback_hint(folder: Path) -> Iterator[None]:
    """Add to the error of a failed search how to see the tracebacks of its trials."""
    try:
        yield
    except SearchFailedError as error:
        hint = f"For their tracebacks, run: autotune status {shlex.quote(str(folder))}"
        raise SearchFailedError(f"{error}\n{hint}") from error.__cause__


@contextmanager
def _tidy_interrupt(folder: Path, ledgers: Iterable[Ledger], executor: Executor) -> Iterator[None]:
    """Stop the executor and put running trials back into the queue before an interrupt is raised."""
    try:
        yield
    except KeyboardInterrupt:
        executor.stop()
        for ledger in ledgers:
            ledger.recover()
        raise SweepInterruptedError(str(folder)) from None
