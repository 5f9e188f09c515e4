"""The costs of many configurations at once are those of each alone, for every family and preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import pytest

from search_spaces.costs.batched import AdapterGroups, CostTable
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY, AdapterCost, Family
from search_spaces.families.lora import Lora
from search_spaces.language.loader import load_space, preset_names
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Configuration, TopLayers, Value
from tests.support.tiny_models import MAIN, pairs, shape_of

UNEVEN = Workload(tokens=12.7, tokens_square=183.3, train_samples=1999, batch_size=24)


def model(name: str, task: str) -> CostModel:
    shape = shape_of(name, task)  # type: ignore[arg-type]
    return CostModel(shape, shape.task, UNEVEN)


def drawn(shape: ModelShape, spec: object, count: int) -> list[Configuration]:
    space = load_space(spec, shape=shape).space  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    return [*space.defaults(), *(space.sample(rng) for _ in range(count))]


def assert_equal_to_calls(costs: CostModel, configs: list[Configuration]) -> None:
    """Exactly, in every field."""
    table = costs.many(configs)
    assert len(table) == len(configs)
    ones = [costs(config) for config in configs]
    for field in fields(CostTable):
        assert getattr(table, field.name).tolist() == [getattr(one, field.name) for one in ones], field.name


@pytest.mark.parametrize("name", REGISTRY)
def test_every_family_on_every_main_architecture(name: str) -> None:
    """With a range of layers and with a mask of them."""
    layers = [knob.name for knob in REGISTRY[name].parameters if isinstance(knob, TopLayers)]
    masks = {f"{name}.{knob}": {"mask": True} for knob in layers}
    for architecture, task in pairs():
        if architecture not in MAIN or REGISTRY[name].unsupported(shape_of(architecture, task), task):
            continue
        costs = model(architecture, task)
        for parameters in ({}, masks):
            spec = {"families": [name], "parameters": parameters}
            assert_equal_to_calls(costs, drawn(costs.shape, spec, 60))


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("t5", "sequence-classification"),
        ("deberta", "sequence-classification"),
        ("vit", "image-classification"),
    ],
)
def test_architectures_with_more_than_tokens_and_layers(architecture: str, task: str) -> None:
    """Two stacks, relative positions, patches."""
    costs = model(architecture, task)
    families = [
        name for name in REGISTRY if REGISTRY[name].unsupported(costs.shape, costs.shape.task) is None
    ]
    masks = {f"{n}.layers": {"mask": True} for n in ("lora", "ia3", "ssf", "norm")}
    for parameters in ({}, masks):
        assert_equal_to_calls(
            costs, drawn(costs.shape, {"families": families, "parameters": parameters}, 200)
        )


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset(preset: str) -> None:
    costs = model("bert", "sequence-classification")
    assert_equal_to_calls(costs, drawn(costs.shape, preset, 400))


def test_configurations_that_leave_things_out() -> None:
    costs = model("gpt2", "causal-lm")
    configs: list[Configuration] = [
        {"family": "lora"},
        {"family": "lora", "lora.rank": 2, "epochs": 2.5},
        {"family": "lora", "lora.rank": 2, "lora.dora": True, "batch_size": 8, "prefix.tokens": 3},
        {"family": "prefix"},
        {"family": "lora"},
    ]
    assert_equal_to_calls(costs, configs)
    assert len(costs.many([])) == 0


@pytest.mark.parametrize("config", [{"family": "loro"}, {"lora.rank": 4}])
def test_a_wrong_family_is_refused_as_in_a_call(config: Configuration) -> None:
    costs = model("bert", "regression")
    with pytest.raises(ValueError, match=r"^family: ") as alone:
        costs(config)
    with pytest.raises(ValueError, match=r"^family: ") as among:
        costs.many([{"family": "lora"}, config])
    assert str(alone.value) == str(among.value)


# --- grouping


def test_training_knobs_make_no_groups() -> None:
    groups = AdapterGroups(shape_of("bert", "regression"))
    configs: list[Configuration] = [
        {"family": "lora", "lora.rank": r, "lora.learning_rate": r * rate, "epochs": 3, "lora.dropout": 0.1}
        for r in (2, 4)
        for rate in (1e-4, 1e-3)
    ]
    assert groups.indices(configs).tolist() == [0, 0, 1, 1]
    assert [cost.parameters for cost in groups.costs] == [
        REGISTRY["lora"].cost({"rank": r}, shape_of("bert", "regression")).parameters for r in (2, 4)
    ]


def test_a_knob_counts_only_where_it_is_read() -> None:
    """LoRA's dropout costs something with DoRA alone."""
    groups = AdapterGroups(shape_of("bert", "regression"))
    configs: list[Configuration] = [
        {"family": "lora", "lora.rank": 4, "lora.dora": dora, "lora.dropout": dropout}
        for dora in (False, True)
        for dropout in (0.0, 0.1)
    ]
    assert groups.indices(configs).tolist() == [0, 0, 1, 2]


