"""The executor interface, and the executors that train in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from trials.records import TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec

if TYPE_CHECKING:
    from trials.execution.runner import Runner


class Executor(ABC):
    """Runs trials; see the top of this file.

    Args:
        workers: trials at a time.
        address: of a cluster.
        sharers: executors that share this machine's memory, this one included.
    """

    name: ClassVar[str]

    def __init__(self, workers: int = 1, address: str | None = None, sharers: int = 1) -> None:
        self.slots, self.address, self.sharers = workers, address, sharers

    @abstractmethod
    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        """Load the base and the data wherever trials will run.

        Raises:
            InvalidInputError: they cannot be used.
        """

    @abstractmethod
    def submit(self, ticket: int, spec: TrialSpec) -> None:
        """Queue a trial; at most `slots` may be under way. `ticket` comes back with the result."""

    @abstractmethod
    def next_result(self) -> tuple[int, TrialResult]:
        """Wait for the next trial to end.

        Raises:
            ExecutorError: no worker could be started, so that none of the trials will ever end, or there is not
                enough memory for a base.
            InvalidInputError: a further base cannot be loaded.
        """

    @abstractmethod
    def stop(self) -> None:
        """Let go of everything; what is under way is given up. May be called at any time, also twice."""


class LocalExecutor(Executor):
    """In this process, one trial at a time. A trial runs when its result is asked for."""

    name = "local"

    def __init__(self, workers: int = 1, address: str | None = None, sharers: int = 1) -> None:
        if workers != 1:
            raise ValueError(f"executor local runs one trial at a time, not {workers}; use processes")
        super().__init__(workers, address, sharers)
        self._queue: deque[tuple[int, TrialSpec]] = deque()
        self._runner: Runner | None = None

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        from trials.execution.runner import Runner

        self._runner = Runner(model, task, self.sharers)

    @property
    def busy(self) -> bool:
        """Whether a trial is under way."""
        return bool(self._queue)

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._queue.append((ticket, spec))

    def step(self) -> list[tuple[int, TrialResult]]:
        """Do some of the work that there is; the results of the trials that ended with it."""
        return [self.next_result()]

    def next_result(self) -> tuple[int, TrialResult]:
        assert self._runner is not None, "start() comes first"
        ticket, spec = self._queue.popleft()
        return ticket, self._runner.run(spec)

    def stop(self) -> None:
        self._queue.clear()
        self._runner = None


class PackedExecutor(Executor):
    """In this process, up to `workers` trials at a time, those on one base together; see `trials.packing.pack`.

    A trial that would not fit into memory beside the others waits until one of them has ended. Trials on several
    bases take turns, a step of each base at a time.
    """

    name = "packed"

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        from trials.execution.runner import Runner

        self._queue: deque[tuple[int, TrialSpec]] = deque()
        self._ended: deque[tuple[int, TrialResult]] = deque()
        self._changed = False  # since it was last asked who may enter
        self._runner = Runner(model, task, self.sharers, on_disk=True)
        self._runner.pack()

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._queue.append((ticket, spec))
        self._changed = True

    @property
    def busy(self) -> bool:
        """Whether a trial is under way."""
        return bool(self._queue or self._ended or any(map(len, self._runner.packs.values())))

    def step(self) -> list[tuple[int, TrialResult]]:
        """Let in who may enter, and take one step with each base; the results of the trials that ended with it."""
        while self._changed and self._queue and self._may_enter(self._queue[0][1]):
            ticket, spec = self._queue.popleft()
            packed = spec.config and not spec.alone
            result = self._runner.pack(spec.model).enter(ticket, spec) if packed else self._runner.run(spec)
            if result is not None:
                return [(ticket, result)]
        packs = [pack for pack in self._runner.packs.values() if len(pack)]
        ended = [result for pack in packs for result in pack.advance().items()]
        self._changed = bool(ended)
        return ended

    def next_result(self) -> tuple[int, TrialResult]:
        while not self._ended:
            self._ended.extend(self.step())
        return self._ended.popleft()

    def stop(self) -> None:
        runner = self.__dict__.pop("_runner", None)
        for pack in runner.packs.values() if runner is not None else ():
            pack.prefixes.flush()

    def _may_enter(self, spec: TrialSpec) -> bool:
        return not spec.config or self._runner.pack(spec.model).fits(spec)
