"""The search loop: promote or propose, evaluate, record, until nothing fits the budget.

The loop decides the order of events and nothing else. Its parts decide the rest:

    scheduler   which candidates are trained further, and which are pruned
    proposer    the next configuration, from the sampler
    evaluator   where and how a job is evaluated
    store       what is written, and what a candidate does next
    budget      whether another job may start
"""

from __future__ import annotations

from typing import Generic, Protocol

from autotune.ladder.promotion import CandidateStatus
from autotune.search.budget import SearchBudget
from autotune.search.evaluator import Evaluator
from autotune.search.failures import FailureRule
from autotune.search.proposer import Proposer
from autotune.search.scheduler import Scheduler
from autotune.search.store import Ended, JobT, JobT_contra, OutcomeT, Store


class LoopListener(Protocol[JobT_contra]):
    """Receives the events of a loop, in its thread; must return quickly."""

    def started(self, job: JobT_contra) -> None:
        """A job was submitted."""

    def ended(self, job: JobT_contra, ended: Ended) -> None:
        """The outcome of a job was recorded."""


class SilentLoopListener:
    """Ignores every event."""

    def started(self, job: object) -> None:
        """Ignore it."""

    def ended(self, job: object, ended: Ended) -> None:
        """Ignore it."""


class SearchLoop(Generic[JobT, OutcomeT]):
    """One search, run by one process.

    The loop holds no state that its store does not keep, apart from the jobs that are running: after `run` was
    interrupted, a new loop over the same store resumes the search.

    Args:
        scheduler, proposer, evaluator, store, budget: see the top of this file.
        failures: ends a search whose first trials all fail.
        listener: of the loop's events.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        proposer: Proposer,
        evaluator: Evaluator[JobT, OutcomeT],
        store: Store[JobT, OutcomeT],
        budget: SearchBudget[JobT],
        failures: FailureRule,
        listener: LoopListener[JobT],
    ) -> None:
        self._scheduler, self._proposer, self._evaluator = scheduler, proposer, evaluator
        self._store, self._budget, self._failures, self._listener = store, budget, failures, listener
        self._running: set[int] = set()

    def run(self) -> None:
        """Search until no job is running and none may start.

        Raises:
            SearchFailedError: the first trials all fail, or no configuration can be proposed.
        """
        while True:
            while len(self._running) < self._evaluator.slots and (job := self._next_job()) is not None:
                self._start(job)
            if not self._running:
                return
            for job, outcome in self._evaluator.wait():
                self._end(job, outcome)

    def _next_job(self) -> JobT | None:
        """Return what a free slot does: a promoted candidate, else a new one, else nothing."""
        if self._budget.is_spent():
            return None
        can_begin = self._budget.can_begin(self._running)
        for candidate in self._scheduler.promotions(closing=not can_begin and not self._running):
            job = self._store.job(candidate)
            if self._budget.fits(job):
                return job
        if not can_begin:
            return None
        job = self._store.job(self._proposer.propose())
        return job if self._budget.fits(job) else None

    def _start(self, job: JobT) -> None:
        job.candidate.status = CandidateStatus.RUNNING
        self._running.add(job.number)
        self._budget.reserve(job)
        self._evaluator.submit(job)
        self._listener.started(job)

    def _end(self, job: JobT, outcome: OutcomeT) -> None:
        self._running.remove(job.number)
        self._budget.settle(job)
        ended = self._store.record(job, outcome)
        if job.candidate.status == CandidateStatus.COMPLETE:
            for candidate in self._scheduler.prunable():
                candidate.status = CandidateStatus.STOPPED
                self._store.stop(candidate)
        self._listener.ended(job, ended)
        self._failures.check(ended)
