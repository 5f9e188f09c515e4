"""All executors, and the one that a sweep file describes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

from search_spaces.errors import InvalidInputError, Problem, install_hint
from trials.execution.compute import Compute, ThreadCount
from trials.execution.errors import ExecutorError
from trials.execution.in_process import LocalExecutor, PackedExecutor
from trials.execution.interface import Executor
from trials.execution.workers import Workers, WorkersError
from trials.records import LOST, TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec


class ProcessExecutor(Executor):
    """Worker processes of this machine, which divide its cores, or take its GPUs in turn.

    Args:
        workers: The maximum number of trials at the same time.
        processes: The number of processes among which the trials are divided; by default one per trial. If there
            are fewer, each process trains its trials as a pack.
        compute: The threads and the chunks of each process.
    """

    name = "processes"

    def __init__(
        self, workers: int = 1, processes: int | None = None, *, compute: Compute | None = None
    ) -> None:
        super().__init__(workers, compute=compute)
        self._count = min(processes or workers, workers)
        self._workers: Workers | None = None
        self._threads = ThreadCount()

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        from trials.base.model import check_machine

        check_machine(model)
        self._threads.set(1)  # the workers take the cores while this process proposes configurations
        try:
            capacity = -(-self.slots // self._count)
            self._workers = Workers(self._count, capacity, model, task, self.compute)
        except WorkersError as error:
            raise _no_worker() from error

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._started().submit(ticket, spec)

    def next_result(self) -> tuple[int, TrialResult]:
        try:
            return self._started().next_result()
        except WorkersError as error:
            raise _no_worker() from error

    def stop(self) -> None:
        if self._workers is not None:
            self._workers.stop()
        self._workers = None
        self._threads.restore()

    def worker_pids(self) -> list[int]:
        """Return the ids of the running worker processes."""
        return self._workers.pids if self._workers is not None else []

    def _started(self) -> Workers:
        assert self._workers is not None, "start() comes first"
        return self._workers


def _no_worker() -> ExecutorError:
    return ExecutorError(
        "no worker process could be started; its error stands above. A script that runs a sweep "
        "needs `if __name__ == '__main__':` around it; `executor: local` needs no processes."
    )


class RayExecutor(Executor):
    """A Ray cluster, or a local Ray, with one actor per slot; it needs the extra `ray` of this package.

    Args:
        workers: The maximum number of trials at the same time.
        address: The address of the cluster; `auto` for the one that this machine belongs to, None for a local Ray.
        compute: The threads and the chunks of each actor. Ray gives an actor as many threads as CPUs.
    """

    name = "ray"

    def __init__(
        self, workers: int = 1, address: str | None = None, *, compute: Compute | None = None
    ) -> None:
        super().__init__(workers, compute=compute)
        self.address = address
        self._actors: _RayActors | None = None

    @classmethod
    def create(cls, workers: int, address: str | None, compute: Compute) -> Self:
        return cls(workers, address, compute=compute)

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        try:
            import ray
        except ImportError as error:
            raise InvalidInputError(
                Problem("executor", "Ray is not installed", f"Run: {install_hint('ray')}")
            ) from error
        is_ours = not ray.is_initialized()
        if is_ours:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        self._actors = _RayActors(ray, self.slots, model, task, is_ours, self.compute)
        self._actors.fill()

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._started().submit(ticket, spec)

    def next_result(self) -> tuple[int, TrialResult]:
        return self._started().next_result()

    def stop(self) -> None:
        if self._actors is not None:
            self._actors.stop()
        self._actors = None

    def _started(self) -> _RayActors:
        assert self._actors is not None, "start() comes first"
        return self._actors


@dataclass
class _RayActors:
    """The actors of a started Ray.

    Args:
        ray: The module `ray`, which is an optional dependency.
        count: The number of actors.
        model: The base model that each actor loads.
        task: The task whose data each actor loads.
        is_ours: Whether this process started Ray and therefore shuts it down.
        compute: The threads and the chunks of each actor.
        idle: The actors without a trial.
        busy: The ticket and the actor of each running trial, by the reference of its result.
    """

    ray: Any
    count: int
    model: ModelSpec
    task: TaskSpec
    is_ours: bool
    compute: Compute
    idle: deque[Any] = field(default_factory=deque)
    busy: dict[Any, tuple[int, Any]] = field(default_factory=dict)

    def fill(self) -> None:
        """Start all actors."""
        self.idle.extend(self._new() for _ in range(self.count))

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        """Give a trial to an idle actor."""
        actor = self.idle.popleft()
        self.busy[actor.run.remote(spec)] = (ticket, actor)

    def next_result(self) -> tuple[int, TrialResult]:
        """Wait until a trial ends; a dead actor is replaced and its trial is lost."""
        done, _ = self.ray.wait(list(self.busy), num_returns=1)
        ticket, actor = self.busy.pop(done[0])
        try:
            result: TrialResult = self.ray.get(done[0])
        except self.ray.exceptions.RayActorError:
            actor, result = self._new(), LOST
        finally:
            self.idle.append(actor)
        return ticket, result

    def stop(self) -> None:
        """Kill all actors, and shut down Ray if this process started it."""
        if not self.ray.is_initialized():
            return
        for actor in [*self.idle, *(actor for _, actor in self.busy.values())]:
            self.ray.kill(actor)
        if self.is_ours:
            self.ray.shutdown()

    def _new(self) -> Any:
        from trials.execution.runner import Runner

        resources = self.ray.cluster_resources()
        actor = self.ray.remote(Runner).options(
            num_gpus=min(1.0, resources.get("GPU", 0) / self.count),
            num_cpus=self.compute.threads or max(1, int(resources.get("CPU", 1) // self.count)),
        )
        return actor.remote(self.model, self.task, self.count, chunk_tokens=self.compute.chunk_tokens)


EXECUTORS: dict[str, type[Executor]] = {
    executor.name: executor for executor in (LocalExecutor, PackedExecutor, ProcessExecutor, RayExecutor)
}
"""All executors by their name in a sweep file."""


def make_executor(
    name: str,
    workers: int | None = None,
    address: str | None = None,
    processes: int | None = None,
    threads: int | None = None,
    chunk_tokens: int | None = None,
    device: str = "auto",
) -> Executor:
    """Build the executor that a sweep file describes.

    Args:
        name: The name of the executor in `EXECUTORS`.
        workers: The maximum number of trials at the same time. By default one; for packs eight per process on a GPU
            and two on a CPU, whose cores are busy with one trial, and where a sampler that knows more results
            proposes better configurations.
        address: The address of a Ray cluster.
        processes: The number of processes that each train a pack; for `packed` only.
        threads: The number of threads of each process on a CPU; by default what suits its part of the cores.
        chunk_tokens: The maximum number of tokens of one forward pass of a pack; by default what suits the device.
        device: The device of the base model, as in `ModelSpec`.
    """
    compute = Compute(threads, chunk_tokens)
    is_packed, count = name == PackedExecutor.name, processes or 1
    if workers is None:
        workers = count * _pack_size(device) if is_packed else 1
    if is_packed and count > 1:
        return ProcessExecutor(workers, processes=count, compute=compute)
    return EXECUTORS[name].create(workers, address, compute)


def _pack_size(device: str) -> int:
    from trials.base.model import choose_device

    return 2 if choose_device(device).type == "cpu" else 8
