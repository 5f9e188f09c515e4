"""Where trials run: in this process, one by one or packed, in local worker processes, or on a Ray cluster.

Life cycle: `start` once (it loads the base and the data wherever the trials will run), then `submit` up to
`slots` trials and `next_result` in any interleaving, then `stop`, also after an exception. A trial on a further base
(`TrialSpec.model`) has it loaded where it runs, once, and kept there. Specs and results are plain data; the
executor owns the processes and nothing else. A worker that dies brings its trials back as `lost`, and is replaced.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, ClassVar

from search_spaces.errors import InvalidInputError, Problem
from trials.records import TrialResult, TrialSpec, TrialStatus
from trials.specs import ModelSpec, TaskSpec

if TYPE_CHECKING:
    from trials.runner import Runner

_LOST = TrialResult(TrialStatus.LOST, error="the worker process died")


class ExecutorError(RuntimeError):
    """Trials cannot run here at all; what was told before stays told."""


class Executor(ABC):
    """Runs trials; see the top of this file."""

    name: ClassVar[str]

    def __init__(self, workers: int = 1, address: str | None = None) -> None:
        self.slots = workers
        self.address = address

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

    def __init__(self, workers: int = 1, address: str | None = None) -> None:
        if workers != 1:
            raise ValueError(f"executor local runs one trial at a time, not {workers}; use processes")
        super().__init__(workers, address)
        self._queue: deque[tuple[int, TrialSpec]] = deque()
        self._runner: Runner | None = None

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        from trials.runner import Runner

        self._runner = Runner(model, task)

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._queue.append((ticket, spec))

    def next_result(self) -> tuple[int, TrialResult]:
        assert self._runner is not None, "start() comes first"
        ticket, spec = self._queue.popleft()
        return ticket, self._runner.run(spec)

    def stop(self) -> None:
        self._queue.clear()
        self._runner = None


class PackedExecutor(Executor):
    """In this process, up to `workers` trials at a time, those on one base together; see `trials.packing`.

    A trial that would not fit into memory beside the others waits until one of them has ended. Trials on several
    bases take turns, a step of each base at a time.
    """

    name = "packed"

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        from trials.runner import Runner

        self._queue: deque[tuple[int, TrialSpec]] = deque()
        self._ended: deque[tuple[int, TrialResult]] = deque()
        self._runner = Runner(model, task, on_disk=True)
        self._runner.pack()

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._queue.append((ticket, spec))

    def next_result(self) -> tuple[int, TrialResult]:
        while self._queue and self._may_enter(self._queue[0][1]):
            ticket, spec = self._queue.popleft()
            result = (
                self._runner.pack(spec.model).enter(ticket, spec) if spec.config else self._runner.run(spec)
            )
            if result is not None:
                return ticket, result
        while not self._ended:
            for pack in self._runner.packs.values():
                self._ended.extend(pack.advance().items() if len(pack) else ())
        return self._ended.popleft()

    def stop(self) -> None:
        runner = self.__dict__.pop("_runner", None)
        for pack in runner.packs.values() if runner is not None else ():
            pack.prefixes.flush()

    def _may_enter(self, spec: TrialSpec) -> bool:
        return not spec.config or self._runner.pack(spec.model).fits(spec)


class ProcessExecutor(Executor):
    """In worker processes of this machine, which share its cores (or its GPUs, one each in turn)."""

    name = "processes"

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        self._setup = (model, task)
        self._context = multiprocessing.get_context("spawn")  # forked CUDA contexts and thread pools break
        self._loaded = self._context.Value("i", 0)
        self._futures: dict[Future[TrialResult], int] = {}
        self._pool = self._new_pool()

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        try:
            future = self._pool.submit(_run_in_worker, spec)
        except BrokenProcessPool:
            self._pool = self._new_pool()
            future = self._pool.submit(_run_in_worker, spec)
        self._futures[future] = ticket

    def next_result(self) -> tuple[int, TrialResult]:
        done, _ = wait(self._futures, return_when=FIRST_COMPLETED)
        future = done.pop()
        ticket = self._futures.pop(future)
        try:
            return ticket, future.result()
        except BrokenProcessPool as error:
            if self._loaded.value == 0:
                raise ExecutorError(
                    "no worker process could be started; its error stands above. A script that runs a sweep "
                    "needs `if __name__ == '__main__':` around it; `executor: local` needs no processes."
                ) from error
            return ticket, _LOST

    def stop(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is None:
            return
        # The pool's own shutdown waits for running trials; nobody wants their results any more.
        for pid in self.worker_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        pool.shutdown(wait=True, cancel_futures=True)
        self._futures = {}

    def worker_pids(self) -> list[int]:
        """The processes of the workers that have been started; they start with the first trials."""
        return list(self._pool._processes or {})

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.slots,
            mp_context=self._context,
            initializer=_start_worker,
            initargs=(*self._setup, self._context.Value("i", 0), self._loaded, self.slots),
        )


class RayExecutor(Executor):
    """On a Ray cluster (or a local Ray), one actor a slot; needs the extra `autotune[ray]`."""

    name = "ray"

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        try:
            import ray
        except ImportError as error:
            raise InvalidInputError(
                Problem("executor", "Ray is not installed", "Run pip install 'autotune[ray]'.")
            ) from error
        self._ray = ray
        self._setup = (model, task)
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        self._idle: deque[Any] = deque(self._new_actor() for _ in range(self.slots))
        self._busy: dict[Any, tuple[int, Any]] = {}

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        actor = self._idle.popleft()
        self._busy[actor.run.remote(spec)] = (ticket, actor)

    def next_result(self) -> tuple[int, TrialResult]:
        done, _ = self._ray.wait(list(self._busy), num_returns=1)
        ticket, actor = self._busy.pop(done[0])
        try:
            result: TrialResult = self._ray.get(done[0])
        except self._ray.exceptions.RayActorError:
            actor, result = self._new_actor(), _LOST
        finally:
            self._idle.append(actor)
        return ticket, result

    def stop(self) -> None:
        ray = getattr(self, "_ray", None)
        if ray is None or not ray.is_initialized():
            return
        for actor in [*self._idle, *(actor for _, actor in self._busy.values())]:
            ray.kill(actor)
        if self._started_ray:
            ray.shutdown()

    def _new_actor(self) -> Any:
        from trials.runner import Runner

        gpus = self._ray.cluster_resources().get("GPU", 0)
        cores = self._ray.cluster_resources().get("CPU", 1)
        actor = self._ray.remote(Runner).options(
            num_gpus=min(1.0, gpus / self.slots), num_cpus=max(1, int(cores // self.slots))
        )
        return actor.remote(*self._setup, self.slots)


EXECUTORS: dict[str, type[Executor]] = {
    executor.name: executor for executor in (LocalExecutor, PackedExecutor, ProcessExecutor, RayExecutor)
}
"""Every executor by the name that a sweep file gives."""

_worker_runner: Runner | None = None


def _start_worker(model: ModelSpec, task: TaskSpec, started: Any, loaded: Any, workers: int) -> None:
    """Load everything in a new worker process; `started` and `loaded` count the workers that came so far."""
    global _worker_runner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the engine decides
    import torch

    with started.get_lock():
        index = started.value
        started.value += 1
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if model.device == "auto" and torch.cuda.is_available():
        model = model.model_copy(update={"device": f"cuda:{index % torch.cuda.device_count()}"})
    from trials.runner import Runner

    _worker_runner = Runner(model, task, workers)
    with loaded.get_lock():
        loaded.value += 1


def _run_in_worker(spec: TrialSpec) -> TrialResult:
    assert _worker_runner is not None, "the pool's initializer loads the runner"
    return _worker_runner.run(spec)
