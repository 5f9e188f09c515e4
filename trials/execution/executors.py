"""Where trials run: in this process, one by one or packed, in local worker processes, or on a Ray cluster.

Life cycle: `start` once (it loads the base and the data wherever the trials will run), then `submit` up to
`slots` trials and `next_result` in any interleaving, then `stop`, also after an exception. A trial on a further base
(`TrialSpec.model`) has it loaded where it runs, once, and kept there. Specs and results are plain data; the
executor owns the processes and nothing else. A worker that dies brings its trials back as `lost`, and is replaced.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InvalidInputError, Problem
from trials.execution.errors import ExecutorError
from trials.execution.in_process import Executor, LocalExecutor, PackedExecutor
from trials.execution.workers import Workers, WorkersError
from trials.records import LOST, TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec

if TYPE_CHECKING:
    pass


class ProcessExecutor(Executor):
    """In worker processes of this machine, which share its cores (or its GPUs, one each in turn).

    Args:
        processes: among which the trials are divided; by default each has one. Where there are fewer, each trains
            its share of them in packs.
    """

    name = "processes"

    def __init__(
        self, workers: int = 1, address: str | None = None, sharers: int = 1, processes: int | None = None
    ) -> None:
        super().__init__(workers, address, sharers)
        self._count = min(processes or workers, workers)
        self._workers: Workers | None = None

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        from trials.base.model import check_machine

        check_machine(model)
        try:
            self._workers = Workers(self._count, -(-self.slots // self._count), model, task)
        except WorkersError as error:
            raise _cannot_start() from error

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        assert self._workers is not None, "start() comes first"
        self._workers.submit(ticket, spec)

    def next_result(self) -> tuple[int, TrialResult]:
        assert self._workers is not None, "start() comes first"
        try:
            return self._workers.next_result()
        except WorkersError as error:
            raise _cannot_start() from error

    def stop(self) -> None:
        if self._workers is not None:
            self._workers.stop()
        self._workers = None

    def worker_pids(self) -> list[int]:
        """The processes that run now."""
        return self._workers.pids if self._workers is not None else []


def _cannot_start() -> ExecutorError:
    return ExecutorError(
        "no worker process could be started; its error stands above. A script that runs a sweep "
        "needs `if __name__ == '__main__':` around it; `executor: local` needs no processes."
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
            actor, result = self._new_actor(), LOST
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
        from trials.execution.runner import Runner

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


def make_executor(
    name: str,
    workers: int | None = None,
    address: str | None = None,
    processes: int | None = None,
    device: str = "auto",
) -> Executor:
    """The executor that a sweep file describes; several `processes` of packs are workers that each have one.

    Args:
        workers: trials at a time; by default one, in packs eight a process. On a processor two a process: its
            cores are busy with one trial, and a sampler that knows how the last ones ended proposes better ones.
        device: of the base.
    """
    packed, count = name == PackedExecutor.name, processes or 1
    if workers is None:
        workers = count * _pack_size(device) if packed else 1
    if packed and count > 1:
        return ProcessExecutor(workers, processes=count)
    return EXECUTORS[name](workers, address)


def _pack_size(device: str) -> int:
    from trials.base.model import choose_device

    return 2 if choose_device(device).type == "cpu" else 8
