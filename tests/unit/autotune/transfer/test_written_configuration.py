"""Configurations of `try`: every written form becomes the concrete configuration, and mistakes are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from autotune.transfer.written_configuration import ConfigurationReader, Written
from search_spaces.errors import Problem
from search_spaces.language.loader import load_space
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape
from tests.support.shapes import BERT

PLAIN = {"families": ["lora", "ia3", "head"], "parameters": {"lora.rank": {"low": 1, "high": 16}}}
STRUCTURED = {
    "families": ["lora"],
    "parameters": {
        "lora.layers": {"mask": True},
        "lora.targets": {"subset": True},
        "lora.rank": {"profile": True},
    },
}
BOTH = replace(
    BERT,
    model_type="t5",
    depth=6,
    decoder_depth=2,
    matrices=(*BERT.matrices, *(Matrix(m.role, f"d.{m.name}", 32, 32, True, stack=1) for m in BERT.matrices)),
)
"""An encoder of four layers below a decoder of two."""


def read(
    raw: Mapping[str, Any], spec: Mapping[str, Any] = PLAIN, shape: ModelShape = BERT, **options: Any
) -> tuple[Written | None, list[Problem]]:
    loaded = load_space(spec, shape=shape)
    problems: list[Problem] = []
    reader = ConfigurationReader(loaded.spec, loaded.space, shape, **options)
    return reader.read(raw, "try[0]", problems), problems


def config_of(raw: Mapping[str, Any], spec: Mapping[str, Any] = PLAIN, shape: ModelShape = BERT) -> Any:
    written, problems = read(raw, spec, shape)
    assert written is not None, problems
    assert load_space(spec, shape=shape).space.problems(written.config) == []
    return written.config


def test_what_is_not_written_takes_the_default_and_is_named() -> None:
    written, _ = read({"family": "lora", "lora.rank": 2, "lora.learning_rate": 1e-3})
    assert written is not None
    default = load_space(PLAIN, shape=BERT).space.default(family="lora")
    assert written.config == {**default, "lora.rank": 2, "lora.learning_rate": 1e-3}
    assert set(written.filled) == set(default) - {"family", "lora.rank", "lora.learning_rate"}


@pytest.mark.parametrize(
    "raw", [{"lora.rank": 2}, {"lora": {"rank": 2}}, {"family": "lora", "lora.rank": 2.0}]
)
def test_nested_names_and_the_family_that_names_imply(raw: dict[str, Any]) -> None:
    config = config_of(raw)
    assert (config["family"], config["lora.rank"]) == ("lora", 2)
    assert type(config["lora.rank"]) is int


def switches(name: str, config: Mapping[str, Any]) -> list[str]:
    stem = f"lora.{name}."
    return [key.removeprefix(stem) for key, on in config.items() if key.startswith(stem) and on]


@pytest.mark.parametrize(
    ("written", "layers"),
    [
        (2, ["2", "3"]),
        ([0, 2], ["0", "2"]),
        ("0, 2-3", ["0", "2", "3"]),
        ("1–2", ["1", "2"]),
        ("all", ["0", "1", "2", "3"]),
        ({"1": True}, ["1"]),
        ({"1": False}, ["0", "2", "3"]),
    ],
)
def test_layers_of_a_mask(written: object, layers: list[str]) -> None:
    assert switches("layers", config_of({"lora.layers": written}, STRUCTURED)) == layers


@pytest.mark.parametrize(
    ("written", "roles"),
    [("q+v", ["q", "v"]), (["v", "q"], ["q", "v"]), ("feed-forward", ["up", "down"]), ({"q": True}, ["q"])],
)
def test_targets_of_a_subset(written: object, roles: list[str]) -> None:
    assert switches("targets", config_of({"lora.targets": written}, STRUCTURED)) == roles


def test_a_rank_is_a_profile_that_is_the_same_in_every_layer() -> None:
    config = config_of({"lora.rank": 4}, STRUCTURED)
    assert [config[f"lora.rank.{part}"] for part in ("level", "slope", "bump")] == [4, 0, 0]
    config = config_of({"lora.rank": {"level": 4, "slope": 1}}, STRUCTURED)
    assert [config[f"lora.rank.{part}"] for part in ("level", "slope", "bump")] == [4, 1, 0]


def test_targets_in_another_order_are_the_choice_with_the_same_matrices() -> None:
    assert config_of({"lora.targets": ["v", "q"]})["lora.targets"] == "q+v"


@pytest.mark.parametrize("written", ["2-3", [2, 3], {"count": 2, "start": 2}, 2])
def test_a_range_of_layers(written: object) -> None:
    spec = {"families": ["lora"], "parameters": {"lora.layers": {"range": True}}}
    config = config_of({"lora.layers": written}, spec)
    assert (config["lora.layers.count"], config["lora.layers.start"]) == (2, 2)


def test_one_value_for_both_sides_or_one_for_each() -> None:
    spec = {"families": ["lora"], "parameters": {"lora.layers": {"sides": True}}}
    for written, numbers in ((1, (1, 1)), ({"encoder": 3, "decoder": 0}, (3, 0)), ("all", (4, 2))):
        config = config_of({"lora.layers": written}, spec, BOTH)
        assert (config["lora.layers.encoder"], config["lora.layers.decoder"]) == numbers


@pytest.mark.parametrize(
    ("raw", "where", "said"),
    [
        ({"lora.rnk": 8}, "lora.rnk", "Did you mean 'lora.rank'?"),
        ({"family": "lroa"}, "family", "Did you mean 'lora'?"),
        ({"epochs": 1}, "family", "Write family: lora, or another of lora, ia3, head."),
        ({"lora.rank": 64}, "lora.rank", "64 is outside 1 to 16"),
        ({"lora.rank": "8"}, "lora.rank", "'8' is not a whole number"),
        ({"lora.rank": True}, "lora.rank", "True is not a whole number"),
        ({"lora.dropout": 0.07}, "lora.dropout", "Write 0.05."),
        ({"family": "head", "lora.rank": 4}, "lora.rank", "It needs family: lora"),
        ({"lora.rank": 4, "lora": {"rank": 4}}, "lora.rank", "is given twice"),
        ({"lora.layers": [0, 1]}, "lora.layers", "are not the uppermost ones"),
        ({"lora.layers": "first"}, "lora.layers", "'first' names no layers"),
        ({"lora.targets": "q+z"}, "lora.targets", "Did you mean 'q+v'?"),
        ({"family": "lora", "batch_size": 17}, "batch_size", "17 is not one of"),
    ],
)
def test_a_mistake_is_named_with_its_path(raw: dict[str, Any], where: str, said: str) -> None:
    written, problems = read(raw)
    assert written is None
    assert [problem.where for problem in problems] == [f"try[0].{where}"]
    assert said in str(problems[0])


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"lora.layers": 9}, "selects 9 layers of a model with 4"),
        ({"lora.layers": "2-9"}, "does not fit a model whose layers are 0 to 3"),
        ({"lora.targets": "q+nothing"}, "nothing"),
        ({"lora.layers": {str(i): False for i in range(4)}}, "every switch is off"),
    ],
)
def test_a_mistake_in_a_structured_parameter(raw: dict[str, Any], said: str) -> None:
    written, problems = read(raw, STRUCTURED)
    assert written is None
    assert said in str(problems[0])


def test_a_family_that_the_model_cannot_have_is_named() -> None:
    shape = replace(BERT, accepts_prefix=False)
    for raw in ({"family": "prefix"}, {"family": "lora", "prefix.tokens": 8}):
        _, problems = read(raw, {"families": ["lora", "prefix"]}, shape)
        assert "prefix does not work on this model" in str(problems[0])


def test_a_broken_limit_is_refused_with_its_value() -> None:
    written, problems = read(
        {"family": "lora"}, broken_limits=lambda config: f"breaks it with {config['lora.rank']}"
    )
    assert written is None
    assert problems[0].where == "try[0]"
    assert "breaks it with 8" in problems[0].what


@pytest.mark.parametrize("spec", [PLAIN, STRUCTURED])
@pytest.mark.parametrize(
    "value",
    [None, [], ["lora"], [[1]], [None], [{"a": 1}], {"a": {"b": 1}}, {"rank": [1]}, (1, 2), b"x", "0-9999999999",
     "3-1", 10**400, float("nan"), float("inf"), ""],
)  # fmt: skip
def test_a_value_of_any_type_is_read_or_a_problem(spec: Any, value: Any) -> None:
    names = load_space(spec, shape=BERT).space.names
    for name in (*names, "family", "lora", "lora.layers", "lora.targets", "lora.rank", "nope", ""):
        for raw in ({name: value}, {"family": "lora", name: value}):
            written, problems = read(raw, spec)
            assert (written is None) == bool(problems)
            assert all(problem.what and problem.fix for problem in problems)
            if written is not None:
                assert load_space(spec, shape=BERT).space.problems(written.config) == []
