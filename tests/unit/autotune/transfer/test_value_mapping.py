"""Configurations of one space in another: relative depth, roles, ranges, forms, and what is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from autotune.transfer.value_mapping import Changes, NotCarriedError, SpaceMapping, without_repeats
from search_spaces.language.loader import load_space
from search_spaces.model.shape import ModelShape
from tests.support.shapes import BERT, FUSED

LORA = {"families": ["lora", "ia3"]}
DEEP = replace(BERT, depth=8)


def mapping(
    there: Mapping[str, Any], here: Mapping[str, Any] = LORA, shape: ModelShape = BERT, old: ModelShape = BERT
) -> SpaceMapping:
    loaded = load_space(there, shape=shape)
    return SpaceMapping(load_space(here).spec, old, loaded.spec, loaded.space, shape)


def source(spec: Mapping[str, Any] = LORA, shape: ModelShape = BERT, **values: Any) -> dict[str, Any]:
    fixed = {name.replace("__", "."): value for name, value in values.items()}
    return load_space(spec, shape=shape).space.default(**{"family": "lora", **fixed})


def test_an_equal_space_changes_nothing() -> None:
    changes, config = Changes(), source(lora__rank=3, lora__learning_rate=1e-4)
    assert mapping(LORA).map(config, changes) == config
    assert changes == Changes()


def test_layers_keep_their_relative_depth_and_fused_matrices_their_role() -> None:
    found = mapping(LORA, shape=DEEP).map(source(lora__layers=2), Changes())
    assert found["lora.layers"] == 4
    subset = {"families": ["lora"], "parameters": {"lora.targets": {"subset": True}}}
    config = source(subset)
    config |= {name: name == "lora.targets.v" for name in config if name.startswith("lora.targets.")}
    found = mapping(subset, subset, FUSED).map(config, Changes())
    assert [name for name, on in found.items() if name.startswith("lora.targets.") and on] == [
        "lora.targets.qkv"
    ]


def test_numbers_outside_the_ranges_are_clipped_and_counted() -> None:
    there = {
        "families": ["lora"],
        "parameters": {"lora.rank": {"high": 4}, "lora.learning_rate": {"low": 1e-3}, "batch_size": [8, 16]},
    }
    changes, to = Changes(), mapping(there)
    for rank in (2, 16):
        found = to.map(source(lora__rank=rank, lora__learning_rate=1e-4, batch_size=64), changes)
        assert (found["lora.rank"], found["batch_size"]) == (min(rank, 4), 16)
        assert found["lora.learning_rate"] == pytest.approx(1e-3)
    said = "; ".join(changes.sentences(2))
    assert "lora.rank of 1 clipped to 4" in said
    assert "batch_size of 2 clipped to 16" in said
    assert "lora.learning_rate of 2 clipped to 0.001" in said


def test_missing_parameters_take_defaults_and_further_ones_are_dropped() -> None:
    more = {"families": ["lora"], "parameters": {"optimizer": ["adamw", "lion"]}}
    changes = Changes()
    found = mapping(more).map(source(), changes)
    assert found["optimizer"] == load_space(more, shape=BERT).space["optimizer"].default
    assert "defaults fill in optimizer" in changes.sentences(1)[0]
    changes = Changes()
    assert "optimizer" not in mapping(LORA, more).map(source(more), changes)
    assert changes.sentences(1) == ["without optimizer, which this space lacks"]


@pytest.mark.parametrize(
    ("there", "values", "reason"),
    [
        ({"families": ["lora"]}, {"family": "ia3"}, "use ia3, which this space lacks"),
        (
            {"families": ["lora"], "parameters": {"lora.dora": False}},
            {"lora__dora": True},
            "have lora.dora on",
        ),
        (
            {"families": ["lora"], "parameters": {"lora.init": ["kaiming"]}},
            {"lora__init": "olora"},
            "lora.init olora",
        ),
    ],
)
def test_what_has_no_counterpart_is_left_out_with_a_reason(there: Any, values: Any, reason: str) -> None:
    changes = Changes()
    with pytest.raises(NotCarriedError, match=reason):
        mapping(there).map(source(**values), changes)
    assert changes == Changes()


def test_layers_targets_and_ranks_take_the_forms_of_the_new_space() -> None:
    structured = {
        "families": ["lora"],
        "parameters": {
            "lora.layers": {"mask": True},
            "lora.targets": {"subset": True},
            "lora.rank": {"profile": True},
        },
    }
    plain = source(lora__layers=1, lora__targets="q+v", lora__rank=4)
    found = mapping(structured).map(plain, Changes())
    on = [name for name, value in found.items() if value is True]
    assert on[:3] == ["lora.targets.q", "lora.targets.v", "lora.layers.3"]
    assert found["lora.rank.level"] == 4
    back = mapping(LORA, structured).map(found, Changes())
    assert {name: back[name] for name in ("lora.layers", "lora.targets", "lora.rank")} == {
        "lora.layers": 1,
        "lora.targets": "q+v",
        "lora.rank": 4,
    }


def test_equal_configurations_are_grouped_in_order() -> None:
    assert without_repeats([{"a": 1}, {"a": 2}, {"a": 1}]) == [[0, 2], [1]]
