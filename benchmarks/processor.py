"""Processor time of a benchmark with all the processes that belong to it."""

from __future__ import annotations

import contextlib
import os

import psutil


def processor_seconds() -> float:
    """Of this process, those that it has waited for, and those under it that still run."""
    times = os.times()
    spent = times.user + times.system + times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(child.cpu_times()[:2])
    return spent
