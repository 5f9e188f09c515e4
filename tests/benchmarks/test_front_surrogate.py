"""The benchmark of searches on a surrogate: its model, its clock and its table, on the built-in model and task."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import optuna
import pandas as pd
import pytest

from autotune.prepare.prepared_sweep import PreparedSweep, prepare
from benchmarks import front_surrogate, time_to_front
from benchmarks.front_surrogate import (
    TABLE,
    TERA,
    Running,
    Surrogate,
    Tried,
    first_to_end,
    search,
    table,
    volume,
)

COUNT = 120


@pytest.fixture(scope="module")
def prepared() -> PreparedSweep:
    given = time_to_front.parser().parse_args(["--out=", "--quick", "--samples=48", "--eval-samples=40"])
    return prepare(time_to_front.sweep_of("plain", 0, time_to_front.setting(given)))


@pytest.fixture(scope="module")
def model(prepared: PreparedSweep) -> Surrogate:
    """LoRA is good and the rest is bad, with some noise."""
    rng = np.random.default_rng(0)
    configs = [prepared.space.sample(rng) for _ in range(COUNT)]
    truth = np.array([0.8 if config["family"] == "lora" else 0.3 for config in configs])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front_surrogate, "_TREES", 30)
        return Surrogate(prepared, configs, truth + rng.normal(0, 0.02, COUNT))


def test_it_learns_what_there_is_to_learn(model: Surrogate, prepared: PreparedSweep):
    rng = np.random.default_rng(1)
    for config in (prepared.space.sample(rng) for _ in range(20)):
        expected = 0.8 if config["family"] == "lora" else 0.3
        assert model.accuracy(config) == pytest.approx(expected, abs=0.1)
    noise = [model.noise(0.8, rng) for _ in range(300)]
    assert np.mean(noise) == pytest.approx(0, abs=0.02)
    assert 0.005 < np.std(noise) < 0.05


@pytest.mark.parametrize("arm", ["pareto-2", "tpe", "random"])
def test_a_search_spends_what_its_trials_take(
    arm: str, model: Surrogate, prepared: PreparedSweep, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(front_surrogate, "surrogate", lambda: model)
    each = np.mean([prepared.costs(config).train_flops for config in prepared.space.defaults()])
    found = search(arm, 0, 8 * each)
    assert found[-2].flops < 8 * each <= found[-1].flops
    assert all(a.flops <= b.flops for a, b in pairwise(found))
    assert search(arm, 0, 8 * each) == found
    assert search(arm, 1, 8 * each) != found
    assert len({trial.accuracy for trial in found}) > 1


def test_samplers_differ_and_see_the_noise(
    model: Surrogate, prepared: PreparedSweep, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(front_surrogate, "surrogate", lambda: model)
    each = np.mean([prepared.costs(config).train_flops for config in prepared.space.defaults()])
    found = {arm: search(arm, 0, 12 * each) for arm in ("pareto", "pareto-2", "random")}
    assert found["pareto"][0] != found["random"][0]
    assert found["pareto"] != found["pareto-2"]
    monkeypatch.setattr(front_surrogate, "_NOISE", 0.0)
    assert search("pareto", 0, 12 * each) != found["pareto"]
    assert search("random", 0, 12 * each) == found["random"]  # what is found is without noise


def test_trials_at_a_time_share_the_pace():
    long, short, other = (Running(left, optuna.trial.FixedTrial({}), {}) for left in (3.0, 1.0, 4.0))
    spent, ended, others = first_to_end([long, short, other])
    assert (spent, ended, [one.left for one in others]) == (3.0, short, [2.0, 3.0])
    assert first_to_end([long]) == (3.0, long, [])


def test_the_table():
    fast = [Tried(1 * TERA, 0.9, 4.0), Tried(2 * TERA, 0.9, 2.0)]
    slow = [Tried(3 * TERA, 0.9, 4.0), Tried(9 * TERA, 0.6, 5.0)]
    assert volume(fast) == pytest.approx(0.4 * 4)
    lines = table({"pareto": [fast, fast], "tpe": [slow, fast]}, 10 * TERA).splitlines()
    assert "| `pareto` | 2 | 2 | 2 | 2 |" in lines[2]
    assert "| `tpe` | – (1 of 2) | – (1 of 2) |" in lines[3]
    assert len({line.count("|") for line in lines}) == 1
    share = float(lines[2].split("|")[-2].split("±")[0])
    assert share == pytest.approx((1 * 0.5 + 8 * 1.0) / 10, abs=0.02)  # nothing, half, all


def test_the_recorded_trials_are_of_the_same_families(prepared: PreparedSweep):
    recorded = pd.read_csv(TABLE)
    assert recorded["accuracy"].between(0, 1).all()
    families = {json.loads(text)["family"] for text in recorded["config"]}
    assert families == {config["family"] for config in prepared.space.defaults()}
