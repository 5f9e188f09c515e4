"""Processes that train one trial together: the numbers of one process, and what happens when one of them fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from autotune.sweep.executor_spec import ExecutorSpec
from search_spaces.language.loader import load_space
from tests.support.packs import COMMON
from tests.support.processes import forked_processes
from trials.execution import together
from trials.execution.executors import make_executor
from trials.execution.runner import Runner
from trials.execution.together import AccelerateExecutor
from trials.records import Fidelity, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec

FIDELITY = Fidelity(train_samples=47, eval_samples=20, evaluations=2)
"""The last batch has 15 examples, one of which has no partner in the other process."""


def specs_of(runner: Runner, *families: str) -> list[TrialSpec]:
    found = []
    for family in families:
        space = load_space({"families": [family]}, shape=runner.base.shape, task=runner.base.task.shape_task)
        config = {**space.space.default(family=family), **COMMON}
        found.append(TrialSpec(config, seed=1, fidelity=FIDELITY))
    return found


@pytest.fixture(scope="module")
def executor(setup: tuple[ModelSpec, TaskSpec]) -> Iterator[AccelerateExecutor]:
    with forked_processes():
        made = make_executor("accelerate", processes=2)
        assert isinstance(made, AccelerateExecutor)
        made.start(*setup)
        yield made
        made.stop()


def test_two_processes_train_what_one_trains(executor: AccelerateExecutor, setup: Any) -> None:
    """Losses to 1e-5 after six steps, also of an adapter whose ranks and penalty change with the steps."""
    assert len(set(executor.worker_pids())) == 2
    alone = Runner(*setup)
    for spec in specs_of(alone, "lora", "adalora"):
        expected = alone.run(replace(spec, is_isolated=True))
        result = executor.run(spec)
        assert result.status == expected.status == TrialStatus.COMPLETE, result.error
        assert [p.step for p in result.curve] == [p.step for p in expected.curve]
        for mine, theirs in zip(result.curve, expected.curve, strict=True):
            assert mine.metrics["eval_loss"] == pytest.approx(theirs.metrics["eval_loss"], abs=1e-5)


def test_a_killed_process_loses_the_trial_alone(executor: AccelerateExecutor, setup: Any) -> None:
    (spec,) = specs_of(Runner(*setup), "lora")
    os.kill(executor.worker_pids()[1], signal.SIGKILL)
    assert executor.run(spec).status == TrialStatus.LOST
    assert executor.run(spec).status == TrialStatus.COMPLETE


def fail_in_one(*arguments: Any) -> None:
    """Run a process in which, if it is the second one, every trial fails before its first step."""
    if arguments[1] == 1:

        def broken(self: Runner, spec: TrialSpec) -> Any:
            raise RuntimeError("only here")

        Runner._train = broken  # type: ignore[method-assign]  # in this process only
    real_work(*arguments)


real_work = together._work


def test_a_failure_of_one_process_is_that_of_the_trial(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one waits for gradients that never come, until all are started again."""
    monkeypatch.setattr(together, "_work", fail_in_one)
    monkeypatch.setattr(together, "_PATIENCE", 1.0)
    (spec,) = specs_of(Runner(*setup), "lora")
    with forked_processes():
        executor = AccelerateExecutor(processes=2)
        executor.start(*setup)
        try:
            before = executor.worker_pids()
            result = executor.run(spec)
            assert (result.status, result.error) == (TrialStatus.FAILED, "RuntimeError: only here")
            assert not set(before) & set(executor.worker_pids())
        finally:
            executor.stop()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workers": 2}, "accelerate trains one trial at a time, not 2"),
        ({"strategy": "fsdp"}, r"executor\.strategy: fsdp divides .* the trials of a sweep share them.*ddp"),
    ],
)
def test_what_the_executor_cannot_do(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExecutorSpec.model_validate({"name": "accelerate", **fields})
    assert ExecutorSpec.model_validate({"name": "accelerate", "processes": 4}).workers == 1
