"""A search ends when each configuration of a small space was trained, and says so."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution

import autotune
from autotune.cli.status import overview_json
from autotune.results.completion import is_finished
from autotune.results.sweep_tables import read_tables
from autotune.sweep.schema import Sweep
from tests.support.configuration_keys import config_key
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import Watcher, fake_run, small_sweep

pytestmark = pytest.mark.usefixtures("light_sweeps")

SPACE = {
    "families": ["lora"],
    "parameters": {
        "epochs": 1, "batch_size": 16, "warmup": 0.1, "weight_decay": 0.0, "lora.rank": [2, 8],
        "lora.targets": ["q", "v"], "lora.layers": 2, "lora.learning_rate": 1e-3, "lora.dora": False,
        "lora.dropout": 0.0, "lora.scale": 1.0, "lora.rslora": False,
        "lora.init": "kaiming", "lora.freeze_a": False, "lora.lr_ratio": 1.0,
        "schedule": "linear", "optimizer": "adamw",
    },
}  # fmt: skip


@pytest.fixture
def sweep(tiny_model: Callable[[str], Path], reviews: Path) -> Callable[..., Sweep]:
    """Four configurations and nine trials."""

    def make(**changes: Any) -> Sweep:
        given = {"space": SPACE, "budget": {"trials": 9}, "confirm": {"seeds": 0}, **changes}
        return small_sweep(tiny_model("bert"), reviews, **given)

    return make


def trained(folder: Path) -> list[str]:
    trials = read_tables(folder).trials
    return [config_key(config) for config in trials[trials["status"] == "complete"]["config"]]


@pytest.mark.parametrize("sampler", ["pareto", "random", "tpe", {"strategy": "carbs"}])
def test_each_configuration_is_trained_once(sampler, sweep, tmp_path):
    watcher = Watcher()
    results = fake_run(sweep(sampler=sampler), tmp_path / "out", watcher, FakeExecutor(workers=2))
    keys = trained(tmp_path / "out")
    assert len(set(keys)) == 4
    assert len(keys) == 4 or sampler == {"strategy": "carbs"}  # which repeats on purpose
    notes = [note for note in watcher.notes if "configurations" in note]
    assert notes == [
        "the space has 4 configurations and the budget 9 trials: the search ends when each was trained once"
    ]
    assert is_finished(results)
    assert overview_json(results)["finished"]


def test_a_finished_space_stays_finished_and_is_confirmed(sweep, tmp_path):
    fake_run(sweep(), tmp_path / "out")
    results = fake_run(sweep(budget={"trials": 30}, confirm={"seeds": 2, "points": 2}), tmp_path / "out")
    assert len(trained(tmp_path / "out")) == 4
    assert len(results.confirmations) > 0
    assert is_finished(results)


def test_configurations_outside_the_limits_do_not_count(sweep, tmp_path):
    limited = sweep(objectives=["accuracy", {"name": "trainable_params", "max": 600}], sampler="random")
    watcher = Watcher()
    results = fake_run(limited, tmp_path / "out", watcher)
    assert len(trained(tmp_path / "out")) == 2
    assert results.configurations == 2


def test_a_ladder_promotes_what_the_space_has(sweep, tmp_path):
    results = fake_run(sweep(ladder=True), tmp_path / "out")
    keys = {config_key(config) for config in results.trials["config"]}
    assert len(results.trials) == len(keys) == 4
    assert is_finished(results)


def test_repeats_on_request_go_on_and_are_said(sweep, tmp_path):
    watcher = Watcher()
    fake_run(sweep(sampler={"name": "pareto", "resample": 0.5}), tmp_path / "out", watcher)
    assert len(trained(tmp_path / "out")) == 9
    assert any(
        note.endswith("train them again with new seeds, by sampler.resample") for note in watcher.notes
    )


def test_a_budget_within_the_space_says_nothing(sweep, tmp_path):
    watcher = Watcher()
    results = fake_run(sweep(budget={"trials": 3}), tmp_path / "out", watcher)
    assert not any("configurations" in note for note in watcher.notes)
    assert len(results.trials) == 3
    assert not results.has_tried_all


@pytest.mark.parametrize("choices", [2, 4])
def test_optimize_promotes_what_the_space_has(choices):
    """A third of two candidates is less than one; the best of them reaches the top nevertheless."""
    space = {"x": CategoricalDistribution(list(range(choices)))}

    def evaluate(config: dict[str, float], fidelity: float, state: object) -> tuple[dict[str, float], None]:
        return {"loss": config["x"] + 1 / fidelity}, None

    with pytest.warns(UserWarning, match=f"the space has {choices} configurations"):
        result = autotune.optimize(evaluate, space, ["loss"], autotune.Ladder(1, 9), 300)
    assert len(result.trials) == choices
    assert result.best.config == {"x": 0}


@pytest.mark.parametrize("sampler", [None, "random", "tpe"])
def test_optimize_ends_with_a_warning(sampler):
    space = {
        "x": CategoricalDistribution([1, 2]),
        "y": CategoricalDistribution([0.5, 1.5]),
    }
    calls: list[str] = []

    def evaluate(config: dict[str, float], fidelity: float, state: object) -> tuple[dict[str, float], None]:
        calls.append(json.dumps(config, sort_keys=True))
        return {"loss": config["x"] * config["y"]}, None

    with pytest.warns(UserWarning, match="the space has 4 configurations, and each was evaluated"):
        result = autotune.optimize(evaluate, space, ["loss"], None, 9, sampler=sampler)
    assert len(calls) == len(set(calls)) == len(result.trials) == 4
    assert result.best.values == (0.5,)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert len(autotune.optimize(evaluate, space, ["loss"], None, 3, sampler=sampler).trials) == 3
