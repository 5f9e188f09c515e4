"""The engine: ask the sampler, run the trial, tell the ledger, until the budget is spent; then confirm.

The engine holds no state that the ledger does not: it can be killed at any moment and started again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna

from autotune.confirm import missing_runs, search_seed
from autotune.events import Listener, Progress, SilentListener
from autotune.ledger import claim_folder, open_ledger, storage_errors, trial_result
from autotune.preparation import Prepared, prepare, with_base_score
from autotune.report import write_report
from autotune.results import SweepResults, feasible_rows, load_results, on_front, share_dominated
from autotune.samplers import make_sampler
from autotune.sweep import Sweep
from autotune.tables import write_tables
from search_spaces.parameters import Config
from trials.executors import EXECUTORS, Executor
from trials.records import TrialResult, TrialSpec, TrialStatus

_HOPELESS = 5
"""So many failures before the first success end a sweep: then it is not the configurations' fault."""
_MAX_SKIPS = 20
"""Proposals outside the limits, in a row, after which another sampler than ours gets one from inside."""


class SweepInterruptedError(Exception):
    """Ctrl-C; everything that was told is in the folder, and the sweep can be resumed."""


class SweepFailedError(RuntimeError):
    """Trial after trial fails: something is wrong that no other configuration will mend."""


def run_sweep(sweep: Sweep, folder: str | Path, listener: Listener | None = None) -> SweepResults:
    """Run a sweep in its folder from wherever it stands to its report.

    A folder that already holds the same sweep goes on where it stopped, so running twice repeats nothing.

    Raises:
        InvalidInputError: the sweep cannot be run; nothing was written.
        SweepInterruptedError: after Ctrl-C.
        SweepFailedError: nothing but failures.
        LedgerError: the disk is full or read-only.
    """
    folder, listener = Path(folder), listener or SilentListener()
    listener.progress(Progress(phase="loading"))
    prepared = prepare(sweep)
    executor = EXECUTORS[sweep.executor.name](workers=sweep.executor.workers, address=sweep.executor.address)
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
            listener.progress(replace(run.progress("report"), remaining=0.0))
            results = load_results(folder)
            write_tables(results)
            write_report(results)
            listener.progress(replace(run.progress("done"), remaining=0.0))
            return results
    finally:
        executor.stop()


def _score_base(executor: Executor, prepared: Prepared) -> dict[str, float]:
    executor.submit(-1, TrialSpec(config={}, fidelity=prepared.sweep.fidelity))
    _, result = executor.next_result()
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


