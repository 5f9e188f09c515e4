"""How jobs are evaluated: by an executor of trials, or by a function of the user."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count
from typing import Generic, Protocol, TypeVar

from autotune.search.store import JobT, OutcomeT, TrainingJob
from trials.execution.interface import Executor
from trials.records import TrialResult

TrainingJobT = TypeVar("TrainingJobT", bound=TrainingJob)


class Evaluator(Protocol[JobT, OutcomeT]):
    """Evaluates jobs, `slots` of them at a time.

    Life cycle: `submit` and `wait` in any order while at most `slots` jobs are running; every submitted job comes
    back from `wait` exactly once.
    """

    @property
    def slots(self) -> int:
        """The number of jobs at a time."""

    def submit(self, job: JobT) -> None:
        """Start a job."""

    def wait(self) -> list[tuple[JobT, OutcomeT]]:
        """Wait until at least one running job has ended, and return those that have, with their outcomes."""


class ExecutorEvaluator(Generic[TrainingJobT]):
    """Trains jobs on an executor, which is started and stopped elsewhere.

    Args:
        executor: that trains.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._tickets = count()
        self._running: dict[int, TrainingJobT] = {}

    @property
    def slots(self) -> int:
        """The number of trials at a time."""
        return self._executor.slots

    def submit(self, job: TrainingJobT) -> None:
        """Start a training run."""
        ticket = next(self._tickets)
        self._running[ticket] = job
        self._executor.submit(ticket, job.spec)

    def wait(self) -> list[tuple[TrainingJobT, TrialResult]]:
        """Wait for the next training run to end."""
        ticket, result = self._executor.next_result()
        return [(self._running.pop(ticket), result)]


class FunctionEvaluator(Generic[JobT, OutcomeT]):
    """Calls a function for every job: at once for one worker, else in threads.

    An exception of the function is the outcome of its job; an interrupt is raised. Use it as a context manager.

    Args:
        function: returns the outcome of a job; several workers call it at the same time.
        workers: calls at a time.
    """

    def __init__(self, function: Callable[[JobT], OutcomeT], workers: int) -> None:
        self._function = function
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._running: dict[Future[OutcomeT], JobT] = {}

    def __enter__(self) -> FunctionEvaluator[JobT, OutcomeT]:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    @property
    def slots(self) -> int:
        """The number of calls at a time."""
        return self._workers

    def submit(self, job: JobT) -> None:
        """Call the function, and with one worker wait for it to return."""
        if self._pool is not None:
            self._running[self._pool.submit(self._function, job)] = job
            return
        future: Future[OutcomeT] = Future()
        self._running[future] = job
        try:
            future.set_result(self._function(job))
        except Exception as error:  # any exception of a black box is the failure of its trial
            future.set_exception(error)

    def wait(self) -> list[tuple[JobT, OutcomeT | Exception]]:
        """Wait for calls to end; those that ended together are in the order of their trials."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        ended = [self._outcome(future) for future in done]
        return sorted(ended, key=lambda pair: pair[0].number)

    def _outcome(self, future: Future[OutcomeT]) -> tuple[JobT, OutcomeT | Exception]:
        job = self._running.pop(future)
        try:
            return job, future.result()
        except Exception as error:
            return job, error
