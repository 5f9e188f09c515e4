"""Parameters and spaces: round trips, conditions, masks and errors, over random spaces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.parameters.types import (
    Categorical,
    Float,
    Int,
    LayerMask,
    Parameter,
    TopLayers,
    adapted_layers,
)
from search_spaces.space import SearchSpace

CONDITIONAL = SearchSpace(
    (
        Categorical(name="family", choices=("lora", "ia3", "head")),
        Int(name="lora.rank", low=1, high=64, log=True, default=8, when={"family": ("lora",)}),
        Categorical(name="lora.dora", choices=(False, True), when={"family": ("lora",)}),
        Float(
            name="lora.magnitude",
            low=0.1,
            high=10,
            log=True,
            when={"family": ("lora",), "lora.dora": (True,)},
        ),
        Float(name="rate", low=1e-5, high=1e-2, log=True, when={"family": ("lora", "ia3")}),
        Categorical(name="batch", choices=(8, 16, 32), ordered=True, default=16),
    )
)


@st.composite
def floats(draw: st.DrawFn) -> Float:
    log = draw(st.booleans())
    low = draw(st.floats(1e-6, 1e3) if log else st.floats(-1e3, 1e3))
    width = draw(st.floats(0, 1e3))
    if not log and draw(st.booleans()):
        step = draw(st.sampled_from([0.01, 0.1, 0.25, 2.0]))
        return Float(name="x", low=low, high=low + step * draw(st.integers(0, 40)), step=step)
    return Float(name="x", low=low, high=low + width, log=log)


@st.composite
def ints(draw: st.DrawFn) -> Int:
    log = draw(st.booleans())
    low = draw(st.integers(1, 100) if log else st.integers(-100, 100))
    step = 1 if log else draw(st.integers(1, 7))
    return Int(name="x", low=low, high=low + step * draw(st.integers(0, 60)), log=log, step=step)


@st.composite
def categoricals(draw: st.DrawFn) -> Categorical:
    choices: list[Any] = draw(
        st.lists(st.sampled_from(["a", "b", "c", "d", 1, 2, 4, 0.5]), min_size=1, unique=True)
    )
    return Categorical(name="x", choices=tuple(choices), ordered=draw(st.booleans()))


parameters = st.one_of(floats(), ints(), categoricals())


@settings(deadline=None, max_examples=50)
@given(parameters, st.integers(0, 2**32 - 1))
def test_values_survive_the_unit_interval(parameter: Parameter, seed: int) -> None:
    value = SearchSpace((parameter,)).sample(np.random.default_rng(seed))["x"]
    assert parameter.problem(value) is None
    back = parameter.from_unit(parameter.to_unit(value))
    if isinstance(value, float):
        assert back == pytest.approx(value, rel=1e-9, abs=1e-9)
    else:
        assert back == value
        assert type(back) is type(value)


@settings(deadline=None, max_examples=50)
@given(parameters, st.floats(-2, 3))
def test_any_number_decodes_to_a_valid_value(parameter: Parameter, unit: float) -> None:
    value = parameter.from_unit(unit)
    assert parameter.problem(value) is None
    if not parameter.nominal:
        assert -1e-9 <= parameter.to_unit(value) <= 1 + 1e-9


@settings(deadline=None, max_examples=50)
@given(parameters)
def test_the_unit_value_follows_the_order(parameter: Parameter) -> None:
    grid = [parameter.to_unit(parameter.from_unit(unit)) for unit in np.linspace(0, 1, 21)]
    if not parameter.nominal:
        assert grid == sorted(grid)


@settings(deadline=None, max_examples=50)
@given(parameters, st.integers(0, 2**32 - 1))
def test_optuna_draws_what_the_parameter_accepts(parameter: Parameter, seed: int) -> None:
    space = SearchSpace((parameter,))
    sampler = optuna.samplers.RandomSampler(seed=seed)
    trial = optuna.create_study(sampler=sampler).ask()
    config = space.suggest(trial)
    assert space.problems(config) == []
    assert config == trial.params


def test_every_value_that_decoding_gives_lies_in_optunas_range() -> None:
    for parameter in (
        Float(name="x", low=0.0, high=0.2, step=0.02),
        Float(name="x", low=5e-5, high=2e-3, log=True),
        Int(name="x", low=1, high=64, log=True),
        Int(name="x", low=2, high=11, step=3),
    ):
        distribution = parameter.distribution()
        for unit in np.linspace(0, 1, 101):
            value: Any = parameter.from_unit(float(unit))
            assert distribution._contains(distribution.to_internal_repr(value)), (parameter, value)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_encoding_round_trip_with_conditions(seed: int) -> None:
    config = CONDITIONAL.sample(np.random.default_rng(seed))
    assert CONDITIONAL.problems(config) == []
    encoded = CONDITIONAL.encode([config])
    assert encoded.shape == (1, 6)
    absent = {name for name, x in zip(CONDITIONAL.names, encoded[0], strict=True) if math.isnan(x)}
    assert absent == set(CONDITIONAL.names) - set(config)
    (back,) = CONDITIONAL.decode(encoded)
    assert back.keys() == config.keys()
    for name, value in config.items():
        assert back[name] == (pytest.approx(value) if isinstance(value, float) else value)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_every_point_of_the_cube_is_a_configuration(units: list[float]) -> None:
    config = CONDITIONAL.from_units(units)
    assert CONDITIONAL.problems(config) == []


def test_the_cube_gives_nominal_choices_equal_shares() -> None:
    families = [
        CONDITIONAL.from_units([u, 0.5, 0.5, 0.5, 0.5, 0.5])["family"] for u in np.arange(0.05, 1, 0.1)
    ]
    assert [families.count(f) for f in ("lora", "ia3", "head")] == [3, 4, 3]


@pytest.mark.parametrize(
    ("config", "active"),
    [
        ({"family": "head"}, {"family", "batch"}),
        ({"family": "ia3"}, {"family", "rate", "batch"}),
        ({"family": "lora", "lora.dora": False}, {"family", "lora.rank", "lora.dora", "rate", "batch"}),
        (
            {"family": "lora", "lora.dora": True},
            {"family", "lora.rank", "lora.dora", "lora.magnitude", "rate", "batch"},
        ),
    ],
)
def test_conditions_decide_what_exists(config: dict[str, Any], active: set[str]) -> None:
    assert CONDITIONAL.default(**config).keys() == active
    # decoding follows the conditions too, and fills columns that are missing with the defaults
    row = CONDITIONAL.encode([config])
    assert CONDITIONAL.decode(row)[0] == CONDITIONAL.default(**config)


def test_an_empty_list_encodes_to_no_rows() -> None:
    assert CONDITIONAL.encode([]).shape == (0, 6)
    assert CONDITIONAL.decode(np.empty((0, 6))) == []


def test_defaults_are_one_per_family() -> None:
    defaults = CONDITIONAL.defaults()
    assert [config["family"] for config in defaults] == ["lora", "ia3", "head"]
    assert defaults[0] == {
        "family": "lora",
        "lora.rank": 8,
        "lora.dora": False,
        "rate": defaults[0]["rate"],
        "batch": 16,
    }
    assert defaults[0]["rate"] == pytest.approx(math.sqrt(1e-5 * 1e-2))
    flat = SearchSpace((Int(name="n", low=1, high=3),))
    assert flat.defaults() == [{"n": 2}]


def test_problems_are_told_all_at_once() -> None:
    config: dict[str, Any] = {"family": "ia3", "lora.rank": 8, "rate": 1.0, "batch": 12, "bath": 8}
    with pytest.raises(ValueError, match="not a configuration") as error:
        CONDITIONAL.validate(config)
    text = str(error.value)
    assert "lora.rank: is inactive in this configuration (needs family in ['lora'])" in text
    assert "rate: 1.0 is outside 1e-05 to 0.01" in text
    assert "batch: 12 is not one of [8, 16, 32]" in text
    assert "bath: not a parameter of this space" in text
    assert "rate: missing" in "; ".join(CONDITIONAL.problems({"family": "ia3", "batch": 8}))


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf")])
def test_a_number_is_a_number(value: object) -> None:
    assert Float(name="x", low=0, high=2).problem(value) is not None
    assert Int(name="x", low=0, high=2).problem(value) is not None


def test_a_choice_keeps_its_type() -> None:
    switch = Categorical(name="x", choices=(False, True))
    assert switch.problem(True) is None
    assert switch.problem(1) is not None
    assert Categorical(name="x", choices=(0, 1)).problem(False) is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Float(name="x", low=2, high=1), "x: low 2 is above high 1"),
        (lambda: Float(name="x", low=0, high=1, log=True), "x: a logarithmic range needs low above 0"),
        (lambda: Float(name="x", low=0, high=math.inf), "is not finite"),
        (lambda: Int(name="x", low=1, high=3, default=4), "x: default 4 is outside 1 to 3"),
        (
            lambda: Int(name="x", low=1, high=9, step=2, default=4),
            "x: default 4 is not 1 plus a multiple of 2",
        ),
        (lambda: Categorical(name="x", choices=()), "x: it has no choices"),
        (lambda: Categorical(name="x", choices=("a", "a")), "x: a choice appears twice"),
        (lambda: Categorical(name="x", choices=("a",), default="b"), "x: default 'b' is not one of"),
    ],
)
def test_bad_parameters_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match="x: ") as error:
        make()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([Int(name="a", low=1, high=2)] * 2, "appears twice"),
        ([Int(name="a", low=1, high=2, when={"b": (1,)})], "not a parameter before it"),
        (
            [Int(name="b", low=1, high=2), Int(name="a", low=1, high=2, when={"b": (3,)})],
            "its condition on b: 3 is outside 1 to 2",
        ),
    ],
)
def test_bad_spaces_are_refused(parts: list[Parameter], message: str) -> None:
    with pytest.raises(ValueError, match="a: ") as error:
        SearchSpace(tuple(parts))
    assert message in str(error.value)


# --- layers


def test_top_layers_become_a_number() -> None:
    space = SearchSpace((TopLayers(name="layers"),)).bind(6)
    assert space["layers"] == Int(name="layers", low=1, high=6, default=6)
    assert SearchSpace((TopLayers(name="layers", default=9),)).bind(6).default() == {"layers": 6}
    assert adapted_layers({"layers": 2}, "layers", 6) == (4, 5)
    assert adapted_layers({}, "layers", 3) == (0, 1, 2)


def test_a_mask_becomes_switches_one_of_them_on() -> None:
    space = SearchSpace((LayerMask(name="layers"),)).bind(3)
    assert space.names == ("layers.0", "layers.1", "layers.2")
    assert space.default() == {"layers.0": True, "layers.1": True, "layers.2": True}
    config: dict[str, Any] = {"layers.0": False, "layers.1": True, "layers.2": False}
    assert space.problems(config) == []
    assert adapted_layers(config, "layers", 3) == (1,)
    assert space.problems(dict.fromkeys(space.names, False)) == ["layers: every switch is off; turn one on"]
    # one in eight uniform draws would be empty: 200 draws without one happen by chance with p = 2.5e-12
    rng = np.random.default_rng(0)
    assert all(any(space.sample(rng).values()) for _ in range(200))


@pytest.mark.parametrize("kind", [TopLayers, LayerMask])
def test_unbound_layers_say_what_to_do(kind: type[TopLayers]) -> None:
    space = SearchSpace((kind(name="layers"),))
    for use in (
        space.distributions,
        lambda: space.encode([{"layers": 1}]),
        lambda: space.problems({"layers": 1}),
        lambda: space.suggest(optuna.create_study().ask()),
    ):
        with pytest.raises(ValueError, match=r"layers.*bind\(depth\)"):
            use()


# --- optuna


def test_a_space_from_distributions_gives_them_back() -> None:
    distributions = {
        "f": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
        "s": optuna.distributions.FloatDistribution(0.0, 1.0, step=0.1),
        "i": optuna.distributions.IntDistribution(1, 9, step=2),
        "c": optuna.distributions.CategoricalDistribution(("a", "b")),
    }
    space = SearchSpace.from_distributions(distributions)
    assert space.distributions() == distributions
    assert space.nominal.tolist() == [False, False, False, True]
