"""What the search loop of a sweep keeps and spends, on top of the sweep's ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from optuna.trial import FrozenTrial

from autotune.ladder.checkpoints import Checkpoints
from autotune.ladder.promotion import Candidate, CandidateStatus
from autotune.ladder.sweep_scheduler import SweepScheduler
from autotune.ledger.clock import StudyClock
from autotune.ledger.ledger import Ledger
from autotune.objectives import MEASURED_COSTS, Objective, is_cost, violations
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.sampler.small_space import SmallSpace
from autotune.search.store import Ended, TrainingJob
from autotune.sweep.schema import Sweep
from autotune.trial_attributes import SPENT, Attributes, TrialAttributes, trial_result
from search_spaces.parameters.types import Configuration
from trials.records import TrialResult, TrialSpec, TrialStatus


def measures_costs(sweep: Sweep) -> bool:
    """Return whether an objective is measured in training, so that trials must not share any work."""
    return any(objective.name in MEASURED_COSTS for objective in sweep.objectives)


class SweepStore:
    """Keeps the trials of a search in its ledger, and their checkpoints in the sweep's folder.

    Args:
        prepared: the sweep.
        ledger: of the search.
        scheduler: of the search.
        checkpoints: of paused trials.
        clock: of the search.
    """

    def __init__(
        self,
        prepared: PreparedSweep,
        ledger: Ledger,
        scheduler: SweepScheduler,
        *,
        checkpoints: Checkpoints,
        clock: StudyClock,
    ) -> None:
        self._prepared, self._ledger, self._scheduler = prepared, ledger, scheduler
        self._checkpoints, self._clock = checkpoints, clock
        self._is_isolated = measures_costs(prepared.sweep)

    def job(self, candidate: Candidate) -> TrainingJob:
        """Return the next training run of a candidate."""
        trial = self._ledger.trial(candidate.number)
        config, seed = dict(trial.params), TrialAttributes(trial).seed
        assert seed is not None, "a trial gets its seed when it is proposed"
        segment, part = self._scheduler.next_run(candidate, self._checkpoints)
        spec = TrialSpec(
            self._prepared.run_configuration(part, config),
            seed,
            self._prepared.sweep.fidelity,
            segment=segment,
            partial_run=part,
            is_isolated=self._is_isolated,
            base=self._prepared.sweep.model.choice_of(config),
        )
        return TrainingJob(candidate, config, spec)

    def record(self, job: TrainingJob, outcome: TrialResult) -> Ended:
        """Write a result, and bring the scheduler and the checkpoints in line with it."""
        number, trial = job.number, self._ledger.trial(job.number)
        share = self._prepared.share(job.spec.partial_run, job.config)
        result = self._scheduler.complete_result(trial, outcome, share)
        self._write(job, result, has_paused=trial_result(trial) is not None)
        candidate = self._scheduler.read(self._ledger.trial(number))
        if candidate is None or candidate.status in (CandidateStatus.COMPLETE, CandidateStatus.FAILED):
            self._checkpoints.delete(number)
        else:
            self._checkpoints.delete(number, but=candidate.rung)
        return Ended.of(result)

    def _write(self, job: TrainingJob, result: TrialResult, *, has_paused: bool) -> None:
        ledger, number = self._ledger, job.number
        is_lost = result.status == TrialStatus.LOST
        if is_lost and has_paused and not ledger.lost_again(number):
            return  # it is still paused where it was, and is promoted again
        found: Attributes = {
            "costs": self._prepared.cost_table(job.config),
            "baselines": self._prepared.baselines,
            "elapsed": self._clock.seconds,
        }
        if job.spec.partial_run is None:  # the steps of a partial run are not those of the full one
            points = curve_of(self._prepared.sweep.objectives, result)
            ledger.show_curve(number, points, is_final=result.status == TrialStatus.COMPLETE)
        if result.status == TrialStatus.PAUSED:
            ledger.pause(number, job.candidate.next_rung, result, found)
            return
        is_complete = result.status == TrialStatus.COMPLETE
        values = self._prepared.values(job.config, result) if is_complete else None
        broken = violations(self._prepared.sweep.objectives, values) if values is not None else ()
        ledger.tell(number, result, values, found, broken)
        if is_lost and not has_paused:
            ledger.requeue(ledger.trial(number))

    def stop(self, candidate: Candidate) -> None:
        """Write that a candidate is pruned, and delete its checkpoints."""
        self._ledger.stop(candidate.number)
        self._checkpoints.delete(candidate.number)


def curve_of(objectives: Sequence[Objective], result: TrialResult) -> dict[int, float]:
    """Return the validation curve of the first objective that is a score, by optimizer step; empty without one."""
    name = next((objective.name for objective in objectives if not is_cost(objective.name)), None)
    return {point.step: point.metrics[name] for point in result.curve if name in point.metrics}


def tried_configurations(trials: Iterable[FrozenTrial]) -> list[Configuration]:
    """Return the configurations that were trained, or are being trained; a lost trial runs again."""
    results = ((trial, trial_result(trial)) for trial in trials)
    return [dict(trial.params) for trial, result in results if result is None or result.status in SPENT]


class LedgerBudget:
    """The budget of a sweep, spent as its ledger says; nothing is set aside for running trials.

    Args:
        sweep: whose budget it is.
        ledger: of the search.
        clock: of the search.
        space: the configurations after which the search ends; None for no such end.
    """

    def __init__(
        self, sweep: Sweep, ledger: Ledger, clock: StudyClock, space: SmallSpace | None = None
    ) -> None:
        self._budget, self._ledger, self._clock = sweep.budget, ledger, clock
        self._space = space

    def is_spent(self) -> bool:
        """Return whether the hours or the FLOPs are used up."""
        budget = self._budget
        if budget.hours is not None and self._clock.seconds >= budget.hours * 3600:
            return True
        if budget.flops is None:
            return False
        spent = sum(
            TrialAttributes(trial).costs["train_flops"] * result.flops_share
            for trial in self._ledger.trials
            if (result := trial_result(trial)) is not None and result.status in SPENT
        )
        return spent >= budget.flops

    def can_begin(self, running: Collection[int]) -> bool:
        """Return whether the number of trials, and the space, allow one more beside those that are running."""
        if self._space is not None and not self._space.untried(tried_configurations(self._ledger.trials)):
            return False
        if self._budget.trials is None:
            return True
        results = ((trial.number, trial_result(trial)) for trial in self._ledger.trials)
        begun = {number for number, result in results if result is not None and result.status in SPENT}
        return len(begun | set(running)) < self._budget.trials

    def fits(self, job: TrainingJob) -> bool:
        """Return True: a job that starts before the budget is spent is finished."""
        return True

    def reserve(self, job: TrainingJob) -> None:
        """Set nothing aside."""

    def settle(self, job: TrainingJob) -> None:
        """Do nothing: the ledger holds what the job spent."""
