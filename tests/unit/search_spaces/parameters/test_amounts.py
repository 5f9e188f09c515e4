"""Numbers of training examples and fractional epochs in space files."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces.errors import InvalidInputError
from search_spaces.language.loader import LoadedSpace, load_space
from search_spaces.language.yaml_io import dump_yaml, parse_yaml
from search_spaces.parameters.amounts import examples_of, optimizer_steps, samples_seen
from search_spaces.parameters.types import Categorical, Float, Int
from tests.support.shapes import BERT


def loaded(examples: int | None = None, **parameters: Any) -> LoadedSpace:
    return load_space({"families": ["lora"], "parameters": parameters}, shape=BERT, examples=examples)


def numbers(low: int, high: int, default: int | None = None, log: bool = True) -> Int:
    return Int(name="train_samples", low=low, high=high, log=log, default=default or high)


def choices(*counts: int, default: int | None = None) -> Categorical:
    return Categorical(name="train_samples", choices=counts, ordered=True, default=default or counts[-1])


@pytest.mark.parametrize(
    ("given", "examples", "expected"),
    [
        ({"low": 200, "high": 8000}, None, numbers(200, 8000)),
        ({"low": 200, "high": 8000}, 872, numbers(200, 872)),
        ({"low": 200, "high": 800, "default": 400, "log": False}, 872, numbers(200, 800, 400, log=False)),
        ({"low": "5%", "high": "100%"}, 872, numbers(44, 872)),
        ({"low": 20}, 872, numbers(20, 872)),
        ([1000, 200, "all"], 872, choices(200, 872)),
        (["5%", "25%"], 1000, choices(50, 250)),
        ({"choices": [100, 200], "default": 100}, 872, choices(100, 200, default=100)),
        ("25%", 872, choices(218)),
        (2000, None, choices(2000)),
        ("0.01%", 872, choices(1)),
    ],
)
def test_amounts_become_numbers_of_the_training_split(given: Any, examples: int | None, expected) -> None:
    space = loaded(examples, train_samples=given).space
    assert space["train_samples"] == expected
    assert space.problems(space.default()) == []


def test_the_split_that_narrows_a_range_is_named() -> None:
    note = loaded(872, train_samples={"low": 200, "high": 8000}).narrowed["train_samples"]
    assert note == "8,000 exceeds the training split; 200 to 872 of 872 training examples"
    assert loaded(872, train_samples={"low": "5%"}).narrowed["train_samples"].startswith("44 to 872 of 872")
    assert "train_samples" not in loaded(8000, train_samples={"low": 200, "high": 800}).narrowed


def test_shares_of_an_unknown_split_stay_shares() -> None:
    space = loaded(train_samples={"low": "5%", "high": "50%"}).space
    assert space.default()["train_samples"] == 0.5
    assert space.problems({**space.default(), "train_samples": 300}) == []


@pytest.mark.parametrize(
    "given",
    [
        {"train_samples": {"low": 200, "high": 8000}},
        {"train_samples": {"low": "12.5%", "high": "all", "default": "50%"}},
        {"train_samples": [200, "all"]},
        {"epochs": {"low": 0.25, "high": 4, "log": True}},
        {"epochs": {"low": 1.0, "high": 4.0, "log": True}},
        {"epochs": [0.5, 1, 2]},
    ],
)
def test_the_spelled_out_space_reads_back(given: dict[str, Any]) -> None:
    first = loaded(872, **given)
    again = load_space(parse_yaml(dump_yaml(first.spec)), shape=BERT, examples=872)
    assert (again.space, again.spec) == (first.space, first.spec)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 900, "high": 5000}, "900 is above the 872 examples of the training split. Use at most 872"),
        ({"low": 300, "high": "10%"}, "low 300 is above high 10%, 88 of the 872 training examples"),
        ({"low": 900, "high": 100}, "low 900 is above high 100. Swap them."),
        ({"high": 100}, "missing, with high at 100 examples"),
        ({"low": 0.05}, "0.05 is not a whole number. Write the share 5%."),
        ({"low": "120%"}, "120% is out of range"),
        ({"lowest": 3}, "Did you mean 'low'?"),
        ({"low": 5, "log": "yes"}, "'yes' is not true or false"),
        ({"choices": [10, 20], "default": 30}, "'30' is not among the choices"),
        ([10, 10], "a choice appears twice"),
        ([], "is not a list of choices"),
        ("many", "'many' is not a number of examples"),
        (0, "0 is out of range"),
        (None, "empty"),
    ],
)
def test_invalid_amounts_are_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        loaded(872, train_samples=given)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"low": 0.25, "high": 4, "log": True},
            Float(name="epochs", low=0.25, high=4, log=True, default=3.0),
        ),
        ({"low": 1.0, "high": 4.0, "log": True}, Float(name="epochs", low=1, high=4, log=True, default=3.0)),
        ({"low": 1, "high": 4, "log": True}, Int(name="epochs", low=1, high=4, log=True, default=3)),
        ({"low": 1.0, "high": 4.0}, Int(name="epochs", low=1, high=4, default=3)),
        ([0.5, 1, 2], Categorical(name="epochs", choices=(0.5, 1.0, 2.0), ordered=True, default=2.0)),
        (2, Categorical(name="epochs", choices=(2,), ordered=True, default=2)),
    ],
)
def test_a_fraction_makes_epochs_real(given: Any, expected) -> None:
    parameter = loaded(epochs=given).space["epochs"]
    assert parameter == expected
    assert type(parameter.default) is type(expected.default)


def test_epochs_are_above_zero() -> None:
    with pytest.raises(InvalidInputError, match="It must be above 0"):
        loaded(epochs={"low": 0, "high": 2.5})


def test_the_amount_of_a_run() -> None:
    assert [examples_of(config, 50) for config in ({}, {"train_samples": 20}, {"train_samples": 99})] == [
        50,
        20,
        50,
    ]
    assert [samples_seen(epochs, 10) for epochs in (0.01, 0.25, 0.3, 2, 2.5)] == [1, 3, 3, 20, 25]
    assert [optimizer_steps(epochs, 10, 4) for epochs in (0.01, 0.5, 1, 2, 2.5)] == [1, 2, 3, 6, 8]
    assert optimizer_steps(0.1 + 0.2, 1000, 10) == 30, "rounding adds no example"
