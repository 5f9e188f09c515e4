"""Worker processes on the machine's CUDA devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.gpu import DEVICE, needs_device
from tests.support.packs import spec
from tests.support.trials import classification
from trials.execution.executors import make_executor
from trials.execution.runner import Runner
from trials.records import TrialStatus
from trials.tasks.specs import ModelSpec

pytestmark = needs_device


def test_two_processes_share_the_devices(
    tiny_model: Callable[[str], Path], reviews: Path, runners: Callable[..., Runner]
) -> None:
    """With `auto`, which is the GPU where there is one; each process takes the next."""
    device = "auto" if DEVICE == "cuda" else DEVICE
    given = spec(runners(), "lora")
    executor = make_executor("processes", 2)
    try:
        executor.start(
            ModelSpec(name=str(tiny_model("bert")), device=device, precision="fp32"), classification(reviews)
        )
        for ticket in range(2):
            executor.submit(ticket, given)
        results = [executor.next_result()[1] for _ in range(2)]
    finally:
        executor.stop()
    assert [result.status for result in results] == [TrialStatus.COMPLETE] * 2, results[0].error
    assert results[0].metrics == results[1].metrics
    assert all(result.peak_memory > 0 for result in results)
