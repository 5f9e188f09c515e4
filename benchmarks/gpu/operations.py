"""What one step of a pack starts: operations of PyTorch, kernels, waits for the GPU, and how busy it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.comparison import Bench, Case, release
from benchmarks.gpu.models import Sizes
from benchmarks.gpu.report import Report
from benchmarks.trainer_and_packs import synchronize
from trials.packing.pack import Pack

_WARM = 2
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
_SHOWN = 12


def count_operations(case: Case, device: str, folder: Path, sizes: Sizes, report: Report) -> None:
    """Profile one step for each size of packs, after steps of warm-up and one step without the profiler."""
    bench, what = Bench.prepare(case, device, folder, sizes)
    report.add(model=what)
    for k in case.packs:
        if report.has_time(0.0, f"K = {k}"):
            with report.noting(f"K = {k}"):
                report.row("operations", {"k": k, **_of_a_step(bench, k)})
        release(bench.setting.device)


def _of_a_step(bench: Bench, k: int) -> dict[str, Any]:
    base = bench.runner.base
    pack = Pack(base, bench.runner.data)
    for ticket, spec in enumerate(bench.specs(k)):
        ended = pack.enter(ticket, spec)
        if ended is not None:
            raise RuntimeError(f"a trial ended early: {ended.error or ended.status}")
    for _ in range(_WARM):
        pack.advance()
    synchronize(base.device)
    started = time.perf_counter()
    pack.advance()
    synchronize(base.device)
    seconds = time.perf_counter() - started
    activities = [ProfilerActivity.CPU]
    if base.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        pack.advance()
        synchronize(base.device)
    return {"seconds": seconds, **summary(profiled.events())}


def summary(events: Any) -> dict[str, Any]:
    """Return what the events of a profile add up to.

    Returns:
        `operations`, those of ATen, nested ones included; `kernels` and `kernel_seconds` on the GPU, and `longest`,
        their names with the greatest share of that time; `waits`, calls that wait for the GPU; `most`, the names of
        the most frequent operations.
    """
    names: dict[str, int] = {}
    spent: dict[str, float] = {}
    kernels = waits = 0
    for event in events:
        if event.device_type == DeviceType.CPU:
            names[event.name] = names.get(event.name, 0) + event.name.startswith("aten::")
            waits += event.name in _WAITS
        else:
            kernels += 1
            spent[event.name] = spent.get(event.name, 0.0) + event.time_range.elapsed_us() / 1e6
    most = sorted((name for name in names if names[name]), key=lambda name: -names[name])[:_SHOWN]
    longest = sorted(spent, key=lambda name: -spent[name])[:_SHOWN]
    return {
        "operations": sum(names.values()),
        "kernels": kernels,
        "kernel_seconds": sum(spent.values()),
        "waits": waits,
        "most": {name: names[name] for name in most},
        "longest": {name[:100]: round(spent[name], 6) for name in longest},
    }
