"""Sweeps that choose the base model of each configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.api.point import make_point
from autotune.engine.plan import plan_sweep
from autotune.export.run_folder import export_run
from autotune.prepare.prepared_sweep import PreparedSweep, prepare
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError
from tests.support.fake_executor import FakeExecutor
from tests.support.ladders import with_config
from tests.support.sweeps import SPACE, fake_run, small_sweep
from trials.execution.runner import Runner
from trials.records import Fidelity, TrialSpec, TrialStatus

pytestmark = pytest.mark.usefixtures("light_sweeps")

SHARES = ["25%", "50%", "100%"]
LORA = {
    "family": "lora",
    "lora.targets": "q+v",
    "lora.layers": 2,
    "lora.rank": 2,
    "lora.scale": 2.0,
    "lora.rslora": False,
    "lora.dora": False,
    "lora.init": "kaiming",
    "lora.freeze_a": False,
    "lora.dropout": 0.0,
    "lora.learning_rate": 1e-3,
    "lora.lr_ratio": 1.0,
    "batch_size": 16,
    "epochs": 1,
    "weight_decay": 0.01,
    "warmup": 0.0,
    "schedule": "linear",
}


@pytest.fixture(scope="module")
def choosing(deep_model: Path, reviews: Path) -> Callable[..., Sweep]:
    def make(**changes: Any) -> Sweep:
        model = {"name": str(deep_model), "choices": SHARES, "precision": "fp32"}
        given = {"model": model, "objectives": ["accuracy", "train_flops"], **changes}
        return small_sweep(deep_model, reviews, **given)

    return make


@pytest.fixture(scope="module")
def prepared(choosing) -> PreparedSweep:
    return prepare(choosing())


@pytest.fixture(scope="module")
def searched(choosing, tmp_path_factory) -> tuple[SweepTables, FakeExecutor]:
    executor = FakeExecutor(workers=1)
    sweep = choosing(budget={"trials": 8}, confirm={"seeds": 1, "points": 2})
    return fake_run(sweep, tmp_path_factory.mktemp("choices") / "out", executor=executor), executor


def test_the_choice_is_the_first_parameter_and_ordered(prepared):
    first = prepared.space.parameters[0]
    assert (first.name, first.choices, first.ordered, first.default) == ("model", tuple(SHARES), True, "100%")
    assert any(
        note.startswith("model: the search chooses among 25% (1 of 4 layers,") for note in prepared.notes
    )


def test_costs_are_those_of_the_chosen_model(prepared, choosing):
    half = prepare(choosing(model={"name": choosing().model.name, "layers": "50%", "precision": "fp32"}))
    found = prepared.costs({"model": "50%", **LORA})
    assert found == half.costs({**LORA, "lora.layers": 1})
    assert found.trainable_params < prepared.costs({"model": "100%", **LORA}).trainable_params
    assert prepared.costs({"model": "100%", **LORA}) == prepared.costs(LORA)
    assert prepared.costs.shape.depth == 4


def test_percentages_are_relative_to_the_home_model(choosing):
    prepared = prepare(choosing(space={**SPACE, "constraints": ["train_flops <= 40%"]}))
    whole = prepared.costs.full_fine_tuning_flops(LORA)
    for choice in SHARES:
        config = {"model": choice, **LORA}
        is_within = prepared.costs(config).train_flops <= 0.4 * whole
        assert (prepared.broken_limits(config) is None) == is_within
    assert prepared.broken_limits({"model": "25%", **LORA}) is None


def test_a_configuration_that_a_model_cannot_have_is_outside_the_limits(deep_model, reviews, tmp_path):
    small = with_config(deep_model, tmp_path / "small", num_hidden_layers=1, max_position_embeddings=20)
    sweep = small_sweep(
        deep_model,
        reviews,
        model={"choices": [str(small), str(deep_model)], "precision": "fp32"},
        task={**small_sweep(deep_model, reviews).task.model_dump(exclude_none=True), "max_length": 14},
        space={"families": ["prompt", "head"], "parameters": {"prompt.tokens": {"low": 1, "high": 12}}},
    )
    prepared = prepare(sweep)
    config = next(c for c in prepared.space.defaults() if c["family"] == "prompt")
    few, many = ({**config, "model": "small", "prompt.tokens": tokens} for tokens in (1, 12))
    assert prepared.broken_limits(few) is None
    assert "the choice of the model" in str(prepared.broken_limits(many))
    assert prepared.broken_limits({**many, "model": deep_model.name}) is None
    assert np.isfinite(prepared.costs(many).train_flops)


def test_trials_train_the_transferred_configuration_on_the_chosen_model(searched):
    results, executor = searched
    trials = results.trials.set_index("trial")
    assert set(trials["status"]) == {"complete"}
    for number, spec in enumerate(executor.specs[: len(trials)]):
        config = trials.loc[number, "config"]
        assert spec.base == (None if config["model"] == "100%" else config["model"])
        assert "model" not in spec.config
        assert spec.config["family"] == config["family"]
    repeated = [trials.loc[number, "config"]["model"] for number in results.confirmations["trial"]]
    chosen = [spec.base or "100%" for spec in executor.specs[len(trials) :]]
    assert chosen == repeated


def test_a_trial_is_that_of_a_sweep_on_the_truncated_model(choosing):
    sweep, few = choosing(), Fidelity(train_samples=32, eval_samples=16, evaluations=1)
    config = {**LORA, "lora.layers": 1}
    here = Runner(sweep.model, sweep.task).run(TrialSpec(config, fidelity=few, base="50%"))
    half = sweep.model.other("50%")
    there = Runner(half, sweep.task).run(TrialSpec(config, fidelity=few))
    assert here.status == TrialStatus.COMPLETE
    assert here.metrics == pytest.approx(there.metrics, rel=1e-6)


def test_a_point_is_exported_on_its_own_model(searched, tmp_path):
    results, executor = searched
    trials = results.trials.set_index("trial")
    number = next(n for n, config in trials["config"].items() if config["model"] == "50%")
    run = export_run(results, str(number), [], tmp_path / "run")
    written = json.loads((run / "run.json").read_text())
    assert written["layers"] == {"num_hidden_layers": 2}
    assert written["configuration"] == executor.specs[number].config
    assert "config = AutoConfig.from_pretrained('adapter')\n" in (run / "README.md").read_text()
    assert make_point(results, number).peft_config() is not None


def test_the_plan_counts_the_memory_of_every_model(choosing, deep_model, reviews, tmp_path):
    other = with_config(deep_model, tmp_path / "other", num_hidden_layers=2)
    one = plan_sweep(choosing(), tmp_path / "a").memory.base
    model = {"choices": [str(other), str(deep_model)], "precision": "fp32"}
    both = plan_sweep(choosing(model=model), tmp_path / "b").memory.base
    assert both > 1.3 * one


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["50%", "25%", "100%"], r"'50%' costs .* times what '25%' .* by rising cost: \[25%, 50%, 100%\]\."),
        (["100%", "25%"], r"'100%' costs .* times what '25%' .* by rising cost: \[25%, 100%\]\."),
    ],
)
def test_models_that_do_not_rise_in_cost_are_refused(choosing, deep_model, choices, message):
    model = {"name": str(deep_model), "choices": choices}
    with pytest.raises(InvalidInputError, match=rf"model.choices: {message}"):
        prepare(choosing(model=model))


def test_a_problem_of_the_training_split_names_the_field_of_the_sweep_file(choosing):
    space = {**SPACE, "parameters": {**SPACE["parameters"], "train_samples": [9_000_000]}}
    with pytest.raises(InvalidInputError, match=r"^space\.parameters\.train_samples: 9,000,000 is above"):
        prepare(choosing(space=space, fidelity={}))
