"""The peak memory of a stretch of code: the device's own count, or the growth of this process."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Measures between enter and exit; `peak` is in bytes, 0 where nothing can measure it.

    On CUDA it is what the allocator held at most. On a Linux CPU it is the highest resident set of this
    process less the resident set at the start (writing 5 to clear_refs resets the kernel's high-water mark;
    see proc(5)), so work in other threads counts as well.
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


def _can_reset() -> bool:
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0
