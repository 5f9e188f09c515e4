"""Parameters of their own for the encoder and the decoder."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.sampler.candidates import EncodedSpace
from search_spaces.errors import InvalidInputError
from search_spaces.language.loader import LoadedSpace, load_space
from search_spaces.language.yaml_io import dump_yaml, parse_yaml
from search_spaces.model.shape import ModelShape
from tests.support.shapes import BERT, lora
from tests.support.tiny_models import shape_of

T5 = shape_of("t5", "regression")


NO_LOFTQ = {"lora.init": "loftq corrects the error of quantized weights, and these are not quantized"}


def sided(spec: object, names: tuple[str, ...] = ("lora",), shape: ModelShape | None = T5) -> LoadedSpace:
    return load_space({"families": list(names), "parameters": spec}, shape=shape)


def test_each_side_has_parameters_of_its_own() -> None:
    entries = {
        "lora.layers": {"sides": True},
        "lora.rank": {"high": 16, "sides": {"decoder": {"profile": True}}},
        "lora.targets": {"sides": {"encoder": "q", "decoder": ["q+v", "cross-attention", "gate"]}},
    }
    loaded = sided(entries)
    space = loaded.space
    default = space.default()
    assert {name: default[name] for name in space.names if ".encoder" in name or ".decoder" in name} == {
        "lora.targets.encoder": "q",
        "lora.targets.decoder": "q+v",
        "lora.layers.encoder": T5.encoder_depth,
        "lora.layers.decoder": T5.decoder_depth,
        "lora.rank.encoder": 8,
        "lora.rank.decoder.level": 8,
        "lora.rank.decoder.slope": 0.0,
        "lora.rank.decoder.bump": 0.0,
    }
    assert "lora.layers" not in space
    assert loaded.narrowed == {
        **NO_LOFTQ,
        "lora.targets.decoder": "gate matches no module in the decoder of a t5",
    }
    assert load_space(parse_yaml(dump_yaml(loaded.spec)), shape=T5).space == space
    lines = ["lora.layers.encoder <= 1", "lora.rank.decoder.level <= 8"]
    spec = {"families": ["lora"], "parameters": entries, "constraints": lines}
    assert len(load_space(spec, shape=T5).constraints) == 2


def test_one_side_may_have_no_layer_but_not_both() -> None:
    space = sided({"lora.layers": {"sides": True}}).space
    rng = np.random.default_rng(0)
    seen = {
        (config["lora.layers.encoder"], config["lora.layers.decoder"])
        for config in (space.sample(rng) for _ in range(400))
    }
    assert seen == {(e, d) for e in range(4) for d in range(3)} - {(0, 0)}
    columns = EncodedSpace(space)
    rows = columns.configurations(columns.random(400, rng))
    assert all(not space.problems(config) for config in rows)
    nowhere = {**space.default(), "lora.layers.encoder": 0, "lora.layers.decoder": 0}
    assert space.problems(nowhere) == ["lora.layers: every switch is off; turn one on"]


def test_a_model_of_one_stack_has_no_sides() -> None:
    loaded = sided({"lora.layers": {"sides": True}, "lora.rank": {"high": 16, "sides": True}}, shape=BERT)
    said = "one for both sides, because a bert has one stack"
    assert loaded.narrowed == {**NO_LOFTQ, "lora.layers": said, "lora.rank": said}
    assert loaded.space["lora.layers"] == lora({}, shape=BERT).space["lora.layers"]
    assert loaded.space.default()["lora.rank"] == 8


@pytest.mark.parametrize(
    ("entries", "shape", "where", "what"),
    [
        ({"lora.layers": {"sides": 3}}, None, "lora.layers.sides", "not true or a mapping of sides"),
        (
            {"lora.layers": {"sides": {"middle": 3}}},
            None,
            "lora.layers.sides",
            "Write true, or overrides per side",
        ),
        ({"lora.dropout": {"sides": True}}, None, "lora.dropout.sides", "unknown field"),
        ({"lora.rank": {"sides": {"decoder": 0}}}, None, "lora.rank.sides.decoder", "out of range"),
        ({"lora.rank": {"sides": {"decoder": {"sides": True}}}}, None, "lora.rank.sides.decoder", "once"),
        ({"lora.layers": {"sides": {"decoder": 3}}}, "t5", "lora.layers", "3 layers of a decoder with 2"),
        ({"lora.rank": {"sides": {"decoder": 2}}}, "bert", "lora.rank.sides", "a bert has one stack"),
    ],
)
def test_bad_sides(entries: object, shape: str | None, where: str, what: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        sided(entries, shape={"t5": T5, "bert": BERT, None: None}[shape])
    (problem,) = error.value.problems
    assert problem.where == f"parameters.{where}"
    assert what in f"{problem.what} | {problem.fix}"
