"""Worker processes of this machine that train trials, and their communication with the parent process.

Each worker has a stepping executor of its own. The parent sends it trials at any time, and the worker looks for new
ones between two steps, so a trial that arrives while others train can join them. If a worker dies, its pipe closes:
its trials return as `lost`, and another worker takes its place.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from search_spaces.errors import AutotuneError
from trials.base.cores import passive_children
from trials.execution.compute import Compute
from trials.execution.fork_server import worker_context
from trials.execution.interface import SteppingExecutor
from trials.records import LOST, TrialResult, TrialSpec
from trials.tasks.specs import AUTO, ModelSpec, TaskSpec

_MAX_FAILED_STARTS = 3
"""How many workers in a row may die while they load, after an earlier one has loaded."""
_EXIT_SECONDS = 5.0
"""Seconds that a terminated worker has to exit before it is killed."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    tickets: set[int] = field(default_factory=set)
    ready: bool = False


class WorkersError(AutotuneError, RuntimeError):
    """No worker could be started."""


class Workers:
    """A group of worker processes, which divide the machine's cores or take its GPUs in turn.

    Args:
        count: The number of processes.
        capacity: The maximum number of trials per process at the same time; more than one train as a pack.
        model: The base model of all trials.
        task: The task of all trials.
        compute: The threads and the chunks of each process.

    Raises:
        InvalidInputError: The base model or the data cannot be used.
        WorkersError: No process could be started.
    """

    def __init__(
        self,
        count: int,
        capacity: int,
        model: ModelSpec,
        task: TaskSpec,
        compute: Compute | None = None,
    ) -> None:
        self._setup = (count, capacity, model, task, compute or Compute())
        self._context = worker_context(model.device)
        self._ended: deque[tuple[int, TrialResult]] = deque()
        self._has_loaded, self._failed_starts = False, 0
        self._workers = [self._start(index) for index in range(count)]
        try:
            while not all(worker.ready for worker in self._workers):
                self._listen()
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        """Send a trial to the worker with the fewest."""
        worker = min(self._workers, key=lambda worker: len(worker.tickets))
        worker.tickets.add(ticket)
        # If it has died, the next read from its pipe reports that.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.pipe.send((ticket, spec))

    def next_result(self) -> tuple[int, TrialResult]:
        """Wait until a trial ends, and return its ticket and result.

        Raises:
            Exception: An error in a worker that is not a trial's failure.
            WorkersError: No worker can be started.
        """
        while not self._ended:
            self._listen()
        return self._ended.popleft()

    def stop(self) -> None:
        """Terminate all workers; their unfinished trials are abandoned."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_EXIT_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers = []

    def _start(self, index: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, index, *self._setup), daemon=True)
        with passive_children():
            process.start()
        theirs.close()  # otherwise the pipe would stay open after the worker's death
        return _Worker(process, ours)

    def _listen(self) -> None:
        """Wait for messages of the workers, and process them."""
        readable = wait([worker.pipe for worker in self._workers])
        for index, worker in enumerate(self._workers):
            if worker.pipe not in readable:
                continue
            try:
                message = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                self._replace(index)
                continue
            if isinstance(message, Exception):
                raise message
            if message is None:
                worker.ready = self._has_loaded = True
                self._failed_starts = 0
            else:
                worker.tickets.discard(message[0])
                self._ended.append(message)

    def _replace(self, index: int) -> None:
        worker = self._workers[index]
        self._failed_starts += not worker.ready
        if self._failed_starts and (not self._has_loaded or self._failed_starts > _MAX_FAILED_STARTS):
            raise WorkersError
        worker.process.join(_EXIT_SECONDS)
        worker.pipe.close()
        self._ended.extend((ticket, LOST) for ticket in sorted(worker.tickets))
        self._workers[index] = self._start(index)


def _work(
    pipe: Connection,
    index: int,
    count: int,
    capacity: int,
    model: ModelSpec,
    task: TaskSpec,
    compute: Compute,
) -> None:
    """Run a worker process.

    It sends None once everything is loaded, then (ticket, result) for each trial, or an exception that is not a
    trial's failure.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole process group; the parent handles it
    import torch
    from tqdm import tqdm

    from trials.execution.in_process import LocalExecutor, PackedExecutor

    tqdm.set_lock(threading.RLock())  # the default is a semaphore, which a terminated process leaks
    compute = replace(compute, processes=count)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    model, sharers = place(model, index, count, gpus)
    executor: SteppingExecutor
    if capacity == 1:
        executor = LocalExecutor(sharers=sharers, compute=compute)
    else:
        executor = PackedExecutor(capacity, sharers=sharers, compute=compute)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent process has ended
        if not _call(pipe, executor.start, model, task):
            return
        pipe.send(None)
        while True:
            while not executor.is_busy or pipe.poll():
                executor.submit(*pipe.recv())
            _call(pipe, _step, pipe, executor)


def place(model: ModelSpec, index: int, count: int, gpus: int) -> tuple[ModelSpec, int]:
    """Return the base model on the device of a worker, and how many workers share that device's memory.

    With the device `auto`, the workers take the GPUs in turn; every other device is that of all workers.

    Args:
        model: The base model.
        index: The number of the worker, from 0.
        count: The number of workers.
        gpus: The number of CUDA devices.
    """
    if model.device != AUTO or gpus == 0:
        return model, count
    own = index % gpus
    return model.model_copy(update={"device": f"cuda:{own}"}), len(range(own, count, gpus))


def _step(pipe: Connection, executor: SteppingExecutor) -> None:
    for result in executor.step():
        pipe.send(result)


def _call(pipe: Connection, function: Callable[..., object], *arguments: object) -> bool:
    """Call a function, send its exception to the parent if it raises one, and return whether it did not."""
    try:
        function(*arguments)
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        pipe.send(error)
        return False
    return True
