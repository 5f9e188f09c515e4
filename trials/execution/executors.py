"""All executors, and the one that a sweep file describes."""

from __future__ import annotations

from trials.execution.compute import Compute, ThreadCount
from trials.execution.errors import ExecutorError
from trials.execution.in_process import LocalExecutor, PackedExecutor
from trials.execution.interface import Executor
from trials.execution.ray_workers import RayExecutor
from trials.execution.together import AccelerateExecutor
from trials.execution.workers import Workers, WorkersError
from trials.records import TrialResult, TrialSpec
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


EXECUTORS: dict[str, type[Executor]] = {
    executor.name: executor
    for executor in (LocalExecutor, PackedExecutor, ProcessExecutor, RayExecutor, AccelerateExecutor)
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
    strategy: str = "ddp",
) -> Executor:
    """Build the executor that a sweep file describes.

    Args:
        name: The name of the executor in `EXECUTORS`.
        workers: The maximum number of trials at the same time. By default one; for packs eight per process on a GPU
            and two on a CPU, whose cores are busy with one trial, and where a sampler that knows more results
            proposes better configurations; for Ray one per GPU or node of the cluster.
        address: The address of a Ray cluster.
        processes: The number of processes that each train a pack (`packed`), or one trial together (`accelerate`).
        threads: The number of threads of each process on a CPU; by default what suits its part of the cores.
        chunk_tokens: The maximum number of tokens of one forward pass of a pack; by default what suits the device.
        device: The device of the base model, as in `ModelSpec`.
        strategy: How `accelerate` divides the work: `ddp`, by examples.
    """
    compute = Compute(threads, chunk_tokens)
    if name == AccelerateExecutor.name:
        return AccelerateExecutor(workers or 1, processes, compute=compute)
    is_packed, count = name == PackedExecutor.name, processes or 1
    if workers is None and name != RayExecutor.name:
        workers = count * _pack_size(device) if is_packed else 1
    if workers is not None and is_packed and count > 1:
        return ProcessExecutor(workers, processes=count, compute=compute)
    return EXECUTORS[name].create(workers, address, compute)


def _pack_size(device: str) -> int:
    from trials.base.model import choose_device

    return 2 if choose_device(device).type == "cpu" else 8
