"""The whole path on a tiny model: budgets, interrupts, crashes, full disks, and what must never be lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest

from autotune.engine.sweep_run import SweepInterruptedError, run_sweep
from autotune.results.sweep_tables import read_tables
from search_spaces.errors import InvalidInputError
from tests.support.configuration_keys import config_key
from tests.support.sweeps import Watcher, light_sweeps, run_and_kill, small_sweep, stop_at
from tests.support.texts import same_splits
from trials.execution.runner import Runner
from trials.records import TrialResult, TrialSpec
from trials.training.run import Run


@pytest.fixture
def sweep(tiny_model, reviews):
    return small_sweep(tiny_model("bert"), reviews)


@pytest.fixture
def light() -> Iterator[None]:
    with light_sweeps():
        yield


def complete(folder: Path) -> pd.DataFrame:
    trials = read_tables(folder).trials
    return trials[trials["status"] == "complete"]


def test_a_sweep_writes_every_output(sweep, tmp_path):
    watcher = Watcher()
    results = run_sweep(sweep, tmp_path / "out", watcher)
    assert watcher.phases == ["loading", "search", "confirm", "report", "done"]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"sweep.yaml", "study.db", "front.csv", "trials.parquet", "report.html"} <= files
    assert len(complete(tmp_path / "out")) == 6
    assert results.trials["config"].map(config_key).nunique() == 6
    front = pd.read_csv(tmp_path / "out" / "front.csv")
    assert set(front["trial"]) == set(results.front["trial"])
    assert results.baselines["majority class"] == pytest.approx(0.5, abs=0.15)
    assert 0 <= results.hypervolume <= 1
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path / 'out' / 'study.db'}")
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.usefixtures("light")
def test_a_trial_interrupted_midway_runs_again_with_its_configuration_and_seed(sweep, tmp_path, monkeypatch):
    calls = []

    def interrupted(*args: object) -> None:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        original(*args)

    original = Run.update
    monkeypatch.setattr(Run, "update", interrupted)
    with pytest.raises(SweepInterruptedError):
        run_sweep(sweep, tmp_path / "out")
    lost = read_tables(tmp_path / "out").trials.iloc[-1]
    assert lost["status"] == "lost"
    results = run_sweep(sweep, tmp_path / "out")
    again = results.trials[results.trials["config"].map(config_key) == config_key(lost["config"])]
    assert again["status"].tolist() == ["lost", "complete"]
    assert again["seed"].nunique() == 1
    assert len(complete(tmp_path / "out")) == 6


@pytest.mark.usefixtures("light")
def test_search_seconds_are_wall_time_over_all_processes(tiny_model, reviews, tmp_path):
    # Two trials at a time: their own seconds, summed, say more than the clock on the wall.
    packed = small_sweep(tiny_model("bert"), reviews, executor={"name": "packed", "workers": 2})
    began = time.perf_counter()
    with pytest.raises(SweepInterruptedError):
        run_sweep(packed, tmp_path / "out", Watcher(stop_at(3)))
    first = read_tables(tmp_path / "out").search_seconds
    results = run_sweep(packed, tmp_path / "out")
    assert 0 < first < results.search_seconds < time.perf_counter() - began
    ended = results.trials[results.trials["status"] == "complete"].sort_values("finished")
    assert ended["elapsed"].is_monotonic_increasing
    assert ended["elapsed"].iloc[-1] == results.search_seconds
    assert (results.confirmations["elapsed"] > 0).all()


@pytest.mark.usefixtures("light")
def test_a_killed_process_loses_nothing(sweep, tmp_path):
    folder = tmp_path / "out"
    before = run_and_kill(sweep, folder, lambda trials: trials["status"] == "complete")
    run_sweep(sweep, folder)
    after = complete(folder)
    assert len(after) == 6
    assert before <= set(after["trial"])
    assert after["config"].map(config_key).nunique() == 6


@pytest.mark.usefixtures("light")
def test_failed_trials_are_recorded_and_the_sweep_continues(sweep, tmp_path, monkeypatch):
    original = Run.update

    def moody(run: Run, loss: float, *args: float) -> None:
        bad = any("lora_A" in name for name, _ in run.model.named_parameters())
        original(run, float("nan") if bad else loss, *args)

    monkeypatch.setattr(Run, "update", moody)
    results = run_sweep(sweep, tmp_path / "out")
    counts = results.trials["status"].value_counts()
    assert counts["failed"] >= 1
    assert counts["failed"] + counts["complete"] == 6
    assert results.trials.loc[results.trials["status"] == "failed", "error"].str.contains("loss became").all()
    assert "lora" not in set(results.front["param.family"])


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("objectives", "expected"),
    [(["accuracy", "trainable_params"], False), (["accuracy", "train_seconds"], True)],
)
def test_trials_with_measured_objectives_are_isolated(
    objectives, expected, tiny_model, reviews, tmp_path, monkeypatch
):
    asked: list[bool] = []
    original = Runner.run

    def watch(runner: Runner, spec: TrialSpec) -> TrialResult:
        asked.append(spec.is_isolated)
        return original(runner, spec)

    monkeypatch.setattr(Runner, "run", watch)
    changes = {"objectives": objectives, "budget": {"trials": 2}, "confirm": {"seeds": 1, "points": 1}}
    results = run_sweep(small_sweep(tiny_model("bert"), reviews, **changes), tmp_path / "out")
    assert asked == [expected] * 3
    assert (results.trials["cost.train_seconds"] > 0).all()


@pytest.mark.usefixtures("light")
def test_the_baseline_of_a_language_model_is_the_base_model(tiny_model, write_jsonl, tmp_path):
    rows = [{"p": "the film was", "c": "good"}, {"p": "the end was", "c": "sad"}] * 40
    sweep = small_sweep(
        tiny_model("llama"),
        tmp_path,
        task={
            "type": "causal-lm",
            **same_splits(write_jsonl("c.jsonl", rows)),
            "prompt": "p",
            "completion": "c",
        },
        space={"families": ["lora", "ia3"], "parameters": {"epochs": 1, "batch_size": 16}},
        objectives=["eval_loss", "trainable_params", "train_flops"],
        budget={"trials": 3},
    )
    results = run_sweep(sweep, tmp_path / "out")
    assert results.objectives[0].reference == results.baselines["base without adapter"]
    assert len(complete(tmp_path / "out")) == 3


def test_a_model_folder_without_weights(tiny_model, reviews, tmp_path):
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(tiny_model("bert"), bare)
    (bare / "model.safetensors").unlink()
    with pytest.raises(InvalidInputError, match="no weights in safetensors"):
        run_sweep(small_sweep(bare, reviews), tmp_path / "out")
    assert not (tmp_path / "out").exists()
