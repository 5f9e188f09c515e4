"""What the search loop of `autotune.optimize` proposes, keeps and spends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from autotune.blackbox.limits import FidelitySteps, KnownLimits
from autotune.blackbox.objectives import Budget, Metric, Objective, Points, read_metrics
from autotune.blackbox.study import BlackBoxStudy
from autotune.ladder.promotion import Candidate, CandidateStatus, PromotionScheduler
from autotune.objectives import violations
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.small_space import small_space
from autotune.search.failures import SearchFailedError
from autotune.search.store import Ended, Job
from autotune.trial_attributes import RungValues, TrialAttributes
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace
from trials.records import TrialStatus

Metrics = Mapping[str, Metric]
Answer = tuple[Metrics, Any] | Metrics
"""What an evaluation returns: metrics and the state to resume from, or metrics alone where there is one rung."""
Evaluate = Callable[[Configuration, float, Any], Answer] | Callable[[Configuration], Answer]
"""(configuration, fidelity, state) -> (metrics, state), or configuration -> metrics without a ladder"""

_MAX_SKIPS = 100
"""After this many proposals in a row that are no configuration of the space, the search gives up."""


@dataclass(frozen=True)
class EvaluationJob(Job):
    """One call of the function.

    Args:
        rung: index of the rung.
        fidelity: of the rung: how far to train in all.
        cost: training of this call, in the ladder's unit of fidelity.
        state: to resume from; None to start over.
    """

    rung: int
    fidelity: float
    cost: float
    state: Any


class EvaluationStore:
    """Keeps the candidates of a search in its study, and proposes new ones.

    Args:
        study: of the search.
        space: of the configurations.
        objectives: of the search.
        scheduler: of the search; its ladder has the rungs.
        limits: that every evaluated configuration keeps.
    """

    def __init__(
        self,
        study: BlackBoxStudy,
        space: SearchSpace,
        objectives: Sequence[Objective],
        scheduler: PromotionScheduler,
        limits: KnownLimits,
    ) -> None:
        self._limits, self._steps = limits, FidelitySteps(scheduler.ladder)
        self._study, self._space, self._objectives = study, space, objectives
        self._scheduler, self._ladder = scheduler, scheduler.ladder
        sampler = study.study.sampler
        self._is_ours = isinstance(sampler, ParetoSampler)
        self._ends_when_tried = not (isinstance(sampler, ParetoSampler) and sampler.repeats_on_request)
        self._small = small_space(space, limits or None)
        self._shown = next(j for j, objective in enumerate(objectives) if objective.known is None)
        self._configs: dict[int, Configuration] = {}
        self.endings: list[Ended] = []
        """How the trials of earlier calls ended."""
        self.used = 0.0
        """Training of earlier calls, in the ladder's unit of fidelity."""
        for trial in study.trials:
            self._restore(trial)

    def _restore(self, trial: FrozenTrial) -> None:
        attributes = TrialAttributes(trial)
        records = attributes.rung_values
        self.used += sum(record.cost for record in records) + attributes.failed_cost
        if attributes.status == TrialStatus.LOST:
            return
        number, config = trial.number, {n: trial.params[n] for n in self._space.names if n in trial.params}
        if self._space.problems(config):
            if not trial.state.is_finished():  # its process died while it was being proposed
                self._study.fail(number, "it was never evaluated", status=TrialStatus.LOST)
            return
        candidate = self._add(number, config)
        for record in records:
            self._tell(candidate, record.rung, record.values, record.curves)
            self.endings.append(Ended(TrialStatus.PAUSED))
        if trial.state == TrialState.FAIL:
            self._scheduler.fail(number)
            self.endings.append(Ended(TrialStatus.FAILED, attributes.error))
        elif trial.state == TrialState.PRUNED:
            candidate.status = CandidateStatus.STOPPED
        elif candidate.status == CandidateStatus.COMPLETE and not trial.state.is_finished():
            self._finish(number, list(records[-1].values))
        if candidate.status == CandidateStatus.WAITING and records:
            self._study.restore_state(number, records[-1].state)

    def propose(self) -> Candidate:
        """Return a new candidate.

        Raises:
            SearchFailedError: the sampler suggests no configuration of the space.
        """
        for _ in range(_MAX_SKIPS):
            number, config = self._study.suggest(self._space)
            problems = self._space.problems(config) or self._limits.broken(config)
            if not problems and (untried := self._untried(config)):
                self._study.study.enqueue_trial(dict(untried[number % len(untried)]))
                problems = ["an earlier trial has this configuration, and others of the space are untried"]
            elif not problems:
                return self._add(number, config)
            self._study.fail(number, "; ".join(problems), status=TrialStatus.LOST)
        raise SearchFailedError(
            f"sampler: {_MAX_SKIPS} proposals in a row are outside the space or its limits, the last one because of: "
            f"{'; '.join(problems)}"
        )

    @property
    def exhausted(self) -> int | None:
        """The number of configurations of the space, if each has begun and the search ends with that; else None."""
        if self._small is None or not self._ends_when_tried or self._small.untried(self._configs.values()):
            return None
        return len(self._small)

    def _untried(self, config: Configuration) -> list[Configuration]:
        """Return the untried configurations of a small space, if `config` repeats one; our sampler means it."""
        if self._small is None or self._is_ours:
            return []
        tried = list(self._configs.values())
        untried = self._small.untried(tried)
        return untried if len(self._small.untried([*tried, config])) == len(untried) else []

    def job(self, candidate: Candidate) -> EvaluationJob:
        """Return the evaluation of a candidate on its next rung."""
        rung, rungs = candidate.next_rung, self._ladder.rungs
        state = self._study.state(candidate.number)
        cost = rungs[rung] - (0.0 if state is None else rungs[candidate.rung])
        return EvaluationJob(
            candidate=candidate,
            config=self._configs[candidate.number],
            rung=rung,
            fidelity=rungs[rung],
            cost=cost,
            state=state,
        )

    def record(self, job: EvaluationJob, outcome: Answer | Exception) -> Ended:
        """Write the metrics and the state of an evaluation, or why it failed.

        Raises:
            ValueError: the outcome is not a pair of metrics and a state, metrics lack an objective, or the state
                cannot be stored.
        """
        if isinstance(outcome, Exception):
            return self._fail(job, f"{type(outcome).__name__}: {outcome}", outcome)
        if isinstance(outcome, Mapping) and self._ladder.top == 0:
            outcome = outcome, None  # there is no rung to resume on
        if not (isinstance(outcome, tuple) and len(outcome) == 2 and isinstance(outcome[0], Mapping)):
            raise ValueError(
                f"evaluate: it returned {outcome!r}; return two things, a dictionary of metrics and the state to "
                "resume from (None if there is none)"
            )
        metrics, state = outcome
        values, curves = read_metrics(self._objectives, metrics, job.fidelity, job.config)
        losses = [o.loss(value) for o, value in zip(self._objectives, values, strict=True)]
        if not all(map(math.isfinite, losses)):
            names = [objective.name for objective in self._objectives]
            return self._fail(job, f"not finite: {dict(zip(names, values, strict=True))}")
        numbers = {name: float(m[max(m)] if isinstance(m, Mapping) else m) for name, m in metrics.items()}
        record = RungValues(
            rung=job.rung, fidelity=job.fidelity, values=values, curves=curves, metrics=numbers, cost=job.cost
        )
        is_final = job.rung == self._ladder.top
        for fidelity, value in curves[self._shown]:
            self._study.show_point(job.number, self._steps(fidelity), value, is_final=is_final)
        self._study.record(job.number, record, state)
        self._tell(job.candidate, job.rung, values, curves)
        if job.candidate.status != CandidateStatus.COMPLETE:
            return Ended(TrialStatus.PAUSED)
        self._finish(job.number, values)
        return Ended(TrialStatus.COMPLETE)

    def stop(self, candidate: Candidate) -> None:
        """Write that a candidate is pruned."""
        self._study.stop(candidate.number)

    def report(self, job: EvaluationJob, fidelity: float, metrics: Mapping[str, float]) -> None:
        """Show a point of the curve of a running evaluation; `record` gets the whole curve.

        Args:
            job: that is running, maybe in a thread of its own.
            fidelity: so far.
            metrics: there; without the first objective that is not known, nothing is shown.
        """
        name = self._objectives[self._shown].name
        if name in metrics:
            self._study.show_point(job.number, self._steps(fidelity), float(metrics[name]))

    def _finish(self, number: int, values: list[float]) -> None:
        self._study.finish(number, values, violations([o.in_tables() for o in self._objectives], values))

    def _add(self, number: int, config: Configuration) -> Candidate:
        self._configs[number] = config
        return self._scheduler.add(number, self._ladder.first(config))

    def _tell(
        self, candidate: Candidate, rung: int, values: Sequence[float], curves: Sequence[Points]
    ) -> None:
        """Pass a result to the scheduler, with every objective as a loss."""
        losses = [o.loss(value) for o, value in zip(self._objectives, values, strict=True)]
        points = [
            [(f, loss) for f, y in curve if math.isfinite(loss := objective.loss(y))]
            for objective, curve in zip(self._objectives, curves, strict=True)
        ]
        self._scheduler.tell(candidate.number, rung, np.array(losses), points)

    def _fail(self, job: EvaluationJob, error: str, cause: Exception | None = None) -> Ended:
        self._study.fail(job.number, error, job.cost)
        self._scheduler.fail(job.number)
        return Ended(TrialStatus.FAILED, error, cause)


