"""Several processes that train one trial at a time, each with a whole base model and a part of every batch.

accelerate joins the processes (gloo on CPUs, NCCL on GPUs). Each of them receives every trial and returns a result;
the first one's counts. If one fails or dies while the others wait for its gradients, all of them are started again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import traceback
from collections import deque
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from trials.base.cores import passive_children
from trials.execution.compute import Compute
from trials.execution.errors import ExecutorError
from trials.execution.fork_server import worker_context
from trials.execution.interface import Executor
from trials.execution.workers import place
from trials.records import LOST, TrialResult, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec

_PATIENCE = 10.0
"""Seconds in which the other processes of a failed trial return its failure too, if it is one of all of them."""
_EXIT_SECONDS = 5.0
"""Seconds that a terminated process has to exit before it is killed."""
_LONGEST = timedelta(days=7)
"""The longest time that a process waits for another, for example while the first one scores a split."""


class AccelerateExecutor(Executor):
    """Processes that train one trial together: their gradients add up in every step (data parallelism).

    Args:
        workers: The number of trials at the same time, which is one.
        processes: The number of processes; by default one per GPU, and two on a CPU.
        compute: The threads of each process.
    """

    name = "accelerate"

    def __init__(
        self, workers: int = 1, processes: int | None = None, *, compute: Compute | None = None
    ) -> None:
        if workers != 1:
            raise ValueError(f"workers: accelerate trains one trial at a time, not {workers}; use processes")
        super().__init__(workers, compute=compute)
        self._count = processes
        self._setup: tuple[ModelSpec, TaskSpec] | None = None
        self._processes: list[tuple[BaseProcess, Connection]] = []
        self._queue: deque[tuple[int, TrialSpec]] = deque()

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        from trials.base.model import check_machine

        check_machine(model)
        self._setup = model, task
        self._start()

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._queue.append((ticket, spec))

    def next_result(self) -> tuple[int, TrialResult]:
        ticket, spec = self._queue.popleft()
        pipes = [pipe for _, pipe in self._processes]
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # the next read reports a dead process
            for pipe in pipes:
                pipe.send(spec)
        results: dict[int, TrialResult] = {}
        waits = None
        while len(results) < len(pipes):
            ready = wait([pipe for r, pipe in enumerate(pipes) if r not in results], waits)
            if not ready:  # the others wait for one that has failed
                break
            for rank, pipe in enumerate(pipes):
                if pipe not in ready:
                    continue
                message = _received(pipe)
                if isinstance(message, Exception):
                    self._restart()
                    raise message
                if message is None:
                    self._restart()
                    return ticket, LOST
                results[rank] = message
                waits = _PATIENCE if message.status == TrialStatus.FAILED else waits
        if len(results) < len(pipes):
            self._restart()
        failed = [result for result in results.values() if result.status == TrialStatus.FAILED]
        return ticket, failed[0] if failed else results[0]

    def stop(self) -> None:
        for process, _ in self._processes:
            process.terminate()
        for process, pipe in self._processes:
            process.join(_EXIT_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()
        self._processes = []
        self._queue.clear()

    def worker_pids(self) -> list[int]:
        """Return the ids of the running processes."""
        return [process.pid for process, _ in self._processes if process.pid is not None]

    def _restart(self) -> None:
        waiting = list(self._queue)
        self.stop()
        self._start()
        self._queue.extend(waiting)

    def _start(self) -> None:
        assert self._setup is not None, "start() comes first"
        model, task = self._setup
        count, port = self._count or usual_count(model), _free_port()
        context = worker_context(model.device)
        for rank in range(count):
            ours, theirs = context.Pipe()
            arguments = (theirs, rank, count, port, model, task, self.compute)
            process = context.Process(target=_work, args=arguments, daemon=True)
            with passive_children():
                process.start()
            theirs.close()
            self._processes.append((process, ours))
        for _, pipe in self._processes:
            message = _received(pipe)
            if message is None or isinstance(message, Exception):
                self.stop()
                raise message or ExecutorError("a process ended before it had loaded the base model")


def usual_count(model: ModelSpec) -> int:
    """Return the number of processes where none is given: one per GPU, and two on a CPU."""
    import torch

    from trials.base.model import choose_device

    return torch.cuda.device_count() if choose_device(model.device).type == "cuda" else 2


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
    return port


def _received(pipe: Connection) -> Any:
    """Return the next message of a process, or None if it has died."""
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        return None


def _work(
    pipe: Connection,
    rank: int,
    count: int,
    port: int,
    model: ModelSpec,
    task: TaskSpec,
    compute: Compute,
) -> None:
    """Run one of the processes: send True once everything is loaded, then the result of each trial."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent handles it
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in ranks.items()}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent process has ended
        try:
            runner = _joined_runner(rank, count, model, task, compute)
        except Exception as error:
            error.add_note(f"in process {rank}:\n{traceback.format_exc()}")
            pipe.send(error)
            return
        pipe.send(True)
        while True:
            spec = pipe.recv()
            try:
                pipe.send(runner.run(spec))
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:  # of the base model, which would end every trial on it
                pipe.send(error)


def _joined_runner(rank: int, count: int, model: ModelSpec, task: TaskSpec, compute: Compute) -> Any:
    """Join the processes, and return the runner of this one."""
    import torch
    from accelerate import PartialState

    from trials.base.model import choose_device
    from trials.execution.runner import Runner
    from trials.training.group import Group

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    model, sharers = place(model, rank, count, gpus)
    device = choose_device(model.device)
    PartialState(cpu=device.type == "cpu", timeout=_LONGEST)
    if device.type == "cpu":
        torch.set_num_threads(compute.threads or max(1, compute.most_threads() // count))
    return Runner(model, task, sharers, group=Group())