def test_masks_with_the_same_lowest_layer_and_number_share_a_group() -> None:
    groups = AdapterGroups(shape_of("bert", "regression"))

    def masked(*switches: bool) -> Configuration:
        return {"family": "lora", **{f"lora.layers.{i}": on for i, on in enumerate(switches)}}

    found = groups.indices(
        [
            masked(True, True, False),
            masked(True, False, True),
            masked(False, True, True),
            {"family": "lora", "lora.layers": 2},
        ]
    )
    assert found.tolist() == [0, 0, 1, 1]


class Strange(Family):
    """Reads in ways that the built-in families do not: iterates, asks for presence, indexes, and branches."""

    name = "strange"
    title = "strange"
    parameters = ()

    def unsupported(self, shape: ModelShape, task: str) -> None:
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        if "short" in config:
            return AdapterCost(int(config["short"]), 0)
        return AdapterCost(sum(len(name) * int(value) for name, value in config.items()) + len(config), 0)

    def peft_config(self, config: object, shape: object, task: object) -> None:
        return None


def test_a_family_may_read_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "strange", Strange())
    rng = np.random.default_rng(0)
    configs: list[Configuration] = []
    for _ in range(200):
        config: Configuration = {"family": "strange"}
        for knob in ("short", "longer", "longest"):
            if rng.random() < 0.5:
                config[f"strange.{knob}"] = int(rng.integers(3))
        configs.append(config)
    assert_equal_to_calls(model("bert", "regression"), configs)


def test_a_missing_knob_is_missing_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strict(Lora):
        name = "strict"

        def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
            return AdapterCost(int(config["rank"]), 0)

    monkeypatch.setitem(REGISTRY, "strict", Strict())
    with pytest.raises(KeyError, match="rank"):
        model("bert", "regression").many([{"family": "strict"}])


def test_families_whose_costs_are_hardly_ever_alike_are_no_longer_grouped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counting starts again after a hundred new configurations; a family with few costs is unaffected."""
    monkeypatch.setitem(REGISTRY, "strange", Strange())
    groups = AdapterGroups(shape_of("bert", "regression"), patience=50)
    configs: list[Configuration] = [{"family": "strange", "strange.short": size} for size in (*range(100), 3)]
    assert groups.indices(configs).tolist() == list(range(101))
    assert groups.costs[100] == groups.costs[3]
    again: list[Configuration] = [{"family": "prompt", "prompt.tokens": 1 + size % 3} for size in range(200)]
    assert len(set(groups.indices(again).tolist())) == 3


def test_sides_of_an_encoder_decoder() -> None:
    costs = model("t5", "sequence-classification")
    sides = {"lora.layers": {"sides": True}, "lora.rank": {"sides": {"decoder": {"profile": True}}}}
    sides |= {
        "composite.lora.targets": {"subset": True, "sides": True},
        "norm.layers": {"mask": True, "sides": True},
    }
    spec = {"families": ["lora", "composite", "norm"], "parameters": sides}
    assert_equal_to_calls(costs, drawn(costs.shape, spec, 400))


def test_many_of_a_space_whose_costs_are_hardly_ever_alike() -> None:
    costs = model("t5", "sequence-classification")
    assert_equal_to_calls(costs, drawn(costs.shape, "composite", 1_500))
