"""The plan of a sweep with a measured speed, beside what the sweep then takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import autotune
from autotune.engine.plan import plan_sweep, predict_time, time_note
from autotune.engine.start import prepare_start
from autotune.engine.sweep_run import run_sweep
from autotune.estimate.trial_work import Speed
from autotune.sweep.budget_spec import Budget
from tests.support.sweeps import SPACE, small_sweep


@pytest.mark.slow
def test_a_sweep_takes_about_the_predicted_time(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    space = {**SPACE, "parameters": {**SPACE["parameters"], "epochs": 4}}
    sweep = small_sweep(
        tiny_model("bert"), reviews, fidelity="all", space=space, confirm={"seeds": 0}, budget={"trials": 4}
    )
    plan = plan_sweep(sweep, tmp_path / "sweep")
    assert plan.time.speed.is_measured
    assert not (tmp_path / "sweep").exists()
    began = time.perf_counter()
    run_sweep(sweep, tmp_path / "sweep")
    taken = time.perf_counter() - began
    assert 0.2 < taken / plan.time.total.typical < 5


def test_the_plan_has_what_the_search_will_see(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    plan = autotune.plan(small_sweep(tiny_model("bert"), reviews), tmp_path / "sweep", trials=4)
    assert plan.examples == {"train": 240, "validation": 120, "test": 120}
    assert (plan.sizes.train, plan.sizes.evaluated, plan.sizes.test) == (48, 40, 120)
    assert plan.time.trials == 4
    assert plan.families == ("lora", "norm", "head")
    assert plan.smallest.trainable_params == 0 < plan.largest.trainable_params
    assert plan.train_flops.low <= plan.train_flops.typical <= plan.train_flops.high
    assert plan.memory.trial > 0


def test_a_short_sweep_is_not_measured_and_a_long_one_is(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    def never(*_: object) -> Speed:
        raise AssertionError("a short sweep is not measured")

    sweep = small_sweep(tiny_model("bert"), reviews)
    short = predict_time(prepare_start(sweep, tmp_path).prepared, never)
    assert time_note(short) == "estimate: less than a minute"
    long = prepare_start(sweep.model_copy(update={"budget": Budget(trials=5_000)}), tmp_path)
    found = predict_time(long.prepared, lambda *_: Speed(1e-9, 0.01, 0.5))
    assert found.speed.is_measured
    assert time_note(found).startswith("estimate: ")
    assert " for 5000 trials, then " in time_note(found)
