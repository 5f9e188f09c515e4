"""The executor interface: where trials run.

Life cycle: call `start` once, which loads the base model and the data wherever the trials will run; then `submit`
up to `slots` trials and `next_result` in any interleaving; then `stop`, also after an exception. `slots` may change
while trials run: a cluster gains and loses workers. A trial on an additional base model (`TrialSpec.model`) loads it
once where it runs and keeps it. Specs and results are plain data; the executor owns the processes and nothing else.
If a worker dies, its trials return as `lost`, and the worker is replaced.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar, Self

from trials.execution.compute import Compute
from trials.records import TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec

_SINGLE_TICKET = 0


class Executor(ABC):
    """Base class of everything that runs trials; see the top of this file for the life cycle.

    Args:
        workers: The maximum number of trials at the same time.
        compute: The threads and the chunks of each process.
    """

    name: ClassVar[str]
    """The name of the executor in a sweep file."""

    def __init__(self, workers: int = 1, *, compute: Compute | None = None) -> None:
        self.slots = workers
        self.compute = compute or Compute()
        self.notes: list[str] = []
        """What `start` has found out about where trials run, in sentences for the user."""

    @classmethod
    def create(cls, workers: int | None, address: str | None, compute: Compute) -> Self:
        """Build the executor from the options of a sweep file; `address` is that of a cluster."""
        return cls(workers or 1, compute=compute)

    @abstractmethod
    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        """Load the base model and the data wherever trials will run.

        Raises:
            InvalidInputError: The model or the data cannot be used.
        """

    @abstractmethod
    def submit(self, ticket: int, spec: TrialSpec) -> None:
        """Queue a trial.

        Args:
            ticket: A number that `next_result` returns with the result; unique among the unfinished trials.
            spec: The trial; at most `slots` trials may be unfinished.
        """

    @abstractmethod
    def next_result(self) -> tuple[int, TrialResult]:
        """Wait until an unfinished trial ends, and return its ticket and result.

        Raises:
            ExecutorError: No worker could be started, so that no trial will ever end, or there is not enough memory
                for a base model.
            InvalidInputError: An additional base model cannot be loaded.
        """

    @abstractmethod
    def stop(self) -> None:
        """Release all resources and abandon unfinished trials. It can be called at any time, also twice."""

    def run(self, spec: TrialSpec) -> TrialResult:
        """Run one trial and wait for it; no other trial may be unfinished. Raises as `next_result` does."""
        self.submit(_SINGLE_TICKET, spec)
        _, result = self.next_result()
        return result


class SteppingExecutor(Executor):
    """An executor that works in the calling thread, in steps, so that trials can enter between two steps.

    Args:
        workers: The maximum number of trials at the same time.
        sharers: The number of executors that share this machine's cores and memory, this one included.
        compute: The threads and the chunks of this process.
    """

    def __init__(self, workers: int = 1, sharers: int = 1, *, compute: Compute | None = None) -> None:
        super().__init__(workers, compute=compute)
        self.sharers = sharers
        self._ended: deque[tuple[int, TrialResult]] = deque()

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether `step` has something to do."""

    @abstractmethod
    def step(self) -> list[tuple[int, TrialResult]]:
        """Do a part of the work, and return the tickets and results of the trials that ended with it."""

    def next_result(self) -> tuple[int, TrialResult]:
        while not self._ended:
            assert self.is_busy, "submit() comes first"
            self._ended.extend(self.step())
        return self._ended.popleft()