class FidelityBudget:
    """A budget of training, trials and seconds; running evaluations count with what they will train.

    Args:
        budget: the limits; the seconds count from now.
        scheduler: of the search, with its candidates and its ladder.
        used: training of earlier calls.
        exhausted: returns the number of configurations of the space if none is left, else None.
    """

    def __init__(
        self,
        budget: Budget,
        scheduler: PromotionScheduler,
        used: float,
        exhausted: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._exhausted = exhausted
        self.ended_by_space: int | None = None
        """The number of configurations of the space, if the budget would have allowed more trials; else None."""
        self._limits, self._scheduler = budget, scheduler
        self._deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
        self._reserved = 0.0
        self.used = used
        """Training so far, in the ladder's unit of fidelity."""

    def is_spent(self) -> bool:
        """Return whether the time is up."""
        return time.monotonic() >= self._deadline

    def can_begin(self, running: Collection[int]) -> bool:
        """Return whether the number of trials and the training allow one more trial on the lowest rung."""
        trials = self._limits.trials
        if trials is not None and len(self._scheduler.candidates) >= trials:
            return False
        if not self._covers(self._scheduler.ladder.rungs[0]):
            return False
        self.ended_by_space = self._exhausted()
        return self.ended_by_space is None

    def fits(self, job: EvaluationJob) -> bool:
        """Return whether the rest of the training covers an evaluation."""
        return self._covers(job.cost)

    def reserve(self, job: EvaluationJob) -> None:
        """Set aside the training of an evaluation."""
        self._reserved += job.cost

    def settle(self, job: EvaluationJob) -> None:
        """Spend the training of an evaluation, whether it failed or not."""
        self._reserved -= job.cost
        self.used += job.cost

    def _covers(self, cost: float) -> bool:
        limit = math.inf if self._limits.fidelity is None else self._limits.fidelity
        return self.used + self._reserved + cost <= limit * (1 + 1e-9)
