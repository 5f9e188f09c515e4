"""The connection to a Ray cluster, and what its nodes have."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from search_spaces.errors import InvalidInputError, Problem, first_line, install_hint
from trials.execution.ray_placement import Node, Placement

_CONNECT_SECONDS = 10.0
"""Seconds in which a cluster must accept a connection. Ray itself tries for minutes, and then ends the process."""


def advice(nodes: Sequence[Node], placement: Placement) -> str:
    """Return what makes a worker start."""
    if any(node.cpus >= placement.cpus and node.gpus >= placement.gpus for node in nodes):
        return "Other jobs hold the resources (`ray status` shows them): wait for them or stop them."
    if placement.gpus and all(node.gpus < placement.gpus for node in nodes):
        return "Write model.device: cpu, or add nodes with GPUs."
    if placement.cpus > 1 and any(node.cpus >= 1 for node in nodes):
        most = int(max(node.cpus for node in nodes))
        return f"Write executor.threads: {most} or less, or add larger nodes."
    return "Add nodes; those of a cluster that grows on demand must be there before the sweep starts."


def nodes_of(ray: Any) -> list[Node]:
    """Return the nodes that are alive, ordered by name and id."""
    try:  # what is free per node has no public function
        from ray._private.state import available_resources_per_node

        available = available_resources_per_node()
    except Exception:  # another version of Ray, or its client: all count as free
        available = {}
    alive = [node for node in ray.nodes() if node["Alive"]]
    hosts = [node["NodeManagerHostname"] for node in alive]
    nodes = []
    for node in alive:
        total = node["Resources"]
        free = available.get(node["NodeID"], total)
        host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
        nodes.append(
            Node(
                node["NodeID"],
                host if hosts.count(host) == 1 else f"{host} ({address}, {node['NodeID'][:6]})",
                *(each.get(resource, 0.0) for each in (total, free) for resource in ("CPU", "GPU")),
            )
        )
    return sorted(nodes, key=lambda node: (node.name, node.id))


def import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InvalidInputError(
            Problem("executor", "Ray is not installed", f"Run: {install_hint('ray')}")
        ) from error
    return ray


def connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster, or start a local Ray.

    Raises:
        InvalidInputError: No cluster is at the address.
    """
    variable = os.environ.get("RAY_ADDRESS")
    at = address or variable
    try:
        _check_reachable(at)
        ray.init(address=at, log_to_driver=False, include_dashboard=False)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        where, fix = (
            f"no Ray cluster at {at!r}",
            "Start one with `ray start --head`, or remove executor.address.",
        )
        if at is None:
            where, fix = "no local Ray could be started", "Write executor: processes to do without Ray."
        elif address is None:
            where += " (the variable RAY_ADDRESS)"
            fix = "Start one with `ray start --head`, or unset RAY_ADDRESS."
        raise InvalidInputError(Problem("executor.address", f"{where}: {first_line(error)}", fix)) from error


def _check_reachable(address: str | None) -> None:
    """Raise an OSError if nothing listens at `host:port`; other addresses are Ray's to check."""
    host, separator, port = (address or "").removeprefix("ray://").rpartition(":")
    if separator and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
