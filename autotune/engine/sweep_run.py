"""The engine: ask the sampler, run the trial, tell the ledger, until the budget is spent; then confirm.

The engine holds no state that the ledger does not: it can be killed at any moment and started again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import optuna

from autotune.engine.events import Listener, Progress, SilentListener
from autotune.engine.progress import SearchProgress
from autotune.engine.samplers import make_sampler
from autotune.ladder.checkpoints import Checkpoints
from autotune.ladder.promotion import Candidate
from autotune.ladder.sweep_scheduler import SweepScheduler
from autotune.ledger.clock import StudyClock
from autotune.ledger.ledger import claim_folder, open_ledger, storage_errors
from autotune.objectives import MEASURED_COSTS
from autotune.prepare.prepared_sweep import PreparedSweep, prepare, with_base_score
from autotune.report.page import write_report
from autotune.results.confirmation import missing_runs, search_seed
from autotune.results.ladder_view import read_scheduler
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.results.tables import write_tables
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sweep.schema import Sweep
from autotune.trial_attributes import FIRST_RUNG, SPENT, trial_result
from search_spaces.errors import AutotuneError
from search_spaces.parameters.types import Configuration
from trials.execution.executors import make_executor
from trials.execution.interface import Executor
from trials.records import PartialRun, Segment, TrialResult, TrialSpec, TrialStatus

_STATES = "states"
"""The folder, in a sweep's own, of what paused trials go on from."""
_FAILURES_BEFORE_GIVING_UP = 5
"""So many failures before the first success end a sweep: then it is not the configurations' fault."""
_TRAINED = (TrialStatus.COMPLETE, TrialStatus.PAUSED, TrialStatus.STOPPED)
_MAX_SKIPS = 20
"""Proposals outside the limits, in a row, after which another sampler than ours gets one from inside."""


class SweepInterruptedError(AutotuneError):
    """Ctrl-C; everything that was told is in the folder, and the sweep can be resumed."""


class SweepFailedError(AutotuneError, RuntimeError):
    """Trial after trial fails: something is wrong that no other configuration will mend."""


def run_sweep(
    sweep: Sweep,
    folder: str | Path,
    listener: Listener | None = None,
    executor: Executor | None = None,
) -> SweepTables:
    """Run a sweep in its folder from wherever it stands to its report.

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
        SweepFailedError: nothing but failures.
        LedgerError: the disk is full or read-only.
    """
    folder, listener = Path(folder), listener or SilentListener()
    listener.progress(Progress(phase="loading"))
    prepared = prepare(sweep)
    if executor is None:
        executor = make_executor(**sweep.executor.model_dump(), device=sweep.model.device)
    try:
        executor.start(sweep.model, sweep.task)
        if sweep.task.type == "causal-lm":
            prepared = with_base_score(prepared, _score_base(executor, prepared))
        with claim_folder(folder, prepared.sweep), storage_errors(folder):
            listener.sweep_started(prepared.sweep, list(prepared.notes))
            run = _Run(prepared, folder, executor, listener)
            with _tidy_interrupt(run):
                run.search()
                run.confirm()
            listener.progress(replace(run.progress_view.progress("report"), remaining=0.0))
            results = read_tables(folder)
            write_tables(results)
            write_report(results)
            listener.progress(replace(run.progress_view.progress("done"), remaining=0.0))
            return results
    finally:
        executor.stop()


def _score_base(executor: Executor, prepared: PreparedSweep) -> dict[str, float]:
    result = executor.run(TrialSpec(config={}, fidelity=prepared.sweep.fidelity))
    if result.status != TrialStatus.COMPLETE:
        raise SweepFailedError(f"the base model cannot be scored: {result.error}")
    return result.metrics


@contextmanager
def _tidy_interrupt(run: _Run) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        run.executor.stop()
        for ledger in run.ledgers:
            ledger.recover()
        raise SweepInterruptedError(str(run.folder)) from None


@dataclass(frozen=True)
class _Job:
    """What a free slot does next: a new trial, or one that goes on."""

    number: int
    config: Configuration
    seed: int
    segment: Segment | None = None
    part: PartialRun | None = None