class _Run:
    """One process's part of a sweep."""

    def __init__(self, prepared: Prepared, folder: Path, executor: Executor, listener: Listener) -> None:
        self.prepared, self.folder, self.executor, self.listener = prepared, folder, executor, listener
        self.sweep = prepared.sweep
        self.search_ledger = open_ledger(folder, self.sweep)
        self.confirm_ledger = open_ledger(folder, self.sweep, confirm=True)
        self.ledgers = (self.search_ledger, self.confirm_ledger)
        for ledger in self.ledgers:
            ledger.recover()
        self.search_ledger.study.sampler = make_sampler(prepared)
        self.confirm_ledger.study.sampler = optuna.samplers.RandomSampler(seed=self.sweep.seed)
        self.clock = _Clock(self.search_ledger.study)

    # --- search

    def search(self) -> None:
        """Ask, run and tell until the budget is spent."""
        running: dict[int, optuna.Trial] = {}
        self.clock.start()
        self.listener.progress(self.progress("search"))
        while True:
            while len(running) < self.executor.slots and self._may_start(len(running)):
                trial, config = self._ask()
                seed = trial.user_attrs.get("seed")
                if seed is None:
                    seed = search_seed(self.sweep.seed, trial.number)
                    trial.set_user_attr("seed", seed)
                running[trial.number] = trial
                self.executor.submit(trial.number, TrialSpec(config, seed, self.sweep.fidelity))
                self.listener.trial_started(trial.number, config, seed=seed)
                self.listener.progress(self.progress("search"))
            if not running:
                return
            number, result = self.executor.next_result()
            self._tell(running.pop(number), result)
            self.clock.save()
            self.listener.progress(self.progress("search"))

    def _ask(self) -> tuple[optuna.Trial, Config]:
        """The next configuration within the limits. Our sampler gives no other; any other sampler may.

        Where it does not find inside by itself, it is given a random configuration from there to learn from.
        """
        study, space = self.search_ledger.study, self.prepared.space
        for attempt in range(_MAX_SKIPS + 1):
            trial = study.ask()
            config = space.suggest(trial)
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

    def _tell(self, trial: optuna.Trial, result: TrialResult) -> None:
        config = trial.params
        complete = result.status == TrialStatus.COMPLETE
        values = self.prepared.values(config, result) if complete else None
        attributes = {"costs": self.prepared.cost_table(config), "baselines": self.prepared.baselines}
        self.search_ledger.tell(trial.number, result, values, attributes)
        if result.status == TrialStatus.LOST:
            self.search_ledger.requeue(self.search_ledger.study.get_trials(deepcopy=False)[trial.number])
        names = [objective.name for objective in self.sweep.objectives]
        shown = dict(zip(names, values, strict=True)) if values is not None else {}
        self.listener.trial_finished(trial.number, result, shown, trial.number in self._front())
        self._check_hope()

    def _may_start(self, running: int) -> bool:
        """Whether the budget allows one more trial beside those that run."""
        budget, trials = self.sweep.budget, self.search_ledger.trials
        ended = [t for t in trials if (r := trial_result(t)) and r.status in ("complete", "failed")]
        if budget.trials is not None and len(ended) + running >= budget.trials:
            return False
        if budget.hours is not None and self.clock.seconds >= budget.hours * 3600:
            return False
        spent = sum(t.user_attrs["costs"]["train_flops"] for t in ended)
        return budget.flops is None or spent < budget.flops

    def _check_hope(self) -> None:
        results = [r for t in self.search_ledger.trials if (r := trial_result(t)) is not None]
        failed = [r for r in results if r.status == TrialStatus.FAILED]
        if len(failed) >= _HOPELESS and not any(r.status == TrialStatus.COMPLETE for r in results):
            reasons = "\n  ".join(sorted({str(r.error) for r in failed}))
            raise SweepFailedError(f"the first {len(failed)} trials all failed:\n  {reasons}")

    # --- confirmation

    def confirm(self) -> None:
        """Train the front again on fresh seeds, and score the test split."""
        if not self.sweep.confirm.seeds:
            return
        ledger = self.confirm_ledger
        todo = missing_runs(load_results(self.folder))
        total = len(todo)
        running: dict[int, tuple[optuna.Trial, int]] = {}
        started = time.monotonic()

        def report() -> None:
            done = total - len(todo) - len(running)
            self.listener.progress(self.progress("confirm", done, total, time.monotonic() - started))

        report()
        while todo or running:
            while todo and len(running) < self.executor.slots:
                number, seed = todo.pop(0)
                trial, config = self._ask_again(number, seed)
                running[trial.number] = (trial, number)
                spec = TrialSpec(config, seed, self.sweep.fidelity, score_test=True)
                self.executor.submit(trial.number, spec)
                self.listener.trial_started(number, config, seed=seed)
                report()
            ticket, result = self.executor.next_result()
            trial, number = running.pop(ticket)
            complete = result.status == TrialStatus.COMPLETE
            values = self.prepared.values(trial.params, result) if complete else None
            ledger.tell(trial.number, result, values, {})
            names = [objective.name for objective in self.sweep.objectives]
            shown = dict(zip(names, values, strict=True)) if values is not None else {}
            self.listener.trial_finished(number, result, shown, True)
            report()

    def _ask_again(self, number: int, seed: int) -> tuple[optuna.Trial, Config]:
        study = self.confirm_ledger.study
        source = self.search_ledger.study.get_trials(deepcopy=False)[number]
        study.enqueue_trial(dict(source.params), user_attrs={"trial": number, "seed": seed})
        trial = study.ask()
        return trial, self.prepared.space.suggest(trial)

    # --- where it stands

    def _values(self) -> tuple[list[int], np.ndarray]:
        rows = [(t.number, v) for t in self.search_ledger.trials if (v := t.user_attrs.get("values"))]
        values = np.array([v for _, v in rows], dtype=float).reshape(len(rows), len(self.sweep.objectives))
        return [number for number, _ in rows], values

    def _front(self) -> set[int]:
        numbers, values = self._values()
        if not numbers:
            return set()
        return set(np.array(numbers)[on_front(self.sweep.objectives, values)].tolist())

    def progress(
        self, phase: str, finished: int | None = None, total: int | None = None, elapsed: float | None = None
    ) -> Progress:
        """The sweep's state; of the search unless the confirmation's own numbers are given."""
        results = [r for t in self.search_ledger.trials if (r := trial_result(t)) is not None]
        ended = [r for r in results if r.status in ("complete", "failed")]
        numbers, values = self._values()
        objectives = self.sweep.objectives
        feasible = values[feasible_rows(objectives, values)] if numbers else values
        best = {
            o.name: float(feasible[:, j].max() if o.direction == "maximize" else feasible[:, j].min())
            for j, o in enumerate(objectives)
            if len(feasible)
        }
        finished = len(ended) if finished is None else finished
        total = self.sweep.budget.trials if total is None else total
        elapsed = self.clock.seconds if elapsed is None else elapsed
        return Progress(
            phase=phase,
            finished=finished,
            total=total,
            failed=sum(r.status == TrialStatus.FAILED for r in results),
            front_size=len(self._front()),
            hypervolume=share_dominated(objectives, feasible),
            best=best,
            elapsed=elapsed,
            remaining=self._remaining(phase, finished, total, elapsed),
        )

    def _remaining(self, phase: str, finished: int, total: int | None, elapsed: float) -> float | None:
        """Seconds until the phase ends, by the pace so far and by the time budget, whichever is sooner."""
        guesses = []
        if total is not None and finished:
            guesses.append(elapsed / finished * (total - finished))
        if phase == "search" and self.sweep.budget.hours is not None:
            guesses.append(max(0.0, self.sweep.budget.hours * 3600 - elapsed))
        return min(guesses) if guesses else None


class _Clock:
    """Seconds of search so far, over all the processes that worked on it; kept in the study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._before = float(study.user_attrs.get("search_seconds", 0.0))
        self._started = time.monotonic()

    def start(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def save(self) -> None:
        self._study.set_user_attr("search_seconds", self.seconds)
