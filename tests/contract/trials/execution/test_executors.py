"""The contract of every executor in the registry: what goes in comes out, wherever it ran."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from search_spaces.errors import InvalidInputError
from tests.support.processes import forked_processes
from trials.execution import workers
from trials.execution.errors import ExecutorError
from trials.execution.executors import EXECUTORS, ProcessExecutor, make_executor
from trials.execution.in_process import LocalExecutor, PackedExecutor
from trials.execution.interface import Executor
from trials.execution.runner import Runner
from trials.records import Fidelity, PartialRun, TrialResult, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec

CONFIG = {
    "family": "head",
    "head.learning_rate": 1e-2,
    "batch_size": 16,
    "epochs": 1,
    "weight_decay": 0.01,
    "warmup": 0.0,
    "schedule": "constant",
}
SPEC = TrialSpec(CONFIG, seed=1, fidelity=Fidelity(train_samples=32, eval_samples=20, evaluations=1))


@pytest.fixture(scope="module")
def forked() -> Iterator[None]:
    with forked_processes():
        yield


@pytest.fixture(scope="module", params=sorted(EXECUTORS))  # Ray and worker processes take seconds to start
def executor(
    request: pytest.FixtureRequest, setup: tuple[ModelSpec, TaskSpec], forked: None
) -> Iterator[Executor]:
    if request.param == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    made = make_executor(request.param)
    made.start(*setup)
    yield made
    made.stop()


def test_results_come_back_with_their_tickets_and_the_same_numbers_everywhere(executor, setup):
    executor.submit(7, SPEC)
    ticket, result = executor.next_result()
    assert ticket == 7
    assert result.status == TrialStatus.COMPLETE, result.error
    here = LocalExecutor()
    here.start(*setup)
    here.submit(1, SPEC)
    expected = here.next_result()[1]
    assert result.metrics == pytest.approx(expected.metrics, rel=1e-5)


def test_a_trial_on_a_further_base_is_one_of_that_base(executor, setup, deep_model):
    spec = replace(SPEC, partial_run=PartialRun("base", 0.5, str(deep_model)))
    executor.submit(8, spec)
    ticket, result = executor.next_result()
    assert (ticket, result.status) == (8, TrialStatus.PAUSED)
    model, task = setup
    there = Runner(model.model_copy(update={"name": str(deep_model)}), task).run(SPEC)
    assert result.metrics == pytest.approx(there.metrics, rel=1e-5)
    executor.submit(9, SPEC)
    assert executor.next_result()[1].metrics != pytest.approx(result.metrics, rel=1e-5)


def test_a_failure_is_a_result(executor):
    executor.submit(3, TrialSpec({**CONFIG, "head.learning_rate": 1e38}, fidelity=SPEC.fidelity))
    ticket, result = executor.next_result()
    assert (ticket, result.status) == (3, TrialStatus.FAILED)


def test_stopping_twice_is_fine(executor, setup):
    other = type(executor)(workers=1)
    other.stop()
    other.stop()


def test_a_further_base_that_cannot_be_loaded_is_no_trials_failure(executor, tmp_path):
    executor.submit(10, replace(SPEC, partial_run=PartialRun("base", 0.5, str(tmp_path))))
    with pytest.raises(InvalidInputError, match=r"model: .* has no tokenizer|no vocabulary") as caught:
        executor.next_result()
    assert caught.value.problems[0].where == "model"


@pytest.mark.parametrize("weights", [pytest.param("fp32", marks=pytest.mark.slow), "bf16", "nf4"])
def test_a_further_base_is_kept_as_the_sweeps_own(setup, deep_model, weights):
    if weights == "nf4":
        pytest.importorskip("bitsandbytes")
    model, task = setup
    runner = Runner(ModelSpec(name=model.name, weights=weights), task)
    result = runner.run(replace(SPEC, partial_run=PartialRun("base", 0.5, str(deep_model))))
    assert result.error is None
    here, there = (
        {(type(module), module.weight.dtype) for module in base.model.modules() if hasattr(module, "weight")}
        for base in (runner.base, runner.base_and_data(str(deep_model))[0])
    )
    assert here == there
    assert {dtype for _, dtype in here} >= {
        {"fp32": torch.float32, "bf16": torch.bfloat16, "nf4": torch.uint8}[weights]
    }


def test_too_little_memory_for_a_further_base_is_no_trials_failure(setup, deep_model, monkeypatch):
    runner = Runner(*setup)

    def short_of_memory(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("trials.execution.runner.load_base", short_of_memory)
    with pytest.raises(
        ExecutorError, match=f"not enough memory for the base model '{deep_model}'; use fewer workers"
    ):
        runner.run(replace(SPEC, partial_run=PartialRun("base", 0.5, str(deep_model))))
    assert runner.run(SPEC).status == TrialStatus.COMPLETE


@pytest.mark.parametrize(
    ("given", "slots"),
    [
        ({"device": "cpu"}, 2),
        ({"device": "cuda:1"}, 8),
        ({"device": "cpu", "processes": 3}, 6),
        ({"device": "cpu", "workers": 5}, 5),
        ({"device": "cpu", "workers": 5, "processes": 2}, 5),
    ],
)
def test_packs_are_large_where_the_device_has_room_for_more_work(given: dict[str, Any], slots: int):
    executor = make_executor("packed", **given)
    assert executor.slots == slots
    assert executor.name == ("processes" if "processes" in given else "packed")


@pytest.mark.parametrize("name", ["local", "packed"])
def test_threads_and_chunks_reach_the_training_in_this_process_and_end_with_it(setup, name):
    before = torch.get_num_threads()
    executor = make_executor(name, threads=before + 1, chunk_tokens=64)
    executor.start(*setup)
    try:
        assert torch.get_num_threads() == before + 1
        assert executor.runner.pack().chunk_tokens == 64
        result = executor.run(SPEC)
    finally:
        executor.stop()
    assert torch.get_num_threads() == before
    executor.stop()
    assert torch.get_num_threads() == before
    assert result.metrics == pytest.approx(Runner(*setup).run(SPEC).metrics, rel=1e-5)


def work_and_note(*arguments: Any) -> None:
    """Run a worker whose results hold its threads and chunks as their error."""

    def step(executor: PackedExecutor) -> list[tuple[int, TrialResult]]:
        seen = f"{torch.get_num_threads()} {executor.runner.pack().chunk_tokens}"
        return [(ticket, replace(result, error=seen)) for ticket, result in real_step(executor)]

    real_step = PackedExecutor.step
    PackedExecutor.step = step  # type: ignore[method-assign]  # in the worker process only
    real_work(*arguments)


real_work = workers._work


def test_threads_and_chunks_reach_the_training_in_worker_processes(setup, forked, monkeypatch):
    monkeypatch.setattr(workers, "_work", work_and_note)
    executor = make_executor("packed", workers=4, processes=2, threads=3, chunk_tokens=128)
    executor.start(*setup)
    try:
        for ticket in (1, 2):
            executor.submit(ticket, SPEC)
        assert [executor.next_result()[1].error for _ in range(2)] == ["3 128", "3 128"]
    finally:
        executor.stop()


def test_the_workers_wait_passively_and_leave_a_core_to_each_other(setup, monkeypatch):
    """What a worker computes with is decided when it starts: its environment, and its part of the cores."""
    started = []

    def start(process: Any) -> None:
        started.append(os.environ.get("OMP_WAIT_POLICY"))
        raise OSError("no process")

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", start)
    threads, executor = torch.get_num_threads(), ProcessExecutor(workers=2)
    with pytest.raises(OSError, match="no process"):
        executor.start(*setup)
    assert started == ["PASSIVE"]
    assert torch.get_num_threads() == 1
    executor.stop()
    assert torch.get_num_threads() == threads
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.slow
def test_packs_in_processes_give_every_trial_its_own_result(setup):
    """Trials of unlike length, one of which comes when others are under way."""
    executor = make_executor("packed", workers=4, processes=2)
    specs = {t: replace(SPEC, config={**CONFIG, "epochs": 1 + t % 3}, seed=t) for t in range(7)}
    results, under_way = {}, 0
    executor.start(*setup)
    try:
        assert len(set(executor.worker_pids())) == 2
        for ticket, given in specs.items():
            if under_way == executor.slots:
                done, results[done] = executor.next_result()
                under_way -= 1
            executor.submit(ticket, given)
            under_way += 1
        while len(results) < len(specs):
            done, results[done] = executor.next_result()
    finally:
        executor.stop()
    here = Runner(*setup)
    for ticket, given in specs.items():
        assert results[ticket].metrics == pytest.approx(here.run(given).metrics, rel=1e-5)


def test_a_killed_worker_loses_its_own_trials_alone(forked, setup):
    executor = make_executor("packed", workers=4, processes=2)
    executor.start(*setup)
    long = replace(SPEC, config={**CONFIG, "epochs": 100_000})
    try:
        for ticket in (1, 3, 5):  # to the first worker, the second, and the first again
            executor.submit(ticket, SPEC if ticket == 3 else long)
        os.kill(executor.worker_pids()[0], signal.SIGKILL)
        results = dict(executor.next_result() for _ in range(3))
        assert {ticket: str(result.status) for ticket, result in results.items()} == {
            1: "lost",
            3: "complete",
            5: "lost",
        }
        for ticket in (6, 7, 8, 9):
            executor.submit(ticket, SPEC)
        assert {executor.next_result()[1].status for _ in range(4)} == {TrialStatus.COMPLETE}
    finally:
        executor.stop()


SCRIPT = """
import sys
from trials.execution import workers
from trials.execution.executors import ProcessExecutor
from trials.tasks.specs import ModelSpec, TaskSpec

