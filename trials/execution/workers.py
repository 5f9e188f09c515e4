"""Processes of this machine that train trials: what runs in them, and how they are told and heard.

Each worker has an executor of its own, which it is sent trials for at any time and asks for results step by step, so
that what comes while others train enters between two steps. A worker that dies closes its pipe: its trials come back
as `lost`, and another takes its place.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from search_spaces.errors import AutotuneError
from trials.execution.interface import SteppingExecutor
from trials.records import LOST, TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec

_TRIES = 3
"""Workers that may die before they are ready, one after another, where earlier ones were."""
_PATIENCE = 5.0
"""Seconds that a worker has to end after it was asked to."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    tickets: set[int] = field(default_factory=set)
    ready: bool = False


class WorkersError(AutotuneError, RuntimeError):
    """No worker could be started."""


class Workers:
    """Some processes that share the machine's cores, or its GPUs, one each in turn.

    Args:
        count: of processes.
        room: trials that each has at a time, in a pack where there are more than one.
        model, task: of all trials.

    Raises:
        InvalidInputError: the base or the data cannot be used.
        WorkersError: no process could be started.
    """

    def __init__(self, count: int, room: int, model: ModelSpec, task: TaskSpec) -> None:
        self._setup = (count, room, model, task)
        self._context = multiprocessing.get_context("spawn")  # forked CUDA contexts and thread pools break
        self._ended: deque[tuple[int, TrialResult]] = deque()
        self._loaded, self._fruitless = False, 0
        self._workers = [self._start(index) for index in range(count)]
        try:
            while not all(worker.ready for worker in self._workers):
                self._listen()
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        """Give a trial to the worker that has the fewest."""
        worker = min(self._workers, key=lambda worker: len(worker.tickets))
        worker.tickets.add(ticket)
        # If it has died, its end of the pipe will tell.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.pipe.send((ticket, spec))

    def next_result(self) -> tuple[int, TrialResult]:
        """Wait for the next trial to end.

        Raises:
            Exception: what a worker met that is no trial's failure.
            WorkersError: none can be started.
        """
        while not self._ended:
            self._listen()
        return self._ended.popleft()

    def stop(self) -> None:
        """End all workers, whatever they are doing: nobody wants their results any more."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers = []

    def _start(self, index: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, index, *self._setup), daemon=True)
        process.start()
        theirs.close()  # or its death would not end what is read here
        return _Worker(process, ours)

    def _listen(self) -> None:
        """Take up what the workers have said, once one has said anything."""
        heard = wait([worker.pipe for worker in self._workers])
        for index, worker in enumerate(self._workers):
            if worker.pipe not in heard:
                continue
            try:
                said = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                self._replace(index)
                continue
            if isinstance(said, Exception):
                raise said
            if said is None:
                worker.ready = self._loaded = True
                self._fruitless = 0
            else:
                worker.tickets.discard(said[0])
                self._ended.append(said)

    def _replace(self, index: int) -> None:
        worker = self._workers[index]
        self._fruitless += not worker.ready
        if self._fruitless and (not self._loaded or self._fruitless > _TRIES):
            raise WorkersError
        worker.process.join(_PATIENCE)
        worker.pipe.close()
        self._ended.extend((ticket, LOST) for ticket in sorted(worker.tickets))
        self._workers[index] = self._start(index)


def _work(pipe: Connection, index: int, count: int, room: int, model: ModelSpec, task: TaskSpec) -> None:
    """A worker's life: it says None when it has loaded everything, then each result, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the engine decides
    import torch
    from tqdm import tqdm

    from trials.execution.in_process import LocalExecutor, PackedExecutor

    tqdm.set_lock(threading.RLock())  # by default a semaphore, which a process that is ended leaves behind
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    sharers = count
    if model.device == "auto" and torch.cuda.is_available():
        devices = torch.cuda.device_count()
        model = model.model_copy(update={"device": f"cuda:{index % devices}"})
        sharers = -(-count // devices)
    executor: SteppingExecutor
    executor = LocalExecutor(sharers=sharers) if room == 1 else PackedExecutor(room, sharers=sharers)
    with contextlib.suppress(EOFError, BrokenPipeError):  # then nobody is there any more
        if not _said(pipe, executor.start, model, task):
            return
        pipe.send(None)
        while True:
            while not executor.is_busy or pipe.poll():
                executor.submit(*pipe.recv())
            _said(pipe, _step, pipe, executor)


def _step(pipe: Connection, executor: SteppingExecutor) -> None:
    for result in executor.step():
        pipe.send(result)


def _said(pipe: Connection, do: Callable[..., object], *given: object) -> bool:
    """Whether it could be done; if not, why is said to who waits for results."""
    try:
        do(*given)
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        pipe.send(error)
        return False
    return True
