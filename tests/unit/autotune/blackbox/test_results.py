"""`autotune.optimize` without a ladder, over families, with limits, and what its result offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from transformers import BertConfig, GPT2Config

import autotune
from autotune import Budget, InvalidInputError, Ladder, Objective
from autotune.blackbox.limits import FidelitySteps
from autotune.blackbox.optimization import OptimizeResult
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.model.reader import read_shape

SPACE = {"x": FloatDistribution(-1, 1), "width": IntDistribution(1, 8)}
WIDTH = Objective("width", known=lambda config: float(config["width"]))
MODEL = BertConfig(
    vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
)
FAMILIES = {"families": ["lora", "head"], "parameters": {"batch_size": 8, "epochs": 1}}


def evaluate(config: dict[str, Any]) -> dict[str, float]:
    return {"loss": config["x"] ** 2 + 1 / config["width"], "other": config["x"]}


def score(config: dict[str, Any]) -> dict[str, float]:
    return {"accuracy": 1 / (1 + abs(np.log10(config[f"{config['family']}.learning_rate"]) + 3))}


def random(**options: Any) -> OptimizeResult:
    sampler = optuna.samplers.RandomSampler(seed=0)
    return autotune.optimize(evaluate, SPACE, ["loss", WIDTH], budget=12, sampler=sampler, **options)


def test_without_a_ladder_a_function_of_the_configuration_is_enough():
    result = random()
    assert [trial.status for trial in result.trials] == ["complete"] * 12
    assert result.trust.rungs == ()
    with pytest.raises(ValueError, match="it takes the configuration alone"):
        autotune.optimize(evaluate, SPACE, ["loss"], Ladder(1, 9), 20)
    with pytest.raises(ValueError, match="budget: missing"):
        autotune.optimize(evaluate, SPACE, ["loss"])


def test_the_tables_and_figures_of_a_result():
    result = random()
    table = result.to_pandas()
    assert len(table) == 12
    assert (table["loss"] == table["param.x"] ** 2 + 1 / table["param.width"]).all()
    assert (table["metric.other"] == table["param.x"]).all()
    assert set(table.loc[table["on_front"], "trial"]) == {trial.number for trial in result.front}
    assert 0 < result.hypervolume <= 1
    for figure in (
        result.plot_front(),
        result.plot_hypervolume(),
        result.plot_parallel_coordinates(),
        result.plot_curves(),
    ):
        assert isinstance(figure, go.Figure)
        assert figure.data


def test_the_report_names_the_points_of_the_front_and_the_failures(tmp_path: Path):
    def sometimes(config: dict[str, Any]) -> dict[str, float]:
        if config["width"] >= 6:
            raise MemoryError("too large for <this> machine")
        return evaluate(config)

    sampler = optuna.samplers.RandomSampler(seed=0)
    result = autotune.optimize(sometimes, SPACE, ["loss", WIDTH], budget=12, sampler=sampler)
    page = result.report(tmp_path / "out" / "report.html", title="My <search>").read_text()
    assert "My &lt;search&gt;" in page
    assert "too large for &lt;this&gt; machine" in page
    for trial in result.front:
        assert f"<strong>{trial.number}</strong>" in page
    assert "autotune export" not in page
    assert 'id="plot-front"' in page


def test_limits_bound_the_front_and_what_is_evaluated():
    tried = []

    def watched(config: dict[str, Any]) -> dict[str, float]:
        tried.append(config["width"])
        return evaluate(config)

    width = Objective("width", known=lambda config: float(config["width"]), max=4)
    loss = Objective("loss", max=0.7)
    result = autotune.optimize(watched, SPACE, [loss, width], budget=Budget(trials=14), seed=1)
    assert max(tried) <= 4
    assert all(trial.values[0] <= 0.7 for trial in result.front)
    assert {trial.number for trial in result.study.best_trials} == {trial.number for trial in result.front}
    outside = [trial for trial in result.trials if trial.values[0] > 0.7]
    assert outside
    assert not result.to_pandas().set_index("trial").loc[[t.number for t in outside], "feasible"].any()


def test_another_sampler_is_held_to_the_limits_that_need_no_evaluation():
    tried = []

    def watched(config: dict[str, Any]) -> dict[str, float]:
        tried.append(config["width"])
        return evaluate(config)

    width = Objective("width", known=lambda config: float(config["width"]), max=4)
    sampler = optuna.samplers.RandomSampler(seed=0)
    result = autotune.optimize(watched, SPACE, ["loss", width], budget=8, sampler=sampler)
    assert len(tried) == len(result.trials) == 8
    assert max(tried) <= 4


def test_families_of_a_model_have_costs_in_closed_form():
    objectives = ["accuracy", "trainable_params", "train_flops"]
    lengths = [6, 8, 10]
    result = autotune.optimize(
        score, FAMILIES, objectives, budget=6, model=MODEL, task="sequence-classification", lengths=lengths
    )
    shape = read_shape(MODEL, "sequence-classification", labels=2)
    costs = CostModel(shape, "sequence-classification", Workload(8.0, 200 / 3, train_samples=3))
    for trial in result.trials:
        own = costs(trial.config)
        assert trial.values[1:] == (own.trainable_params, own.train_flops)
        assert (
            autotune.learning_rates(trial.config)[""]
            == trial.config[f"{trial.config['family']}.learning_rate"]
        )
    assert result.objectives[0].direction == "maximize"
    table = result.to_pandas()
    assert (table["cost.trainable_params"] == table["trainable_params"]).all()
    lora = next(trial for trial in result.trials if trial.config["family"] == "lora")
    assert autotune.peft_config(lora.config, MODEL).r == lora.config["lora.rank"]


def test_the_constraints_of_a_space_of_families_are_kept():
    space = {**FAMILIES, "constraints": ["trainable_params <= 300"]}
    result = autotune.optimize(
        score, space, ["accuracy", "trainable_params"], budget=5, model=MODEL, sampler="random"
    )
    assert len(result.trials) == 5
    assert all(trial.values[1] <= 300 for trial in result.trials)


def test_a_family_that_cannot_work_on_the_model_is_named():
    model = GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2)
    space = {"families": ["lora", "head"]}
    with pytest.warns(UserWarning, match="left out .*head"):
        autotune.optimize(score, space, ["accuracy"], budget=1, model=model, task="causal-lm")


def test_what_is_missing_is_named_with_its_argument():
    with pytest.raises(InvalidInputError, match="model: missing"):
        autotune.optimize(score, "lora", ["accuracy"], budget=2)
    with pytest.raises(InvalidInputError, match="Give lengths"):
        autotune.optimize(score, FAMILIES, ["accuracy", "train_flops"], budget=2, model=MODEL)
    with pytest.raises(InvalidInputError, match="lengths"):
        autotune.optimize(score, FAMILIES, ["accuracy"], budget=2, model=MODEL, lengths=[3, 0])
    with pytest.raises(ValueError, match="no value is within both"):
        Objective("loss", max=1.0, min=2.0)
    with pytest.raises(InvalidInputError, match="missing"):
        autotune.learning_rates({"family": "lora"})


def test_steps_are_whole_fidelities_or_per_mille_of_the_top():
    assert [FidelitySteps(Ladder(1, 9))(f) for f in (1.0, 3.0, 9.0)] == [1, 3, 9]
    assert [FidelitySteps(Ladder(0.1, 1.0))(f) for f in (0.1, 0.5, 1.0)] == [100, 500, 1000]
