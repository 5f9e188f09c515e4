"""The search loop against parts that are written down here: the order of events, the budget, and giving up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import count

import pytest

from autotune.ladder.promotion import Candidate, CandidateStatus
from autotune.search.evaluator import FunctionEvaluator
from autotune.search.failures import FAILURES_BEFORE_GIVING_UP, FailureRule, SearchFailedError
from autotune.search.loop import SearchLoop
from autotune.search.store import Ended, Job
from trials.records import TrialStatus

TOP = 1
"""Every candidate is evaluated on two rungs."""


class Parts:
    """A scheduler, proposer, store, budget and listener in one, which write down what the loop does."""

    def __init__(self, trials: int, cost_limit: float = float("inf")) -> None:
        self.trials, self.cost_limit = trials, cost_limit
        self.candidates: list[Candidate] = []
        self.log: list[str] = []
        self.closings: list[bool] = []
        self.reserved = self.used = 0
        self.promote = True
        self.to_prune: list[Candidate] = []

    def promotions(self, *, closing: bool = False) -> Iterator[Candidate]:
        self.closings.append(closing)
        waiting = (c for c in self.candidates if c.status == CandidateStatus.WAITING and c.rung >= 0)
        return waiting if self.promote else iter(())

    def prunable(self) -> list[Candidate]:
        found, self.to_prune = self.to_prune, []
        return found

    def propose(self) -> Candidate:
        self.candidates.append(Candidate(len(self.candidates), 0, exploratory=False))
        return self.candidates[-1]

    def job(self, candidate: Candidate) -> Job:
        return Job(candidate, {})

    def record(self, job: Job, outcome: str | Exception) -> Ended:
        if isinstance(outcome, Exception):
            job.candidate.status = CandidateStatus.FAILED
            return Ended(TrialStatus.FAILED, str(outcome), outcome)
        job.candidate.rung += 1
        is_complete = job.candidate.rung == TOP
        job.candidate.status = CandidateStatus.COMPLETE if is_complete else CandidateStatus.WAITING
        return Ended(TrialStatus.COMPLETE if is_complete else TrialStatus.PAUSED)

    def stop(self, candidate: Candidate) -> None:
        self.log.append(f"stop {candidate.number}")

    def is_spent(self) -> bool:
        return False

    def can_begin(self, running: Collection[int]) -> bool:
        assert len(running) == self.reserved
        return len(self.candidates) < self.trials

    def fits(self, job: Job) -> bool:
        return self.used + self.reserved < self.cost_limit

    def reserve(self, job: Job) -> None:
        self.reserved += 1

    def settle(self, job: Job) -> None:
        self.reserved -= 1
        self.used += 1

    def started(self, job: Job) -> None:
        assert job.candidate.status == CandidateStatus.RUNNING
        self.log.append(f"start {job.number}")

    def ended(self, job: Job, ended: Ended) -> None:
        self.log.append(f"{ended.status} {job.number}")

    def loop(self, evaluator: FunctionEvaluator, failures: FailureRule | None = None) -> SearchLoop:
        return SearchLoop(
            scheduler=self,
            proposer=self,
            evaluator=evaluator,
            store=self,
            budget=self,
            failures=failures or FailureRule(),
            listener=self,
        )


def test_a_promotion_comes_before_a_new_candidate() -> None:
    parts = Parts(trials=2)
    parts.loop(FunctionEvaluator(lambda job: "fine", workers=1)).run()
    assert parts.log == [
        *("start 0", "paused 0", "start 0", "complete 0"),
        *("start 1", "paused 1", "start 1", "complete 1"),
    ]
    assert (parts.used, parts.reserved) == (4, 0)


def test_new_candidates_fill_the_slots_and_a_promotion_waits_for_its_result() -> None:
    parts = Parts(trials=3)
    with FunctionEvaluator(lambda job: "fine", workers=2) as evaluator:
        parts.loop(evaluator).run()
    assert parts.log[:2] == ["start 0", "start 1"]
    assert sorted(line for line in parts.log if line.startswith("complete")) == [
        f"complete {i}" for i in range(3)
    ]


def test_a_search_is_closing_when_nothing_runs_and_nothing_may_begin() -> None:
    parts = Parts(trials=1)
    parts.promote = False
    parts.loop(FunctionEvaluator(lambda job: "fine", workers=1)).run()
    assert parts.closings == [False, True]


def test_what_does_not_fit_the_budget_does_not_start() -> None:
    parts = Parts(trials=5, cost_limit=3)
    parts.loop(FunctionEvaluator(lambda job: "fine", workers=1)).run()
    assert parts.used == 3
    assert parts.log[-1] == "paused 1"


def test_candidates_are_pruned_after_a_complete_one() -> None:
    parts = Parts(trials=1)
    waiting = Candidate(7, 0, exploratory=False)
    parts.to_prune = [waiting]
    parts.loop(FunctionEvaluator(lambda job: "fine", workers=1)).run()
    assert waiting.status == CandidateStatus.STOPPED
    assert parts.log.index("stop 7") < parts.log.index("complete 0")


def test_the_search_gives_up_with_every_reason_and_its_cause() -> None:
    calls = count()

    def fail(job: Job) -> str:
        raise KeyError("lr" if next(calls) % 2 else "rank")

    parts = Parts(trials=100)
    with pytest.raises(SearchFailedError, match="first 5 trials all failed:\n  'lr'\n  'rank'") as caught:
        parts.loop(FunctionEvaluator(fail, workers=1)).run()
    assert isinstance(caught.value.__cause__, KeyError)
    assert len(parts.candidates) == FAILURES_BEFORE_GIVING_UP


@pytest.mark.parametrize("status", [TrialStatus.COMPLETE, TrialStatus.PAUSED, TrialStatus.STOPPED])
def test_one_success_keeps_the_search_running(status: TrialStatus) -> None:
    rule = FailureRule([Ended(status)])
    for _ in range(2 * FAILURES_BEFORE_GIVING_UP):
        rule.check(Ended(TrialStatus.FAILED, "too large"))


def test_lost_trials_and_those_outside_limits_are_no_failures() -> None:
    rule = FailureRule()
    for status in (TrialStatus.LOST, TrialStatus.PRUNED):
        for _ in range(2 * FAILURES_BEFORE_GIVING_UP):
            rule.check(Ended(status))


def test_failures_of_earlier_processes_count() -> None:
    failed = Ended(TrialStatus.FAILED, "too large")
    rule = FailureRule([failed] * (FAILURES_BEFORE_GIVING_UP - 1))
    with pytest.raises(SearchFailedError):
        rule.check(failed)


def test_an_interrupt_of_a_thread_is_raised_and_no_failure() -> None:
    def interrupt(job: Job) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), FunctionEvaluator(interrupt, workers=2) as evaluator:
        Parts(trials=2).loop(evaluator).run()
