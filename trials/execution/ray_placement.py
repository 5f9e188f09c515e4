"""The placement of workers on the nodes of a Ray cluster.

Ray starts a worker only on a node that has all the CPUs and GPUs that the worker reserves, and otherwise waits for
such a node without a limit. Requests are therefore computed from each node, never from the sum over the cluster.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_CPUS_PER_GPU = 4
"""The maximum number of CPUs that a worker with a GPU reserves: its arithmetic is on the GPU, and other jobs of the
cluster need CPUs, too."""
_FRACTIONS = 10_000
"""Ray rounds a share of a resource to this part of one."""


@dataclass(frozen=True)
class Node:
    """A node of a cluster that is alive.

    Args:
        id: Ray's id of the node.
        name: The node's host name, with its address where several nodes are on one host.
        cpus, gpus: What the node has.
        free_cpus, free_gpus: What no job has reserved.
    """

    id: str
    name: str
    cpus: float
    gpus: float
    free_cpus: float
    free_gpus: float

    def __str__(self) -> str:
        parts = [f"{self.free_cpus:g} of {self.cpus:g} CPUs free"]
        if self.gpus:
            parts.append(f"{self.free_gpus:g} of {self.gpus:g} GPUs free")
        return f"{self.name}: {', '.join(parts)}"


@dataclass(frozen=True)
class Placement:
    """What one worker reserves, and where.

    Args:
        node: The node's id; None for any node that has it.
        cpus, gpus: What the worker reserves.
        threads: The number of threads that it computes with on a CPU.
        sharers: The number of workers that share the memory of its GPU, or of its node if it has no GPU.
    """

    node: str | None
    cpus: float
    gpus: float
    threads: int
    sharers: int = 1

    def __str__(self) -> str:
        amounts = [(self.cpus, "CPU")] + [(self.gpus, "GPU")] * (self.gpus > 0)
        return " and ".join(f"{amount:g} {unit}{'s' * (amount > 1)}" for amount, unit in amounts)


def place(
    nodes: Sequence[Node], workers: int | None = None, *, uses_gpus: bool = True, threads: int | None = None
) -> list[Placement]:
    """Divide workers among nodes in proportion to what these have.

    With GPUs in the cluster, workers are on nodes with GPUs only: one per GPU, several per GPU only if more workers
    than GPUs are requested. Free GPUs come first. Without GPUs, workers divide the free CPUs of each node; the CPUs
    that other jobs hold count only if no CPU is free.

    Args:
        nodes: The nodes that are alive.
        workers: The number of workers. By default one per GPU; without GPUs one per node, or as many as nodes hold
            if `threads` is given.
        uses_gpus: Whether the base model is on GPUs where there are any.
        threads: The number of threads, and of CPUs, of a worker; by default an equal share of its node's CPUs.

    Returns:
        One placement per worker, ordered by node. They are fewer than `workers` if the nodes hold no more, and none
        if no node holds one.

    Example:
        >>> three = [Node(str(number), f"node{number}", 2, 0, 2, 0) for number in range(3)]
        >>> [(placement.node, placement.cpus) for placement in place(three)]
        [('0', 2.0), ('1', 2.0), ('2', 2.0)]
    """
    if uses_gpus and any(node.gpus >= 1 for node in nodes):
        return _on_gpus([node for node in nodes if node.gpus >= 1], workers, threads)
    return _on_cpus(nodes, workers, threads)


def minimal(workers: int | None, *, uses_gpus: bool, threads: int | None) -> list[Placement]:
    """Return requests for a cluster that has no fitting node yet, and that may add one when it sees them.

    Args:
        workers, threads: As in `place`; by default one worker.
        uses_gpus: Whether each worker needs a GPU.
    """
    return [Placement(None, float(threads or 1), float(uses_gpus), threads or 1)] * (workers or 1)


def _on_gpus(nodes: Sequence[Node], workers: int | None, threads: int | None) -> list[Placement]:
    gpus = {node.id: math.floor(node.gpus) for node in nodes}
    free = {node.id: math.floor(node.free_gpus) for node in nodes}
    count = sum(gpus.values()) if workers is None else workers
    unlimited = dict.fromkeys(gpus, count)
    assigned = _assign(count, gpus, (free, gpus, unlimited))
    placements = []
    for node in nodes:
        here = assigned[node.id]
        if not here:
            continue
        per_gpu = math.ceil(here / gpus[node.id])
        share = (node.free_cpus if node.free_cpus >= 1 else node.cpus) / here
        cpus = _rounded(min(share, threads or _CPUS_PER_GPU))
        computing = threads or max(1, math.floor(cpus))
        gpu = math.floor(_FRACTIONS / per_gpu) / _FRACTIONS
        placements += [Placement(node.id, cpus, gpu, computing, per_gpu)] * here
    return placements


def _on_cpus(nodes: Sequence[Node], workers: int | None, threads: int | None) -> list[Placement]:
    needed = threads or 1
    cpus = {node.id: math.floor(node.free_cpus) for node in nodes}
    if all(free < needed for free in cpus.values()):
        cpus = {node.id: math.floor(node.cpus) for node in nodes}
    limits = {name: available // needed for name, available in cpus.items()}
    if workers is None:
        workers = sum(limits.values()) if threads else sum(limit > 0 for limit in limits.values())
        limits = limits if threads else {name: min(limit, 1) for name, limit in limits.items()}
    assigned = _assign(workers, cpus, (limits,))
    placements = []
    for node in nodes:
        here = assigned[node.id]
        share = threads or cpus[node.id] // max(1, here)
        placements += [Placement(node.id, float(share), 0.0, share, here)] * here
    return placements


def _assign(count: int, amounts: Mapping[str, int], limits: Sequence[Mapping[str, int]]) -> Counter[str]:
    """Return the number of workers per node.

    Each worker goes to the node that then has the most per worker, of those below their limit; the next limits count
    where all nodes have reached the earlier ones.
    """
    assigned: Counter[str] = Counter()
    for limit in limits:
        while assigned.total() < count:
            below = [name for name in amounts if assigned[name] < limit[name]]
            if not below:
                break
            assigned[max(below, key=lambda name: amounts[name] / (assigned[name] + 1))] += 1
    return assigned


def _rounded(cpus: float) -> float:
    """Round down to whole CPUs; Ray accepts parts of one only below one."""
    return float(math.floor(cpus)) if cpus >= 1 else math.floor(cpus * 100) / 100
