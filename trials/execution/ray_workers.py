"""The executor that trains trials on a Ray cluster, with one worker (a Ray actor) per slot.

A worker starts in two steps. First Ray gives it its CPUs and GPUs, which takes seconds, or never happens if they are
not there. Then it loads the base model and the data, which may take minutes. Only the first step has a limit of time.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn, Self

from search_spaces.errors import InvalidInputError, Problem, first_line
from trials.execution.compute import Compute
from trials.execution.errors import ExecutorError
from trials.execution.interface import Executor
from trials.execution.ray_actor import RayActor, Setup, local_files
from trials.execution.ray_cluster import advice, connect, import_ray, nodes_of
from trials.execution.ray_placement import Placement, minimal, place
from trials.records import LOST, TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec

if TYPE_CHECKING:
    pass

PLACEMENT_SECONDS = 30.0
"""Seconds in which Ray must give a worker its CPUs and GPUs."""
_MAX_FAILED_STARTS = 3
"""How many workers in a row may die while they start, after an earlier one has loaded."""


class RayExecutor(Executor):
    """A Ray cluster, or a local Ray; it needs the extra `ray` of this package.

    Args:
        workers: The maximum number of trials at the same time. By default one per GPU of the cluster, or, without
            GPUs, one per node; `slots` is 1 until `start` has counted them.
        address: The address of the cluster; `auto` for the one that this machine belongs to. By default the one
            that runs on this machine, or else a Ray of its own.
        compute: The threads and the chunks of each worker; by default as many threads as its CPUs.
    """

    name = "ray"

    def __init__(
        self, workers: int | None = None, address: str | None = None, *, compute: Compute | None = None
    ) -> None:
        super().__init__(workers or 1, compute=compute)
        self.workers, self.address = workers, address
        self._workers: _Workers | None = None

    @classmethod
    def create(cls, workers: int | None, address: str | None, compute: Compute) -> Self:
        return cls(workers, address, compute=compute)

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        device = model.device.partition(":")
        if device[1]:
            what = f"Ray chooses the GPU of each worker, and {model.device!r} names one"
            raise InvalidInputError(Problem("model.device", what, f"Write device: {device[0]}."))
        ray = import_ray()
        is_ours = not ray.is_initialized()
        if is_ours:
            connect(ray, self.address)
        folder, files = os.getcwd(), local_files(model, task)
        setup = Setup(model, task, self.compute, folder, files)
        self._workers = _Workers(ray, setup, is_ours)
        self._workers.start(self.workers)
        self.slots, self.notes = self._workers.slots, self._workers.notes

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._started().submit(ticket, spec)
        self.slots = self._started().slots

    def next_result(self) -> tuple[int, TrialResult]:
        try:
            return self._started().next_result()
        finally:
            self.slots = self._started().slots

    def stop(self) -> None:
        if self._workers is not None:
            self._workers.stop()
        self._workers = None

    def _started(self) -> _Workers:
        assert self._workers is not None, "start() comes first"
        return self._workers


@dataclass(frozen=True)
class _Worker:
    actor: Any
    placement: Placement
    is_placed: bool = False
    """Whether it has its resources."""


@dataclass
class _Workers:
    """The workers of a connected Ray.

    Args:
        ray: The module `ray`, which is an optional dependency.
        setup: What each worker loads.
        is_ours: Whether this process started or joined Ray and therefore disconnects at the end.
        idle: The workers without a trial.
        busy: The ticket and the worker of each running trial, by the reference of its result.
        starting: The workers that have no resources yet or load, by the reference of the step's end.
        notes: What the placement says to the user.
    """

    ray: Any
    setup: Setup
    is_ours: bool
    idle: deque[_Worker] = field(default_factory=deque)
    busy: dict[Any, tuple[int, _Worker]] = field(default_factory=dict)
    starting: dict[Any, _Worker] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _has_loaded: bool = False
    _failed_starts: int = 0
    _last_error: str = ""

    @property
    def slots(self) -> int:
        """The number of workers that have a trial or could take one; at least one, which may still be starting."""
        return max(1, len(self.idle) + len(self.busy))

    def start(self, count: int | None) -> None:
        """Place workers, and load the base model in each that has its resources.

        Args:
            count: The number of workers; None for what the cluster suggests.

        Raises:
            ExecutorError: No worker got its resources in time, or all died.
            InvalidInputError: The base model or the data cannot be used.
        """
        nodes, threads = nodes_of(self.ray), self.setup.compute.threads
        has_gpus = any(node.gpus >= 1 for node in nodes)
        uses_gpus = self.setup.model.device != "cpu"
        placements = place(nodes, count, uses_gpus=uses_gpus, threads=threads)
        if self.setup.model.device == "cuda" and not has_gpus:
            placements = []
        needs_gpu = self.setup.model.device == "cuda" or (uses_gpus and has_gpus)
        requested = placements or minimal(count, uses_gpus=needs_gpu, threads=threads)
        for placement in requested:
            self._begin(placement)
        end = time.monotonic() + PLACEMENT_SECONDS
        while (waiting := self._unplaced()) and (left := end - time.monotonic()) > 0:
            self._listen(waiting, left)
        if self.starting and len(self._unplaced()) == len(self.starting) and not self.idle:
            self._raise_unplaced()
        while loading := [ref for ref, worker in self.starting.items() if worker.is_placed]:
            self._listen(loading, None)
        if not self.idle:
            self._raise_without_workers()
        self._note(count, placements)

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        """Give a trial to a worker; wait for one that is starting if there is no other."""
        end = time.monotonic() + PLACEMENT_SECONDS
        while not self.idle:
            self._await_worker(end)
        worker = self.idle.popleft()
        self.busy[worker.actor.run.remote(spec)] = (ticket, worker)

    def next_result(self) -> tuple[int, TrialResult]:
        """Wait until a trial ends; a dead worker is replaced and its trial is lost."""
        while True:
            ended, _ = self.ray.wait([*self.busy, *self.starting], num_returns=1)
            if ended[0] in self.starting:
                self._advance(ended[0])
                continue
            ticket, worker = self.busy.pop(ended[0])
            try:
                result: TrialResult = self.ray.get(ended[0])
            except self.ray.exceptions.RayTaskError as error:
                self.idle.append(worker)
                raise error.cause from error
            except self.ray.exceptions.RayError:
                self._end(worker)
                self._begin(worker.placement)
                return ticket, LOST
            self.idle.append(worker)
            return ticket, result

    def stop(self) -> None:
        """End all workers, and disconnect from Ray if this process has connected."""
        if not self.ray.is_initialized():
            return
        for worker in [*self.idle, *(worker for _, worker in self.busy.values()), *self.starting.values()]:
            self._end(worker)
        if self.is_ours:
            self.ray.shutdown()

    def _begin(self, placement: Placement) -> None:
        """Request a worker. Ray starts it when the resources are free."""
        options: dict[str, Any] = {"num_cpus": placement.cpus, "num_gpus": placement.gpus}
        if placement.node is not None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            # Soft: a worker whose node has gone may start elsewhere.
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(placement.node, soft=True)
        actor = self.ray.remote(RayActor).options(**options).remote()
        self.starting[actor.host.remote()] = _Worker(actor, placement)

    def _end(self, worker: _Worker) -> None:
        self.ray.kill(worker.actor)

    def _unplaced(self) -> list[Any]:
        return [ref for ref, worker in self.starting.items() if not worker.is_placed]

    def _listen(self, references: Sequence[Any], seconds: float | None) -> None:
        """Wait for the end of one of the steps of starting workers, and process those that have ended."""
        for reference in self.ray.wait(references, num_returns=1, timeout=seconds)[0]:
            self._advance(reference)

    def _advance(self, reference: Any) -> None:
        """Continue with a starting worker whose step has ended: load, or take trials."""
        worker = self.starting.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            self._end(worker)
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            self._end(worker)
            self._fail(worker, error)
            return
        if worker.is_placed:
            self._has_loaded, self._failed_starts = True, 0
            self.idle.append(worker)
        else:
            loaded = worker.actor.load.remote(self.setup, worker.placement)
            self.starting[loaded] = replace(worker, is_placed=True)

    def _fail(self, worker: _Worker, error: Exception) -> None:
        """Replace a worker that has died while it started, if workers do load on this cluster."""
        lines = [line for line in str(error).splitlines() if line.strip()]
        # The last line of the traceback of an error, and otherwise the first of Ray's explanation.
        self._last_error = (
            lines[-1].strip() if "Traceback" in str(error) or len(lines) > 1 else first_line(error)
        )
        self._failed_starts += 1
        if self._has_loaded and self._failed_starts <= _MAX_FAILED_STARTS:
            self._begin(worker.placement)

    def _await_worker(self, end: float) -> None:
        """Wait until a step of a starting worker ends; one that loads may take any time.

        Args:
            end: The time of `time.monotonic` until which a worker must have its resources.
        """
        if not self.starting:
            self._raise_without_workers()
        is_loading = any(worker.is_placed for worker in self.starting.values())
        left = None if is_loading else max(0.0, end - time.monotonic())
        before = len(self.starting), self._unplaced()
        self._listen(list(self.starting), left)
        if not is_loading and before == (len(self.starting), self._unplaced()):
            self._raise_unplaced()

    def _raise_without_workers(self) -> NoReturn:
        raise ExecutorError(
            f"no Ray worker could be started: {self._last_error}. Every node needs the same versions of Python, Ray "
            "and this package, and memory for the base model."
        )

    def _raise_unplaced(self) -> NoReturn:
        """Say what was requested, what the nodes have, and what to change."""
        nodes = nodes_of(self.ray)
        requests = sorted({str(worker.placement) for worker in self.starting.values()})
        first = next(iter(self.starting.values())).placement
        listed = "; ".join(map(str, nodes)) or "none"
        raise ExecutorError(
            f"Ray started no worker within {PLACEMENT_SECONDS:g} s. {len(self.starting)} requested with "
            f"{' or '.join(requests)} each. Nodes: {listed}. {advice(nodes, first)}"
        )

    def _note(self, count: int | None, placements: Sequence[Placement]) -> None:
        """Say how many workers run, and which do not."""
        used = sorted({str(worker.placement) for worker in self.idle})
        nodes = {worker.placement.node for worker in self.idle}
        self.notes.append(
            f"Ray: {len(self.idle)} worker{'s' * (len(self.idle) > 1)} on {len(nodes)} "
            f"node{'s' * (len(nodes) > 1)} with {' or '.join(used)} each"
        )
        if waiting := len(self.starting):
            which = "more worker waits" if waiting == 1 else "more workers wait"
            self.notes.append(
                f"Ray: {waiting} {which} for resources that other jobs hold, until they are free"
            )
        if count is not None and 0 < len(placements) < count:
            self.notes.append(
                f"Ray: the cluster holds {len(placements)} of the {count} requested workers (executor.workers)"
            )
        if self._failed_starts:
            self.notes.append(
                f"Ray: {self._failed_starts} of the workers died as they started: {self._last_error}"
            )
