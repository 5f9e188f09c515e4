"""A deferred executor loads nothing before its first trial."""

from __future__ import annotations

import pytest

from tests.support.fake_executor import FakeExecutor
from trials.execution.deferred import DeferredExecutor
from trials.execution.fork_server import worker_context
from trials.records import TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec


def test_it_starts_with_the_first_trial() -> None:
    inner = FakeExecutor(workers=2)
    executor = DeferredExecutor(inner)
    assert executor.slots == 2
    model = ModelSpec(name="builtin:pocket")
    executor.start(
        model,
        TaskSpec(type="sequence-classification", dataset="builtin:docstrings", text="text", label="label"),
    )
    assert inner.started == 0
    spec = TrialSpec({"family": "head", "batch_size": 8, "epochs": 1, "head.learning_rate": 0.1})
    for _ in range(2):
        assert executor.run(spec).status == TrialStatus.COMPLETE
    assert inner.started == 1
    executor.stop()
    executor.stop()


def test_workers_are_spawned_where_a_gpu_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert worker_context("cpu").get_start_method() == "forkserver"
    monkeypatch.setattr("trials.base.model.choose_device", lambda device: torch.device("cuda"))
    assert worker_context("auto").get_start_method() == "spawn"
