"""Running a sweep: prepare, search, confirm, and write the outputs.

A run holds no state that the ledger does not: the process can be killed at any moment and started again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from autotune.engine.confirmation_search import confirmation_search
from autotune.engine.events import Listener, Progress, SilentListener
from autotune.engine.plan import predict_time, time_note
from autotune.engine.posterior import store_posterior
from autotune.engine.progress import SearchProgress
from autotune.engine.search import sweep_search
from autotune.engine.start import SweepStart, prepare_start
from autotune.estimate.sweep_time import SweepTime
from autotune.ledger.folder_reader import STUDY_FILE, FolderReader
from autotune.ledger.ledger import SWEEP_FILE, Ledger, claim_folder, open_ledger, storage_errors
from autotune.prepare.own_scores import check_returned, keep_code
from autotune.prepare.prepared_sweep import PreparedSweep, names_of_examples, with_base_score
from autotune.results.completion import is_finished
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.results.tables import write_tables
from autotune.search.failures import SearchFailedError
from autotune.sweep.schema import Sweep
from autotune.transfer.old_front import OldFront
from autotune.transfer.start import first_trials_alone
from search_spaces.errors import AutotuneError
from trials.execution.deferred import DeferredExecutor
from trials.execution.executors import make_executor
from trials.execution.fork_server import preload_libraries
from trials.execution.interface import Executor
from trials.kinds.registry import find_kind
from trials.records import Fidelity, TrialSpec, TrialStatus

_FEW_EXAMPLES = 4
"""Examples on which the user's own evaluation is tried, where the base model has no score without training."""


class SweepInterruptedError(AutotuneError):
    """The sweep was interrupted with Ctrl-C; its folder holds every result, and it can be resumed."""


def run_sweep(
    sweep: Sweep,
    folder: str | Path,
    listener: Listener | None = None,
    executor: Executor | None = None,
    old_front: OldFront | None = None,
) -> SweepTables:
    """Run a sweep in its folder, from where the folder stands to the report.

    A folder that already holds the same sweep resumes where it stopped, so running twice repeats nothing.

    Args:
        sweep: what to search.
        folder: of the ledger and the outputs.
        listener: receives events while the sweep runs; by default none does.
        executor: trains the trials, started and stopped here; by default the one that the sweep describes.
        old_front: the front of an earlier sweep, which is trained alone; the folder can then be run as any other.

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
    has_ended = has_nothing_left(folder, sweep)
    if executor is not None:  # nothing else is chosen
        sweep = sweep.model_copy(update={"executor": sweep.executor})
    elif sweep.executor.uses_processes and not has_ended:
        preload_libraries(sweep.model.device)
    start, expected = prepare_start(sweep, folder, old_front), None
    prepared, notes = start.prepared, start.notes
    if start.search.ends_after_first:
        prepared = first_trials_alone(prepared, start.search, FolderReader(folder, sweep).trials())
    if executor is None:
        if not (folder / STUDY_FILE).is_file():  # a resumed sweep knows the pace of its own trials
            expected = predict_time(prepared)
        chosen = prepared.sweep
        executor = make_executor(**chosen.executor.model_dump(), device=chosen.model.device)
        if has_ended and chosen.executor.name != "ray":  # Ray's slots are known once it has started
            executor = DeferredExecutor(executor)
    try:
        executor.start(prepared.sweep.model, start.task)
        if find_kind(sweep.task.type).base_has_head:
            prepared = with_base_score(prepared, _score_base(executor, prepared))
        elif start.task.evaluate is not None and not has_ended:
            _score_base(executor, prepared, Fidelity(eval_samples=_FEW_EXAMPLES))
        with claim_folder(folder, _whole(prepared.sweep, start)), storage_errors(folder):
            estimates = [time_note(expected)] if expected is not None else []
            listener.sweep_started(prepared.sweep, [*notes, *executor.notes, *estimates])
            ledger = open_ledger(folder, prepared.sweep)
            ledger.set_origin(start.fingerprint, notes)
            keep_code(folder, start.task)
            ledger.set_names(*names_of_examples(prepared))
            if prepared.ends_when_tried and prepared.small_space is not None:
                ledger.set_configurations(len(prepared.small_space))
            progress = _train(start, prepared, folder, executor, listener, expected)
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
            _write_report(results)
            listener.progress(replace(ended, phase="done"))
            return results
    finally:
        executor.stop()


def _whole(sweep: Sweep, start: SweepStart) -> Sweep:
    """Return the sweep that the folder keeps: of one that trains an earlier front alone, the one that can follow."""
    if not start.search.ends_after_first:
        return sweep
    own = start.prepared.sweep
    return sweep.model_copy(update={"budget": own.budget, "ladder": own.ladder, "confirm": own.confirm})


def has_nothing_left(folder: Path, sweep: Sweep) -> bool:
    """Return whether a folder holds the results of every trial and confirmation run of a sweep.

    Args:
        folder: of the sweep, which may not exist yet.
        sweep: whose budget and confirmation count; the folder's may be others.
    """
    if not all((folder / name).is_file() for name in (SWEEP_FILE, STUDY_FILE)):
        return False
    results = read_tables(folder, sweep.confirm)
    return is_finished(replace(results, sweep=results.sweep.model_copy(update={"budget": sweep.budget})))


def _score_base(
    executor: Executor, prepared: PreparedSweep, fidelity: Fidelity | None = None
) -> dict[str, float]:
    """Return the scores of the base model without an adapter, on the validation split.

    The user's own evaluation is tried by this before any training.
    """
    result = executor.run(TrialSpec(config={}, fidelity=fidelity or prepared.sweep.fidelity))
    if result.status != TrialStatus.COMPLETE:
        raise SearchFailedError(f"the base model cannot be scored: {result.error}")
    check_returned(prepared.sweep, result.metrics)
    return result.metrics


def _train(
    start: SweepStart,
    prepared: PreparedSweep,
    folder: Path,
    executor: Executor,
    listener: Listener,
    expected: SweepTime | None,
) -> SearchProgress:
    """Run the search and then the confirmation, each from where its ledger stands."""
    search_ledger = open_ledger(folder, prepared.sweep, "search")
    confirm_ledger = open_ledger(folder, prepared.sweep, "confirm")
    ledgers = (search_ledger, confirm_ledger)
    for ledger in ledgers:
        ledger.recover()
    search = sweep_search(
        prepared,
        folder,
        search_ledger,
        executor=executor,
        listener=listener,
        expected=expected,
        start=start.search,
    )
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


def _write_report(results: SweepTables) -> None:
    """Write the report; its figures import statistics and plotting, which no trial waits for."""
    from autotune.report.page import write_report

    write_report(results)
