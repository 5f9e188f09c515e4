"""The fake executor honors the contract of an executor: seeds, segments, parts, failures and losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.engine.sweep_run import run_sweep
from autotune.results.sweep_tables import read_tables
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import small_sweep
from trials.records import Fidelity, PartialRun, Segment, TrialResult, TrialSpec, TrialStatus

CONFIG = {"family": "lora", "lora.rank": 4, "lora.learning_rate": 1e-3, "epochs": 2, "batch_size": 16}
FIDELITY = Fidelity(train_samples=160, evaluations=4)


@pytest.fixture
def run(tiny_model, reviews):
    sweep = small_sweep(tiny_model("bert"), reviews)

    def run(spec: TrialSpec, executor: FakeExecutor | None = None) -> TrialResult:
        executor = executor or FakeExecutor()
        executor.start(sweep.model, sweep.task)
        executor.submit(7, spec)
        ticket, result = executor.next_result()
        executor.stop()
        assert ticket == 7
        return result

    return run


def test_results_depend_on_configuration_and_seed_alone(run):
    first, second = (run(TrialSpec(CONFIG, seed, FIDELITY)) for seed in (1, 2))
    assert first == run(TrialSpec(CONFIG, 1, FIDELITY))
    assert first.metrics != second.metrics
    assert first.status == TrialStatus.COMPLETE
    assert [point.step for point in first.curve] == [5, 10, 15, 20]
    assert first.curve[0].metrics["eval_loss"] > first.curve[-1].metrics["eval_loss"]


def test_segments_do_together_what_one_run_does(run, tmp_path: Path):
    executor, end = FakeExecutor(), str(tmp_path / "states" / "0.safetensors")
    half = run(TrialSpec(CONFIG, 1, FIDELITY, segment=Segment(0.5, end=end)), executor)
    assert (half.status, half.steps_share) == (TrialStatus.PAUSED, 0.5)
    assert executor.steps_trained == 10
    whole = run(TrialSpec(CONFIG, 1, FIDELITY, segment=Segment(1.0, start=end)), executor)
    assert whole == run(TrialSpec(CONFIG, 1, FIDELITY))
    assert executor.steps_trained == 20
    run(TrialSpec(CONFIG, 2, FIDELITY, segment=Segment(1.0, start=end)), executor)
    assert executor.steps_trained == 40, "the file is another trial's"


def test_a_part_of_the_data_ends_paused(run):
    result = run(TrialSpec(CONFIG, 1, FIDELITY, partial_run=PartialRun("data", 0.25)))
    assert (result.status, result.steps_share, result.curve[-1].step) == (TrialStatus.PAUSED, 1.0, 6)


def test_a_sweep_runs_on_it(tiny_model, reviews, tmp_path: Path):
    executor = FakeExecutor(
        workers=2, fails=lambda spec: spec.config["family"] == "norm", loses=lambda count: count == 0
    )
    results = run_sweep(small_sweep(tiny_model("bert"), reviews), tmp_path / "out", executor=executor)
    counts = read_tables(tmp_path / "out").trials["status"].value_counts()
    assert counts["lost"] == 1
    assert counts["failed"] >= 1
    assert counts["failed"] + counts["complete"] == 6
    assert executor.started == executor.stopped == 1
    assert len(executor.specs) == len(results.trials) + len(results.confirmations)


def test_the_base_model_is_scored_without_a_configuration(run):
    assert (
        run(TrialSpec({}, fidelity=FIDELITY)).metrics["accuracy"]
        < run(TrialSpec(CONFIG, 1)).metrics["accuracy"]
    )
