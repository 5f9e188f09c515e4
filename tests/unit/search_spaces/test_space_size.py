"""Counting a space against listing it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune.sampler.candidates import enumerate_configurations
from search_spaces.language.loader import load_space
from search_spaces.parameters.types import Categorical, Float, Int, LayerMask, Parameter, TopLayers
from search_spaces.space import SearchSpace
from search_spaces.space_size import count
from search_spaces.space_size import list_configurations as all_of
from tests.support.configuration_keys import config_key

SWITCH = (False, True)


def listed(space: SearchSpace) -> int:
    every = enumerate_configurations(space)
    assert every is not None
    return len({tuple(sorted(config.items())) for config in every})


def family(*names: str) -> Categorical:
    return Categorical(name="family", choices=names)


def test_a_parameter_alone() -> None:
    assert count(SearchSpace(())).configurations == 1
    assert count(SearchSpace((family("a", "b", "c"),))).configurations == 3
    assert count(SearchSpace((Int(name="x", low=2, high=10, step=3),))).configurations == 3
    assert count(SearchSpace((Int(name="x", low=1, high=64, log=True),))).configurations == 64
    assert count(SearchSpace((Float(name="x", low=0.0, high=0.2, step=0.02),))).configurations == 11
    assert count(SearchSpace((Float(name="x", low=0.5, high=0.5),))).configurations == 1


def test_what_is_inactive_does_not_multiply() -> None:
    """2 · 3 with a, and 5 with b."""
    space = SearchSpace(
        (
            family("a", "b"),
            Int(name="a.x", low=1, high=2, when={"family": ("a",)}),
            Int(name="a.y", low=1, high=3, when={"family": ("a",)}),
            Int(name="b.x", low=1, high=5, when={"family": ("b",)}),
        )
    )
    assert count(space).configurations == 2 * 3 + 5
    assert count(space, fixed={"family": "b"}).configurations == 5
    assert count(space, ignore=("a.y",)).configurations == 2 + 5
    assert count(space, ignore=("family",)).configurations == 1


def test_continuous_parameters_are_named() -> None:
    space = SearchSpace(
        (
            family("a", "b"),
            Float(name="a.rate", low=1e-4, high=1e-2, log=True, when={"family": ("a",)}),
            Int(name="b.x", low=1, high=5, when={"family": ("b",)}),
        )
    )
    size = count(space)
    assert (size.combinations, size.continuous, size.configurations) == (6, ("a.rate",), None)
    assert count(space, fixed={"family": "b"}).configurations == 5
    assert count(space, fixed={"a.rate": 1e-3}).configurations == 6


@pytest.mark.parametrize("depth", [1, 3, 12, 24])
def test_a_mask_leaves_out_all_off(depth: int) -> None:
    space = SearchSpace((LayerMask(name="layers"), Int(name="k", low=0, high=10))).bind(depth)
    assert count(space).configurations == 11 * (2**depth - 1)


def test_autopefts_space() -> None:
    """Three sizes of eleven values and a switch a layer: 11³ · (2¹² − 1), of the paper's "5.45 M"."""
    sizes = tuple(Int(name=name, low=0, high=10) for name in ("serial", "parallel", "prefix"))
    space = SearchSpace((*sizes, LayerMask(name="layers")))
    assert count(space.bind(12)).configurations == 11**3 * (2**12 - 1) == 5_450_445
    assert count(space.bind(24)).configurations == 11**3 * (2**24 - 1)


def test_a_switch_may_decide_what_else_exists() -> None:
    """Every layer that is on has a size of its own: (1 + 4)³ less the one with all off."""
    masked = SearchSpace((LayerMask(name="layers"),)).bind(3)
    sizes = tuple(Int(name=f"size.{i}", low=1, high=4, when={f"layers.{i}": (True,)}) for i in range(3))
    space = SearchSpace((*masked.parameters, *sizes), masks=("layers",))
    assert count(space).configurations == 5**3 - 1 == listed(space)


def test_a_mask_under_a_condition() -> None:
    mask = LayerMask(name="a.layers", when={"family": ("a",)})
    space = SearchSpace((family("a", "b"), mask)).bind(4)
    assert count(space).configurations == 15 + 1 == listed(space)


def test_a_preset_by_hand() -> None:
    """lora-plain without its continuous rates: 2 targets · layers · 64 ranks · 5 epochs."""
    space = load_space("lora-plain").space.bind(6)
    size = count(space)
    assert size.combinations == 2 * 6 * 64 * 5
    assert size.continuous == ("lora.learning_rate",)


def test_what_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match=r"^layers: call SearchSpace.bind\(depth\) before counting"):
        count(SearchSpace((TopLayers(name="layers"),)))
    parent = Float(name="x", low=0.0, high=1.0)
    child = Int(name="y", low=1, high=2, when={"x": (0.5,)})
    with pytest.raises(ValueError, match=r"^x: a condition names single values"):
        count(SearchSpace((parent, child)))
    with pytest.raises(ValueError, match=r"^fixed\.family: 'c' is not one of"):
        count(SearchSpace((family("a", "b"),)), fixed={"family": "c"})


def test_a_long_space_is_counted_at_once() -> None:
    """Forty layers in each of two families: listing them would outlast the reader."""
    space = SearchSpace(
        (family("a", "b"), *(LayerMask(name=f"{f}.layers", when={"family": (f,)}) for f in ("a", "b")))
    ).bind(40)
    assert count(space).configurations == 2 * (2**40 - 1)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Up to six small parameters, each with up to two conditions on earlier ones, and a mask or none."""
    parameters: list[Parameter] = []
    for index in range(draw(st.integers(1, 6))):
        when = {}
        for parent in draw(st.lists(st.sampled_from(parameters), max_size=2)) if parameters else []:
            assert isinstance(parent, Categorical)
            when[parent.name] = tuple(
                draw(st.lists(st.sampled_from(parent.choices), min_size=1, max_size=2, unique=True))
            )
        choices = draw(st.sampled_from([("u",), ("u", "v"), ("u", "v", "w")]))
        parameters.append(Categorical(name=f"p{index}", choices=choices, when=when))
    if draw(st.booleans()):
        parent = draw(st.sampled_from(parameters))
        masked = LayerMask(name="m", when={parent.name: ("u",)})
        return SearchSpace((*parameters, masked)).bind(draw(st.integers(1, 3)))
    return SearchSpace(tuple(parameters))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(spaces())
def test_counted_is_listed(space: SearchSpace) -> None:
    assert count(space).configurations == listed(space)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(spaces())
def test_every_configuration_is_listed_once(space: SearchSpace) -> None:
    every = enumerate_configurations(space)
    found = all_of(space, 10_000)
    assert every is not None
    assert found is not None
    assert sorted(map(config_key, found)) == sorted(map(config_key, every))


def test_long_lists_are_not_made() -> None:
    space = SearchSpace((Int(name="x", low=1, high=100), Float(name="y", low=0.0, high=1.0, default=0.3)))
    assert all_of(space, 99) is None
    found = all_of(space, 100)
    assert found is not None
    assert found[0] == {"x": 1, "y": 0.3}
    assert len(found) == 100