if __name__ == "__main__":
    executor = ProcessExecutor(workers=1)
    executor.start(*(kind.model_validate_json(text) for kind, text in zip((ModelSpec, TaskSpec), sys.argv[1:])))
    executor.stop()
"""


@pytest.mark.slow
def test_a_script_with_workers_ends_without_a_word(setup, tmp_path):
    """Nothing is left for Python's resource tracker, which would speak of it when the script is over."""
    (tmp_path / "script.py").write_text(SCRIPT)
    given = [spec.model_dump_json(exclude_none=True) for spec in setup]
    root = {**os.environ, "PYTHONPATH": os.getcwd()}
    ran = subprocess.run(
        [sys.executable, tmp_path / "script.py", *given], env=root, capture_output=True, text=True, check=True
    )
    assert "resource_tracker" not in ran.stderr


def test_workers_that_cannot_load_the_base_say_why(forked, setup, tmp_path):
    model, task = setup
    executor = ProcessExecutor(workers=1)
    with pytest.raises(InvalidInputError, match="nothing"):
        executor.start(model.model_copy(update={"name": str(tmp_path / "nothing")}), task)
    executor.stop()


def test_workers_that_die_at_once_end_the_sweep(forked, setup, monkeypatch):
    monkeypatch.setattr(workers, "_work", os._exit)  # takes no such arguments: it dies
    executor = ProcessExecutor(workers=2)
    with pytest.raises(ExecutorError, match="no worker process could be started"):
        executor.start(*setup)
    assert executor.worker_pids() == []


@pytest.mark.slow
def test_workers_that_can_no_longer_be_replaced_end_the_sweep(setup, monkeypatch):
    executor = ProcessExecutor(workers=1)
    executor.start(*setup)
    monkeypatch.setattr(workers, "_work", os._exit)  # takes no such arguments: it dies
    monkeypatch.setattr(workers, "_MAX_FAILED_STARTS", 0)
    try:
        executor.submit(1, replace(SPEC, config={**CONFIG, "epochs": 100_000}))
        os.kill(executor.worker_pids()[0], signal.SIGKILL)
        assert executor.next_result()[1].status == TrialStatus.LOST
        with pytest.raises(ExecutorError, match="no worker process could be started"):
            executor.next_result()
    finally:
        executor.stop()


def test_a_missing_ray_says_what_to_install(monkeypatch, setup):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InvalidInputError, match=r"pip install .autotune-peft\[ray\]"):
        EXECUTORS["ray"](workers=1).start(*setup)


def test_local_runs_one_at_a_time():
    with pytest.raises(ValueError, match="use processes"):
        LocalExecutor(workers=2)
