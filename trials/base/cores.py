"""The cores that a process may compute on, and how its threads wait; it imports nothing heavy."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux mounts control groups."""
OWN_CGROUPS = Path("/proc/self/cgroup")
"""The control groups of this process: one line `id:controllers:path` each; version 2 has the id 0."""

_WAIT_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a user decides how OpenMP's threads wait, of any OpenMP and of GNU's and Intel's."""


def usable_cores() -> int:
    """Return how many logical cores this process may use, at least one.

    They are those of its affinity, and no more than the CPU quota of its control group: a container that may use
    two cores of a server with sixty-four still sees all of them.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return max(1, math.floor(min(cores, cpu_quota())))


def share_of_cores(processes: int) -> int:
    """Return how many of the usable cores each of several processes gets, at least one."""
    return max(1, usable_cores() // processes)


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user has decided otherwise.

    By default they spin. Where other work takes a core, a thread that spins uses up the time slice in which the
    thread that it waits for could run, and a small model becomes tens of times slower (docs/results/threads.md).
    OpenMP reads the setting when PyTorch is imported, so later calls change nothing.
    """
    if "torch" not in sys.modules:
        os.environ.update(_wait_policy())


@contextmanager
def passive_children() -> Iterator[None]:
    """Let the processes that are started meanwhile wait as in `wait_passively`."""
    added = _wait_policy()
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _wait_policy() -> dict[str, str]:
    return {} if any(os.environ.get(name) for name in _WAIT_SETTINGS) else {"OMP_WAIT_POLICY": "PASSIVE"}


def cpu_quota() -> float:
    """Return the CPU quota of this process in cores, the least one of its control groups; infinity without one."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            quotas += [_quota_v2(folder) for folder in _folders(CGROUPS, path)]
        elif "cpu" in controllers.split(","):
            mounts = (CGROUPS / "cpu", CGROUPS / "cpu,cpuacct")
            quotas += [_quota_v1(folder) for mount in mounts for folder in _folders(mount, path)]
    return min(quotas)


def _folders(mount: Path, path: str) -> list[Path]:
    """Return the folder of a control group and of those that contain it.

    A container may see the path that its group has on the host. The group itself is then mounted at the top.
    """
    inner = PurePosixPath(path.strip("/"))
    return [mount / folder for folder in (inner, *inner.parents) if ".." not in folder.parts]


def _quota_v2(folder: Path) -> float:
    """Return the quota of `cpu.max`, which holds `QUOTA PERIOD` in microseconds, or `max PERIOD` for no quota."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def _quota_v1(folder: Path) -> float:
    """Return the quota of `cpu.cfs_quota_us`, which is -1 for no quota."""
    try:
        quota, period = (
            int((folder / name).read_text(encoding="utf-8"))
            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        )
    except (OSError, ValueError):
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
