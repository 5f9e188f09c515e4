"""The confirmation of a sweep: the search loop over the runs of a plan that follows from the results so far."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from autotune.engine.events import Listener
from autotune.engine.progress import SearchProgress, named_values
from autotune.engine.sweep_store import curve_of, measures_costs
from autotune.ladder.promotion import Candidate
from autotune.ladder.sweep_scheduler import NullScheduler, SweepScheduler
from autotune.ledger.clock import StudyClock
from autotune.ledger.ledger import Ledger
from autotune.objectives import violations
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.results.confirmation_plan import ConfirmationPlan, plan_confirmation
from autotune.results.confirmation_runs import RunKey, ended_runs, run_key
from autotune.results.sweep_tables import SweepTables, confirmation_trials, with_confirmations
from autotune.search.evaluator import ExecutorEvaluator
from autotune.search.failures import FailureRule
from autotune.search.loop import SearchLoop
from autotune.search.store import Ended, TrainingJob
from autotune.trial_attributes import TrialAttributes, stored
from trials.execution.interface import Executor
from trials.records import TrialResult, TrialSpec, TrialStatus


@dataclass(frozen=True)
class ConfirmationJob(TrainingJob):
    """A run of a confirmation.

    Args:
        repeated: the trial of the search whose configuration is trained again.
    """

    repeated: int


def confirmation_search(
    prepared: PreparedSweep,
    searched: SweepTables,
    *,
    confirm: Ledger,
    executor: Executor,
    progress: SearchProgress,
    listener: Listener,
) -> SearchLoop[ConfirmationJob, TrialResult]:
    """Assemble the confirmation of a sweep.

    Args:
        prepared: the sweep.
        searched: the results of the search.
        confirm: the ledger of the confirmation, recovered.
        executor: started.
        progress: of the search.
        listener: of the sweep's events.
    """
    confirm.study.sampler = optuna.samplers.RandomSampler(seed=prepared.sweep.seed)
    scheduler = NullScheduler()
    proposer = _Repeats(prepared, searched, confirm, scheduler)
    events = _Events(proposer.left, confirm, progress, listener)
    events.report()
    return SearchLoop(
        scheduler=scheduler,
        proposer=proposer,
        evaluator=ExecutorEvaluator(executor),
        store=_ConfirmationStore(prepared, confirm, scheduler),
        budget=proposer,
        failures=FailureRule(limit=None),
        listener=events,
    )


class _Repeats:
    """Proposes the runs of the plan one after another; the plan is the budget, too.

    Args:
        prepared: the sweep.
        searched: the results of the search.
        confirm: the ledger of the confirmation.
        scheduler: of the confirmation.
    """

    def __init__(
        self, prepared: PreparedSweep, searched: SweepTables, confirm: Ledger, scheduler: SweepScheduler
    ) -> None:
        self._space, self._searched = prepared.space, searched
        self._confirm, self._scheduler = confirm, scheduler
        self._first = searched.first_trials
        self._fidelity = prepared.sweep.confirm.fidelity(prepared.sweep.fidelity)

    @property
    def left(self) -> int:
        """How many runs are left at most."""
        plan = self._plan()
        return plan.total - plan.ended if plan.runs else 0

    def propose(self) -> Candidate:
        """Start the next run of the plan; one that was interrupted comes first."""
        study = self._confirm.study
        if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            run = self._next_run()
            assert run is not None, "a run can begin"
            config = self._searched.config(run.trial)
            study.enqueue_trial(config, user_attrs=self._attributes(run))
        trial = study.ask()
        self._space.suggest(trial)
        self._confirm.changed()
        candidate = self._scheduler.read(self._confirm.trial(trial.number))
        assert candidate is not None, "it began just now"
        return candidate

    def is_spent(self) -> bool:
        """Return False: whether a run is left depends on the results of the running ones."""
        return False

    def can_begin(self, running: Collection[int]) -> bool:
        """Return whether the current round has a run that has not started."""
        return self._next_run() is not None

    def fits(self, job: ConfirmationJob) -> bool:
        """Return True: every run of the plan is trained."""
        return True

    def reserve(self, job: ConfirmationJob) -> None:
        """Set nothing aside."""

    def settle(self, job: ConfirmationJob) -> None:
        """Do nothing: the ledger holds the runs."""

    def _plan(self) -> ConfirmationPlan:
        runs = confirmation_trials(self._searched.sweep, self._confirm.trials)
        return plan_confirmation(with_confirmations(self._searched, runs), ended_runs(runs, self._first))

    def _attributes(self, run: RunKey) -> dict[str, Any]:
        return stored(trial=run.trial, seed=run.seed, fidelity=self._fidelity)

    def _next_run(self) -> RunKey | None:
        runs = confirmation_trials(self._searched.sweep, self._confirm.trials)
        is_running = {run_key(trial, self._first) for trial in runs if trial.state == TrialState.RUNNING}
        return next((run for run in self._plan().runs if run not in is_running), None)


class _ConfirmationStore:
    """Keeps the runs of a confirmation in its ledger."""

    def __init__(self, prepared: PreparedSweep, ledger: Ledger, scheduler: SweepScheduler) -> None:
        self._prepared, self._ledger, self._scheduler = prepared, ledger, scheduler
        self._is_isolated = measures_costs(prepared.sweep)
        self._clock = StudyClock(ledger)

    def job(self, candidate: Candidate) -> ConfirmationJob:
        """Return the training run of a candidate, which scores the test split as well."""
        trial = self._ledger.trial(candidate.number)
        config, attributes = dict(trial.params), TrialAttributes(trial)
        assert attributes.seed is not None, "a run gets its seed when it is proposed"
        spec = TrialSpec(
            self._prepared.run_configuration(None, config),
            attributes.seed,
            attributes.fidelity or self._prepared.sweep.fidelity,
            score_test=True,
            is_isolated=self._is_isolated,
            base=self._prepared.sweep.model.choice_of(config),
        )
        return ConfirmationJob(candidate, config, spec, attributes.repeated_trial)

    def record(self, job: ConfirmationJob, outcome: TrialResult) -> Ended:
        """Write a result."""
        is_complete = outcome.status == TrialStatus.COMPLETE
        points = curve_of(self._prepared.sweep.objectives, outcome)
        self._ledger.show_curve(job.number, points, is_final=is_complete)
        values = self._prepared.values(job.config, outcome) if is_complete else None
        broken = violations(self._prepared.sweep.objectives, values) if values is not None else ()
        self._ledger.tell(job.number, outcome, values, {"elapsed": self._clock.seconds}, broken)
        self._scheduler.read(self._ledger.trial(job.number))
        return Ended.of(outcome)

    def stop(self, candidate: Candidate) -> None:
        """Fail: the null scheduler prunes no candidate."""
        raise AssertionError("a confirmation prunes nothing")


class _Events:
    """Passes the events of the loop on to the listener of the sweep."""

    def __init__(self, total: int, ledger: Ledger, progress: SearchProgress, listener: Listener) -> None:
        self._ledger, self._progress, self._listener = ledger, progress, listener
        self._total, self._finished, self._began = total, 0, time.monotonic()

    def started(self, job: ConfirmationJob) -> None:
        """Report a run by the trial that it repeats."""
        self._listener.trial_started(job.repeated, job.config, seed=job.spec.seed)
        self.report()

    def ended(self, job: ConfirmationJob, ended: Ended) -> None:
        """Report a result by the trial that it repeats."""
        assert ended.result is not None, "a training run has a result"
        self._finished += 1
        values = named_values(self._progress.sweep.objectives, self._ledger.attributes(job.number))
        self._listener.trial_finished(job.repeated, ended.result, values, True)
        self.report()

    def report(self) -> None:
        """Report the progress of the confirmation."""
        elapsed = time.monotonic() - self._began
        self._listener.progress(self._progress.progress("confirm", self._finished, self._total, elapsed))
