"""Sweeps on a ladder, on a tiny model: promotion, checkpoints, and what an interrupt or a crash leaves."""

from __future__ import annotations

import pytest

from autotune.engine.sweep_run import SweepInterruptedError, run_sweep
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.sweep.schema import Sweep
from tests.support.ladders import ladder_sweep, states, waiting_states, what_was_found
from tests.support.sweeps import run_and_kill

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.fixture
def sweep(tiny_model, reviews) -> Sweep:
    return ladder_sweep(tiny_model, reviews)


@pytest.fixture(scope="module")
def whole(tiny_model, reviews, tmp_path_factory) -> SweepTables:
    """The sweep, uninterrupted."""
    return run_sweep(ladder_sweep(tiny_model, reviews), tmp_path_factory.mktemp("whole") / "out")


def test_complete_trials_equal_those_without_a_ladder(whole, tiny_model, reviews, tmp_path):
    on_ladder = whole.trials
    alone = run_sweep(
        ladder_sweep(tiny_model, reviews, ladder=False, budget={"trials": 3}), tmp_path / "out"
    ).trials
    # Among the first three are families' defaults, with the same seeds.
    pairs = [
        (here, there)
        for here, there in zip(on_ladder.iloc[:3].iloc, alone.iloc, strict=False)
        if here["status"] == "complete" and (here["config"], here["seed"]) == (there["config"], there["seed"])
    ]
    assert pairs
    for here, there in pairs:
        assert here["metric.eval_loss"] == pytest.approx(there["metric.eval_loss"], abs=1e-6)


def test_an_interrupted_promotion_loses_only_its_segment(sweep, whole, tmp_path, monkeypatch):
    from trials.training.run import Run

    original = Run.update

    def interrupted(run: Run, *args: float) -> None:
        if run._step == 6:  # between the second rung and the top
            monkeypatch.undo()
            raise KeyboardInterrupt
        original(run, *args)

    monkeypatch.setattr(Run, "update", interrupted)
    with pytest.raises(SweepInterruptedError):
        run_sweep(sweep, tmp_path / "out")
    trials = read_tables(tmp_path / "out").trials
    assert "lost" not in set(trials["status"])
    assert what_was_found(run_sweep(sweep, tmp_path / "out")) == what_was_found(whole)


@pytest.mark.slow
def test_a_killed_process_loses_nothing(sweep, tmp_path):
    folder = tmp_path / "out"
    before = run_and_kill(sweep, folder, lambda trials: trials["status"] == "complete")
    results = run_sweep(sweep, folder)
    assert before <= set(results.trials.loc[results.trials["status"] == "complete", "trial"])
    assert results.ladder is not None
    assert results.ladder.settled
    assert states(folder) == waiting_states(folder)


def test_a_promoted_trial_that_fails(tiny_model, reviews, tmp_path, monkeypatch):
    from trials.training.run import Run

    original = Run.update

    def diverging(run: Run, loss: float, seconds: float = 0.0) -> None:
        lora = run.spec.config["family"] == "lora"
        original(run, float("nan") if lora and run._step == 2 else loss, seconds)

    monkeypatch.setattr(Run, "update", diverging)
    every_trial = ladder_sweep(tiny_model, reviews, ladder={"random_share": 1}, budget={"trials": 4})
    results = run_sweep(every_trial, tmp_path / "out")
    failed = results.trials[results.trials["status"] == "failed"]
    assert not failed.empty
    assert set(failed["param.family"]) == {"lora"}
    assert failed["error"].str.contains("loss became nan at step 3 of 9").all()
    assert failed["share"].round(3).unique().tolist() == [0.447]
    assert states(tmp_path / "out") == waiting_states(tmp_path / "out")


@pytest.mark.parametrize(
    "executor", ["packed", pytest.param({"name": "processes", "workers": 2}, marks=pytest.mark.slow)]
)
def test_trials_are_promoted_with_every_local_executor(executor, tiny_model, reviews, tmp_path):
    results = run_sweep(ladder_sweep(tiny_model, reviews, executor=executor), tmp_path / "out")
    assert results.ladder is not None
    assert results.ladder.settled
    assert results.ladder.reached[0] == 10
    assert 1 <= results.ladder.reached[-1] < 10
    assert states(tmp_path / "out") == waiting_states(tmp_path / "out")
