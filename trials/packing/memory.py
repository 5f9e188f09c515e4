"""Measurement of memory: the peak of a block of code, free memory, and what autograd keeps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


class PeakMemory:
    """A context manager that measures peak memory; `peak` is in bytes, 0 where it cannot be measured.

    On CUDA it is the maximum that the allocator held. On a Linux CPU it is the highest resident set of this process
    minus the resident set at the start (writing 5 to clear_refs resets the kernel's high-water mark; see proc(5)), so
    work in other threads counts as well.

    Args:
        device: The device whose memory is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak = 0
        self._start = 0

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif _can_reset():
            self._start = _resident("VmRSS")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
        elif self._start:
            self.peak = max(0, _resident("VmHWM") - self._start)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated, or None where they are unknown.

    On CUDA it is the driver's free memory plus what the caching allocator holds unused. On Linux it is what the
    kernel can provide without swapping (MemAvailable; see proc(5)), within the limit of this process's control
    group.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    available = _field(_MEMINFO, "MemAvailable")
    try:
        limit, current = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # there is no such group, or its limit is "max"
        return available
    inactive = _field(_CGROUP / "memory.stat", "inactive_file") or 0
    inside = max(0, limit - current + inactive)
    return inside if available is None else min(available, inside)


def _field(path: Path, name: str) -> int | None:
    """Return the bytes of a line `name: 123 kB` or `name 123`, or None without such a line."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.replace(":", " ").split()
        if words and words[0] == name:
            return int(words[1]) * (1024 if words[-1] == "kB" else 1)
    return None


def _can_reset() -> bool:
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> int:
    return _field(_STATUS, field) or 0


class SavedTensors:
    """A context manager that counts what forward passes keep for their backward pass, each storage once.

    Args:
        excluded: Tensors that exist anyway, such as parameters; their views are excluded as well.
    """

    def __init__(self, excluded: Iterable[torch.Tensor]) -> None:
        self._excluded = {tensor.untyped_storage().data_ptr() for tensor in excluded}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self.kept: dict[int, torch.Tensor] = {}
        """One tensor of each storage, by its address; the reference prevents reuse of the address."""

    def __enter__(self) -> SavedTensors:
        self._hooks.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._hooks.__exit__(*raised)

    @property
    def bytes(self) -> int:
        """The bytes kept so far."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.kept.values())

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in self._excluded:
            self.kept.setdefault(address, tensor)
        return tensor
