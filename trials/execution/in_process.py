"""The executors that train in this process."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from trials.execution.compute import Compute, ThreadCount
from trials.execution.interface import SteppingExecutor
from trials.records import TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec

if TYPE_CHECKING:
    from trials.execution.runner import Runner


class _InProcessExecutor(SteppingExecutor):
    """A queue of trials and the runner that trains them.

    Between `start` and `stop`, this process computes with the executor's number of threads.
    """

    def __init__(self, workers: int = 1, sharers: int = 1, *, compute: Compute | None = None) -> None:
        super().__init__(workers, sharers, compute=compute)
        self._queue: deque[tuple[int, TrialSpec]] = deque()
        self._runner: Runner | None = None
        self._threads = ThreadCount()

    @property
    def runner(self) -> Runner:
        """The runner, which `start` creates."""
        assert self._runner is not None, "start() comes first"
        return self._runner

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._queue.append((ticket, spec))

    def stop(self) -> None:
        self._queue.clear()
        self._ended.clear()
        self._runner = None
        self._threads.restore()

    def _start(self, model: ModelSpec, task: TaskSpec, *, on_disk: bool = False) -> Runner:
        """Load the base model and the data, and set the number of threads."""
        from trials.execution.runner import Runner

        limit, tokens = self.compute.most_threads(), self.compute.chunk_tokens
        self._threads.set(limit)  # also for loading: other processes load at the same time
        self._runner = Runner(model, task, self.sharers, on_disk=on_disk, chunk_tokens=tokens)
        self._threads.set(min(limit, self.compute.threads_for(self._runner.base.shape.width, model.device)))
        return self._runner


class LocalExecutor(_InProcessExecutor):
    """One trial at a time, in this process. A trial runs when its result is requested."""

    name = "local"

    def __init__(self, workers: int = 1, sharers: int = 1, *, compute: Compute | None = None) -> None:
        if workers != 1:
            raise ValueError(f"executor local runs one trial at a time, not {workers}; use processes")
        super().__init__(workers, sharers, compute=compute)

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        self._start(model, task)

    @property
    def is_busy(self) -> bool:
        return bool(self._queue)

    def step(self) -> list[tuple[int, TrialResult]]:
        ticket, spec = self._queue.popleft()
        return [(ticket, self.runner.run(spec))]


class PackedExecutor(_InProcessExecutor):
    """Up to `workers` trials at a time, in this process; trials on one base model train as a pack.

    See `trials.packing.pack`. A trial that would not fit into memory beside the others waits until one of them has
    ended. Packs on several base models take turns, one step each.
    """

    name = "packed"

    def __init__(self, workers: int = 1, sharers: int = 1, *, compute: Compute | None = None) -> None:
        super().__init__(workers, sharers, compute=compute)
        self._has_changed = False
        """Whether trials were submitted or ended since admission was last checked."""

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        self._start(model, task, on_disk=True).pack()

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        super().submit(ticket, spec)
        self._has_changed = True

    @property
    def is_busy(self) -> bool:
        return bool(self._queue or any(map(len, self.runner.packs.values())))

    def step(self) -> list[tuple[int, TrialResult]]:
        """Admit the trials that fit, then train one step of every pack; see the base class."""
        while self._has_changed and self._queue and self._fits(self._queue[0][1]):
            ticket, spec = self._queue.popleft()
            if spec.config and not spec.is_isolated:
                result = self.runner.pack(spec.model).enter(ticket, spec)
            else:
                result = self.runner.run(spec)
            if result is not None:
                return [(ticket, result)]
        packs = [pack for pack in self.runner.packs.values() if len(pack)]
        ended = [result for pack in packs for result in pack.advance().items()]
        self._has_changed = bool(ended)
        return ended

    def stop(self) -> None:
        for pack in self._runner.packs.values() if self._runner is not None else ():
            pack.prefixes.flush()
        super().stop()

    def _fits(self, spec: TrialSpec) -> bool:
        return not spec.config or self.runner.pack(spec.model).fits(spec)