class _Run:
    """One process's part of a sweep."""

    def __init__(self, prepared: PreparedSweep, folder: Path, executor: Executor, listener: Listener) -> None:
        self.prepared, self.folder, self.executor, self.listener = prepared, folder, executor, listener
        self.sweep = prepared.sweep
        self._measured = any(objective.name in MEASURED_COSTS for objective in self.sweep.objectives)
        self.search_ledger = open_ledger(folder, self.sweep)
        self.confirm_ledger = open_ledger(folder, self.sweep, "confirm")
        self.ledgers = (self.search_ledger, self.confirm_ledger)
        for ledger in self.ledgers:
            ledger.recover()
        self.scheduler: SweepScheduler | None = None
        sampler = make_sampler(prepared)
        if self.sweep.ladder is not None:
            self.scheduler = read_scheduler(self.sweep, self.search_ledger.trials)
            self.states = Checkpoints(folder.absolute() / _STATES)
            self.states.tidy(self.scheduler.promotion.candidates.values())
            if isinstance(sampler, ParetoSampler):
                sampler = sampler.observing(self.scheduler.observe)
        self.search_ledger.study.sampler = sampler
        self.confirm_ledger.study.sampler = optuna.samplers.RandomSampler(seed=self.sweep.seed)
        self.clock = StudyClock(self.search_ledger)
        self.progress_view = SearchProgress(self.sweep, self.search_ledger, self.clock, self.scheduler)

    # --- search

    def search(self) -> None:
        """Ask, run and tell until the budget is spent, and on a ladder until nobody is left to go on."""
        running: set[int] = set()
        self.clock.start()
        self.listener.progress(self.progress_view.progress("search"))
        while True:
            while len(running) < self.executor.slots and (job := self._next_job(running)) is not None:
                running.add(job.number)
                self.executor.submit(job.number, self._spec(job))
                self.listener.trial_started(job.number, job.config, seed=job.seed)
                self.listener.progress(self.progress_view.progress("search"))
            if not running:
                return
            number, result = self.executor.next_result()
            running.remove(number)
            self._tell(number, result)
            self.listener.progress(self.progress_view.progress("search"))

    def _spec(self, job: _Job) -> TrialSpec:
        config = self.prepared.run_on(job.part, job.config)
        return TrialSpec(
            config,
            job.seed,
            self.sweep.fidelity,
            segment=job.segment,
            partial_run=job.part,
            is_isolated=self._measured,
        )

    def _next_job(self, running: set[int]) -> _Job | None:
        """Who goes on, or else who is new; None where the budget allows neither."""
        if self._spent():
            return None
        new = self._may_begin(running)
        if self.scheduler is not None:
            candidate = self.scheduler.next(closing=not new and not running)
            if candidate is not None:
                trial = self.search_ledger.trial(candidate.number)
                return self._promoted_job(candidate, dict(trial.params), int(trial.user_attrs["seed"]))
        return self._begin() if new else None

    def _begin(self) -> _Job:
        trial, config = self._ask()
        seed = trial.user_attrs.get("seed")
        if seed is None:
            seed = search_seed(self.sweep.seed, trial.number)
            trial.set_user_attr("seed", seed)
        if first := self.prepared.bases.first(config):
            trial.set_user_attr(FIRST_RUNG, first)
        self.search_ledger.changed()
        if self.scheduler is None:
            return _Job(trial.number, config, seed)
        candidate = self.scheduler.read(self.search_ledger.trial(trial.number))
        assert candidate is not None, "it was begun just now"
        return self._promoted_job(candidate, config, seed)

    def _promoted_job(self, candidate: Candidate, config: Configuration, seed: int) -> _Job:
        assert self.scheduler is not None
        candidate.status = "running"
        if (part := self.scheduler.part(candidate)) is not None or not self.scheduler.resumes_from_checkpoint:
            return _Job(candidate.number, config, seed, part=part)
        return _Job(candidate.number, config, seed, self.states.segment(candidate, self.scheduler.ladder))

    def _ask(self) -> tuple[optuna.Trial, Configuration]:
        """The next configuration within the limits. Our sampler gives no other; any other sampler may.

        Where it does not find inside by itself, it is given a random configuration from there to learn from.
        """
        study, space = self.search_ledger.study, self.prepared.space
        for attempt in range(_MAX_SKIPS + 1):
            trial = study.ask()
            config = space.suggest(trial)
            self.search_ledger.changed()
            problem = self.prepared.outside_limits(config) or "; ".join(space.problems(config))
            if not problem:
                return trial, config
            pruned = TrialResult(TrialStatus.PRUNED, error=problem)
            self.search_ledger.tell(trial.number, pruned, None, {"costs": {}})
            if attempt == _MAX_SKIPS - 1:
                study.enqueue_trial(dict(self.prepared.draw_inside(self.sweep.seed + trial.number)))
        raise SweepFailedError(
            f"sampler {self.sweep.sampler!r} proposed {_MAX_SKIPS} configurations in a row outside the "
            "limits, and ran another than the one it was given; use sampler: pareto, which knows them"
        )

    def _tell(self, number: int, result: TrialResult) -> None:
        trial = self.search_ledger.trial(number)
        config = trial.params
        complete = result.status == TrialStatus.COMPLETE
        attributes = {
            "costs": self.prepared.cost_table(config),
            "baselines": self.prepared.baselines,
            "elapsed": self.clock.seconds,
        }
        if self.scheduler is not None:
            result = self._since_the_rung_below(trial, result)
        values = self.prepared.values(config, result) if complete else None
        if result.status == TrialStatus.PAUSED:
            assert self.scheduler is not None
            rung = self.scheduler.promotion.candidates[number].next_rung
            self.search_ledger.pause(number, rung, result, attributes)
        elif result.status != TrialStatus.LOST:
            self.search_ledger.tell(number, result, values, attributes)
        elif trial_result(trial) is None:
            self.search_ledger.tell(number, result, values, attributes)
            self.search_ledger.requeue(self.search_ledger.trial(number))
        elif self.search_ledger.lost_again(number):
            self.search_ledger.tell(number, result, values, attributes)
        if self.scheduler is not None:
            self._told(self.scheduler, number)
        names = [objective.name for objective in self.sweep.objectives]
        shown = dict(zip(names, values, strict=True)) if values is not None else {}
        self.listener.trial_finished(number, result, shown, number in self.progress_view.front())
        self._check_hope()

    def _since_the_rung_below(self, trial: optuna.trial.FrozenTrial, result: TrialResult) -> TrialResult:
        """With what the run cannot know: its earlier runs' peak and cost, and how far one got that failed."""
        assert self.scheduler is not None
        before = trial_result(trial)
        candidate = self.scheduler.promotion.candidates[trial.number]
        if not self.scheduler.resumes_from_checkpoint:
            share = self.prepared.share(self.scheduler.part(candidate), trial.params)
            spent, seconds = (before.flops_share, before.seconds) if before is not None else (0.0, 0.0)
            return replace(result, flops_share=spent + share, seconds=seconds + result.seconds)
        if result.status not in (TrialStatus.COMPLETE, TrialStatus.PAUSED):
            share = self.scheduler.ladder.rungs[candidate.next_rung]
            return replace(result, steps_share=share, flops_share=share)
        peak = max(result.peak_memory, before.peak_memory if before is not None else 0)
        return replace(result, peak_memory=peak)

    def _told(self, scheduler: SweepScheduler, number: int) -> None:
        """Bring the ladder and the states' folder in line with what the ledger was told of a trial."""
        candidate = scheduler.read(self.search_ledger.trial(number))
        if candidate is None or candidate.status in ("complete", "failed"):
            self.states.drop(number)
        else:
            candidate.status = "waiting"
            self.states.drop(number, but=candidate.rung)
        if candidate is not None and candidate.status == "complete":
            for prunable in scheduler.promotion.prunable():
                self.search_ledger.stop(prunable.number)
                scheduler.read(self.search_ledger.trial(prunable.number))
                self.states.drop(prunable.number)

    def _spent(self) -> bool:
        """Whether time or FLOPs are used up."""
        budget = self.sweep.budget
        if budget.hours is not None and self.clock.seconds >= budget.hours * 3600:
            return True
        if budget.flops is None:
            return False
        ended = [(t, r) for t in self.search_ledger.trials if (r := trial_result(t)) and r.status in SPENT]
        return sum(t.user_attrs["costs"]["train_flops"] * r.flops_share for t, r in ended) >= budget.flops

    def _may_begin(self, running: set[int]) -> bool:
        """Whether the budget allows one more trial beside those that run."""
        budget, trials = self.sweep.budget, self.search_ledger.trials
        begun = {t.number for t in trials if (r := trial_result(t)) is not None and r.status in SPENT}
        return budget.trials is None or len(begun | running) < budget.trials

    def _check_hope(self) -> None:
        results = [r for t in self.search_ledger.trials if (r := trial_result(t)) is not None]
        failed = [r for r in results if r.status == TrialStatus.FAILED]
        if len(failed) >= _FAILURES_BEFORE_GIVING_UP and not any(r.status in _TRAINED for r in results):
            reasons = "\n  ".join(sorted({str(r.error) for r in failed}))
            raise SweepFailedError(f"the first {len(failed)} trials all failed:\n  {reasons}")

    # --- confirmation

    def confirm(self) -> None:
        """Train the front again on fresh seeds, and score the test split."""
        if not self.sweep.confirm.seeds:
            return
        ledger = self.confirm_ledger
        todo = missing_runs(read_tables(self.folder))
        total = len(todo)
        running: dict[int, tuple[optuna.Trial, int]] = {}
        started, clock = time.monotonic(), StudyClock(ledger)

        def report() -> None:
            done = total - len(todo) - len(running)
            self.listener.progress(
                self.progress_view.progress("confirm", done, total, time.monotonic() - started)
            )

        report()
        while todo or running:
            while todo and len(running) < self.executor.slots:
                number, seed = todo.pop(0)
                trial, config = self._ask_again(number, seed)
                running[trial.number] = (trial, number)
                spec = TrialSpec(
                    config, seed, self.sweep.fidelity, score_test=True, is_isolated=self._measured
                )
                self.executor.submit(trial.number, spec)
                self.listener.trial_started(number, config, seed=seed)
                report()
            ticket, result = self.executor.next_result()
            trial, number = running.pop(ticket)
            complete = result.status == TrialStatus.COMPLETE
            values = self.prepared.values(trial.params, result) if complete else None
            ledger.tell(trial.number, result, values, {"elapsed": clock.seconds})
            names = [objective.name for objective in self.sweep.objectives]
            shown = dict(zip(names, values, strict=True)) if values is not None else {}
            self.listener.trial_finished(number, result, shown, True)
            report()

    def _ask_again(self, number: int, seed: int) -> tuple[optuna.Trial, Configuration]:
        study = self.confirm_ledger.study
        source = self.search_ledger.trial(number)
        study.enqueue_trial(dict(source.params), user_attrs={"trial": number, "seed": seed})
        trial = study.ask()
        config = self.prepared.space.suggest(trial)
        self.confirm_ledger.changed()
        return trial, config
