"""Processor time of a benchmark with all the processes that belong to it."""

from __future__ import annotations

import contextlib
import os

import psutil


def processor_seconds() -> float:
    """Of this process and those under it, with the ended processes that any of them has waited for."""
    times = os.times()
    spent = times.user + times.system + times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(child.cpu_times()[:4])
    return spent
