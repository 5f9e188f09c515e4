"""The knobs of training that a space has only where its file asks for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.errors import InvalidInputError
from search_spaces.language.loader import LoadedSpace, load_space, preset_names
from search_spaces.language.yaml_io import dump_yaml, parse_yaml
from search_spaces.parameters.training import ON_REQUEST, OPTIMIZERS, learning_rate_factor, optimizer_of
from search_spaces.parameters.types import Categorical, Float
from tests.support.shapes import BERT


def lora(**parameters: Any) -> LoadedSpace:
    given = {name.replace("__", "."): value for name, value in parameters.items()}
    return load_space({"families": ["lora"], "parameters": given}, shape=BERT)


def problem(**parameters: Any) -> str:
    with pytest.raises(InvalidInputError) as error:
        lora(**parameters)
    return str(error.value)


@pytest.mark.parametrize("preset", preset_names())
def test_no_preset_asks_for_them(preset: str) -> None:
    loaded = load_space(preset, shape=BERT)
    assert not set(ON_REQUEST) & set(loaded.space.names)
    assert not set(ON_REQUEST) & set(loaded.spec["parameters"])
    schedule = loaded.spec["parameters"]["schedule"]["choices"]
    assert "constant-cooldown" not in schedule


def test_an_optimizer_brings_its_own_factor_which_exists_only_with_it() -> None:
    space = lora(optimizer=["adamw", "lion", "adafactor"]).space
    assert space["optimizer"] == Categorical(name="optimizer", choices=("adamw", "lion", "adafactor"))
    assert space["lion.learning_rate_factor"] == Float(
        name="lion.learning_rate_factor", low=0.03, high=0.3, log=True, default=0.1,
        when={"optimizer": ("lion",)},
    )  # fmt: skip
    factors = {f"{name}.learning_rate_factor" for name in ("lion", "adafactor")}
    assert set(space.default()) & factors == set()
    assert set(space.default(optimizer="adafactor")) & factors == {"adafactor.learning_rate_factor"}
    assert space.default(optimizer="adafactor")["adafactor.learning_rate_factor"] == 1.0
    assert "adafactor.learning_rate_factor" not in lora(optimizer=["adamw", "lion"]).space


@pytest.mark.parametrize("given", ["lion", ["lion"], {"choices": ["lion"]}])
def test_a_fixed_optimizer_is_in_every_configuration(given: Any) -> None:
    space = lora(optimizer=given).space
    config = space.default()
    assert (config["optimizer"], config["lion.learning_rate_factor"]) == ("lion", 0.1)
    assert optimizer_of(config) == "lion"
    assert learning_rate_factor(config) == 0.1


def test_a_cooldown_exists_only_with_its_schedule() -> None:
    space = lora(schedule=["linear", "constant-cooldown"]).space
    assert "cooldown" not in space.default()
    assert space.default(schedule="constant-cooldown")["cooldown"] == 0.2
    assert lora(schedule="constant-cooldown", cooldown=0.4).space.default()["cooldown"] == 0.4
    assert lora(schedule={"default": "cosine"}).space["schedule"] == Categorical(
        name="schedule", choices=("linear", "cosine", "constant"), default="cosine"
    )


def test_the_longest_sequence_is_the_default() -> None:
    space = lora(sequence_length=[128, 32, 64]).space
    assert space["sequence_length"] == Categorical(
        name="sequence_length", choices=(32, 64, 128), ordered=True, default=128
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"optimizer": ["adamw", "lion"], "lion.learning_rate_factor": {"low": 0.05, "high": 0.2}},
        {"optimizer": {"default": "adafactor"}},
        {"schedule": ["cosine", "constant-cooldown"], "cooldown": [0.1, 0.3]},
        {"sequence_length": [16, 32]},
        {"schedule": {"default": "cosine"}},
    ],
)
def test_what_is_spelt_out_reads_back_as_the_same_space(parameters: dict[str, Any]) -> None:
    loaded = load_space({"families": ["lora", "head"], "parameters": parameters}, shape=BERT)
    again = load_space(parse_yaml(dump_yaml(loaded.spec)), shape=BERT)
    assert (again.space, again.spec) == (loaded.space, loaded.spec)
    assert set(loaded.spec["parameters"]) == set(loaded.space.names) - {"family"}
    rng = np.random.default_rng(0)
    for _ in range(30):
        assert loaded.space.problems(loaded.space.sample(rng)) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"optimizer": "lyon"}, "Did you mean 'lion'?"),
        ({"optimizer": 3}, "3 is not a choice"),
        ({"optimizer": {"choices": "lion"}}, "is not a list of choices"),
        ({"optimzer": "lion"}, "Did you mean 'optimizer'?"),
        ({"lion.learning_rate_factor": 0.1}, "Add lion to the choices of optimizer."),
        ({"optimizer": "adamw", "lion.learning_rate_factor": 0.1}, "Add lion to the choices of optimizer."),
        ({"optimizer": "lion", "lion.learning_rate_factor": 0}, "0 is out of range"),
        ({"cooldown": 0.2}, "Add constant-cooldown to the choices of schedule."),
        ({"schedule": "constant-cooldown", "cooldown": 1.5}, "1.5 is out of range"),
        ({"schedule": "constant-cool"}, "Did you mean 'constant-cooldown'?"),
        ({"sequence_length": [4, 64]}, "4 is out of range"),
        ({"sequence_length": "long"}, "'long' is not a number"),
    ],
)
def test_what_is_wrong_is_answered(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        load_space({"families": ["lora"], "parameters": parameters})
    assert message in str(error.value)


def test_an_optimizer_whose_library_is_missing_is_answered_when_the_space_is_read(monkeypatch) -> None:
    monkeypatch.setattr("search_spaces.parameters.training.find_spec", lambda module: None)
    message = problem(optimizer=["adamw", "lion"])
    assert "'lion' needs the package lion-pytorch, which is not installed" in message
    assert "pip install lion-pytorch" in message
    assert "lion" not in str(lora(optimizer=["adamw", "adafactor"]).spec["parameters"]["optimizer"])


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(ValueError, match="unknown optimizer 'sgd'; use one of adamw, lion, adafactor"):
        optimizer_of({"optimizer": "sgd"})
    assert optimizer_of({}) == next(iter(OPTIMIZERS)) == "adamw"
    assert learning_rate_factor({}) == 1.0


# --- costs at a sequence length

SHORT = Workload(tokens=20, tokens_square=500, train_samples=900)
WHOLE = Workload(tokens=50, tokens_square=4000, train_samples=1000, cuts={32: SHORT})


def test_costs_follow_the_sequence_length() -> None:
    space = lora(sequence_length=[32, 64]).space
    model = CostModel(BERT, BERT.task, WHOLE)
    plain = {name: value for name, value in space.default().items() if name != "sequence_length"}
    cut = model({**plain, "sequence_length": 32})
    assert cut == CostModel(BERT, BERT.task, SHORT)(plain)
    assert cut.train_flops < model(plain).train_flops
    assert cut.inference_flops < model(plain).inference_flops
    assert cut.trainable_params == model(plain).trainable_params
    with pytest.raises(
        ValueError, match="sequence_length: the workload for 64 tokens is unknown; known lengths: 32"
    ):
        model({**plain, "sequence_length": 64})


def test_inference_may_see_longer_samples_than_training() -> None:
    plain = lora().space.default()
    same = CostModel(BERT, BERT.task, Workload(20, 500, 900, inference_tokens=20))(plain)
    longer = CostModel(BERT, BERT.task, Workload(20, 500, 900, inference_tokens=50))(plain)
    assert same == CostModel(BERT, BERT.task, SHORT)(plain)
    assert longer.train_flops == same.train_flops
    assert longer.inference_flops == CostModel(BERT, BERT.task, WHOLE)(plain).inference_flops
