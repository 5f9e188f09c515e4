"""The language of spaces: inclusions, conditions, constraints, and the forms of a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import Problem
from search_spaces.families import REGISTRY
from search_spaces.language.conditions import sort_by_dependency
from search_spaces.language.constraints import Comparison, Constraint, read_constraints
from search_spaces.language.includes import merged
from search_spaces.language.loader import load_space
from search_spaces.language.yaml_io import dump_yaml, parse_yaml
from search_spaces.parameters.centered import REACH, UNITS_PER_SCALE, Centered
from search_spaces.parameters.structured import RankProfile, TargetSubset, rank_at, selected_targets
from search_spaces.parameters.types import Categorical, Float, Int, LayerRange, adapted_layers
from search_spaces.space import SearchSpace
from tests.support.shapes import BERT, FUSED, lora, problems

# --- include


def test_an_inclusion_is_a_start_that_later_lines_change() -> None:
    plain = load_space("lora-plain").space
    loaded = load_space({"include": "lora-plain", "parameters": {"lora.scale": 1.0, "batch_size": [8, 16]}})
    assert loaded.space["lora.scale"].distribution().choices == (1.0,)  # type: ignore[attr-defined]
    assert loaded.space["batch_size"].distribution().choices == (8, 16)  # type: ignore[attr-defined]
    assert loaded.space["lora.targets"] == plain["lora.targets"]
    assert "include" not in loaded.spec
    assert load_space(loaded.spec).space == loaded.space


def test_fields_of_one_parameter_add_up_over_inclusions(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("families: [lora]\nparameters: {lora.rank: {high: 32, default: 32}}\n")
    (tmp_path / "b.yaml").write_text("include: a.yaml\nparameters: {lora.rank: {low: 4}, epochs: 2}\n")
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "c.yaml").write_text("include: [../b.yaml, head.yaml]\nparameters: {lora.rank: {high: 16}}\n")
    (folder / "head.yaml").write_text("families: head\nconstraints: trainable_params <= 1%\n")
    loaded = load_space(folder / "c.yaml")
    rank = loaded.space["lora.rank"]
    assert isinstance(rank, Int)
    assert (rank.low, rank.high, rank.default) == (4, 16, 16)
    assert loaded.spec["families"] == ["lora", "head"]
    assert loaded.spec["constraints"] == ["trainable_params <= 1%"]
    assert load_space({"include": "deep/c.yaml"}, folder=tmp_path).space == loaded.space


def test_families_beside_an_inclusion_replace_its_own() -> None:
    loaded = load_space({"include": "tiny-adapters", "families": ["lora", "ia3"]})
    assert loaded.spec["families"] == ["lora", "ia3"]
    assert not [name for name in loaded.space.names if name.startswith(("prefix", "prompt"))]
    rank = loaded.space["lora.rank"]
    assert isinstance(rank, Int)
    assert rank.high == 4
    everything = load_space({"include": ["everything", "lora"]})
    assert everything.spec["families"] == list(REGISTRY)


def test_a_part_without_families_is_checked_with_the_whole(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        "constraints: [trainable_params <= 0.5%]\nparameters: {lora.rank: 4}\n"
    )
    loaded = load_space({"include": ["lora", "small.yaml"]}, folder=tmp_path)
    assert list(map(str, loaded.constraints)) == ["trainable_params <= 0.5%"]
    (tmp_path / "wrong.yaml").write_text("parameters: [lora.rank]\n")
    found = problems({"include": ["lora", "wrong.yaml"]}, folder=tmp_path)
    assert "is not a mapping" in found["include[1]: parameters"]
    assert "missing" in problems({"include": "small.yaml"}, folder=tmp_path)["families"]


def test_problems_of_inclusions_say_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("families: [lora]\nparameters: {lora.rnk: 3}\n")
    found = problems({"include": ["a.yaml", "lorra", 3, "none.yaml"], "family": []}, folder=tmp_path)
    assert found["include[0]: parameters.lora.rnk"] == "unknown parameter | Did you mean 'lora.rank'?"
    assert "Did you mean 'lora'?" in found["include[1]"]
    assert "not a name" in found["include[2]"]
    assert "no such file" in found[f"include[3]: {tmp_path / 'none.yaml'}"]
    assert "Did you mean 'families'?" in found["family"]


def test_a_circle_of_inclusions_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("include: b.yaml\nfamilies: [lora]\n")
    (tmp_path / "b.yaml").write_text("include: [lora, a.yaml]\n")
    assert list(problems({"include": "lorra"})) == ["include"]
    (text,) = problems(tmp_path / "a.yaml").values()
    assert "includes itself" in text
    assert "a.yaml -> " in text


@pytest.mark.parametrize(
    ("earlier", "later", "together"),
    [
        ({"low": 1}, {"high": 4}, {"low": 1, "high": 4}),
        ({"low": 1, "high": 64, "default": 8}, {"high": 4}, {"low": 1, "high": 4, "default": 4}),
        ({"low": 1, "high": 64, "default": 8}, {"low": 9}, {"low": 9, "high": 64, "default": 9}),
        ({"low": 1, "log": True}, [1, 2], [1, 2]),
        ({"low": 1, "when": {"a": 1}}, 3, {"choices": [3], "when": {"a": 1}}),
        ([1, 2], {"low": 1}, {"low": 1}),
        ([1, 2], {"default": 2}, {"choices": [1, 2], "default": 2}),
        (3, {"when": {"a": 1}}, {"choices": [3], "when": {"a": 1}}),
        ({"mask": True}, {"range": True}, {"range": True}),
        ({"low": 1, "high": 9, "log": True}, {"profile": True}, {"low": 1, "high": 9, "profile": True}),
        ({"profile": True}, {"high": 9}, {"profile": True, "high": 9}),
        ({"low": 1}, {"center": 2, "scale": 1}, {"center": 2, "scale": 1}),
        ({"center": 2, "scale": 1}, {"scale": 2, "kind": "log"}, {"center": 2, "scale": 2, "kind": "log"}),
        (None, {"low": 1}, {"low": 1}),
        ({"low": 1}, None, None),
    ],
)
def test_two_entries_of_one_parameter(earlier: object, later: object, together: object) -> None:
    assert merged(earlier, later) == together


# --- conditions


def test_a_condition_decides_when_a_parameter_exists() -> None:
    loaded = lora({"lora.scale": {"low": 1.0, "when": {"lora.dora": True}}, "lora.dora": [False, True]})
    space = loaded.space
    assert space.names.index("lora.dora") < space.names.index("lora.scale")
    assert "lora.scale" in space.default(**{"lora.dora": True})
    assert "lora.scale" not in space.default(**{"lora.dora": False})
    assert loaded.spec["parameters"]["lora.scale"]["when"] == {"lora.dora": [True]}
    assert load_space(parse_yaml(dump_yaml(loaded.spec))).space == space


def test_conditions_reach_across_families_and_choices() -> None:
    spec = {
        "families": ["lora", "ia3"],
        "parameters": {
            "lora.dropout": {"when": {"batch_size": [8, 16], "lora.targets": ["all", "attention"]}},
        },
    }
    space = load_space(spec, shape=BERT).space
    assert space["lora.dropout"].when == {
        "family": ("lora",), "batch_size": (8, 16), "lora.targets": ("all", "attention"),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(100):
        config = space.sample(rng)
        expected = (
            config["family"] == "lora"
            and config["batch_size"] in (8, 16)
            and config["lora.targets"] in ("all", "attention")
        )
        assert ("lora.dropout" in config) == expected


def test_a_condition_that_cannot_hold_removes_the_parameter() -> None:
    fixed = lora(
        {"lora.scale": {"when": {"lora.targets": "feed-forward"}}, "lora.targets": ["q+v", "feed-forward"]}
    )
    assert fixed.narrowed == {}
    only_up = replace(BERT, matrices=BERT.matrices[:4])
    loaded = load_space(fixed.spec, shape=only_up)
    assert "lora.scale" not in loaded.space
    assert "left out, because lora.targets" in loaded.narrowed["lora.scale"]
    assert loaded.spec == fixed.spec


@pytest.mark.parametrize(
    ("parameters", "where", "what"),
    [
        ({"lora.scale": {"when": True}}, "lora.scale.when", "True is not a condition"),
        ({"lora.scale": {"when": {}}}, "lora.scale.when", "{} is not a condition"),
        ({"lora.scale": {"when": {"lora.dra": 1}}}, "lora.scale.when.lora.dra", "Did you mean 'lora.dora'?"),
        ({"lora.scale": {"when": {"lora.dora": "yes"}}}, "lora.scale.when.lora.dora", "'yes' is not one of"),
        ({"lora.scale": {"when": {"lora.dora": []}}}, "lora.scale.when.lora.dora", "no value"),
        ({"lora.scale": {"when": {"lora.dropout": 0.1}}}, "lora.scale.when.lora.dropout", "no single values"),
        ({"lora.scale": {"when": {"lora.layers": 2}}}, "lora.scale.when.lora.layers", "no single values"),
        ({"lora.scale": {"when": {"lora.scale": 2}}}, "lora.scale.when.lora.scale", "depends on itself"),
        ({"lora.scale": {"when": {"family": "lora"}}}, "lora.scale.when.family", "already needs family"),
        ({"lora.scale": {"when": {"lora.rank": 65}}}, "lora.scale.when.lora.rank", "65 is outside 1 to 64"),
        ({"batch_size": {"when": {"lora.dora": True}}}, "batch_size.when", "every run needs batch_size"),
        ({"lora.learning_rate": {"when": {"lora.dora": True}}}, "lora.learning_rate.when", "every run needs"),
        ({"lora.rank": {"whn": {}}}, "lora.rank.whn", "unknown field | Did you mean 'when'?"),
    ],
)
def test_bad_conditions(parameters: dict[str, Any], where: str, what: str) -> None:
    assert what in problems({"families": ["lora"], "parameters": parameters})[f"parameters.{where}"]


def test_conditions_in_a_circle_and_between_families() -> None:
    circle = {"lora.rslora": {"when": {"lora.dora": True}}, "lora.dora": {"when": {"lora.rslora": True}}}
    (text,) = problems({"families": ["lora"], "parameters": circle}).values()
    assert "depend on each other in a cycle" in text
    apart = {"lora.scale": {"when": {"ia3.targets": "k+v"}}}
    (text,) = problems({"families": ["lora", "ia3"], "parameters": apart}).values()
    assert "it is never active where lora.scale is" in text
    found: list[Problem] = []
    ordered = sort_by_dependency(
        [Int(name="b", low=1, high=2, when={"a": (1,)}), Int(name="a", low=1, high=2)], found
    )
    assert [p.name for p in ordered] == ["a", "b"]
    assert not found


# --- constraints

PARAMETERS = {
    "lora.rank": Int(name="lora.rank", low=1, high=64, log=True),
    "lora.dora": Categorical(name="lora.dora", choices=(False, True)),
    "lora.targets": Categorical(name="lora.targets", choices=("q+v", "all")),
    "rate": Float(name="rate", low=1e-5, high=1e-1, log=True),
    "batch_size": Categorical(name="batch_size", choices=(8, 16), ordered=True),
}


def constraint(text: str) -> Constraint:
    found: list[Problem] = []
    (read,) = read_constraints(text, PARAMETERS, found)
    assert not found
    return read


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("trainable_params <= 0.5%", None),
        ("inference_flops<1e9", "inference_flops < 1000000000"),
        ("rate >= 2.5e-05", None),
        ("batch_size != 8", None),
        ("lora.rank <= 16 if lora.dora = true", None),
        ("train_flops <= 60% if lora.targets == q+v and rate < 0.01 and lora.rank > 2", None),
    ],
)
def test_constraints_are_read_and_written(text: str, written: str | None) -> None:
    read = constraint(text)
    assert str(read) == (written or text.replace("==", "="))
    assert constraint(str(read)) == read


def test_what_a_constraint_says() -> None:
    share = constraint("trainable_params <= 0.5%")
    assert (share.percent, share.limit) == (True, Comparison("trainable_params", "<=", 0.005))
    assert share.excess(0.01) == pytest.approx(1.0)
    assert share.excess(0.005) == 0
    assert share.excess(0.001) < 0
    rank = constraint("lora.rank <= 16 if lora.dora = true")
    assert rank.applies({"lora.rank": 4, "lora.dora": True})
    assert not rank.applies({"lora.rank": 4, "lora.dora": False})
    assert not rank.applies({"lora.rank": 4})
    assert not rank.applies({"lora.dora": True})


@pytest.mark.parametrize(
    ("op", "kept", "broken"),
    [
        ("<=", (1, 16), (17, 1000)),
        (">=", (16, 64), (1, 15)),
        ("<", (1, 15), (16, 17)),
        (">", (17, 64), (1, 16)),
        ("=", (16, 16), (15, 17)),
        ("!=", (15, 17), (16, 16)),
    ],
)
def test_excess_has_the_sign_of_the_comparison(
    op: str, kept: tuple[int, ...], broken: tuple[int, ...]
) -> None:
    read = constraint(f"lora.rank {op} 16")
    assert all(read.excess(value) <= 0 for value in kept)
    assert all(read.excess(value) > 0 for value in broken)
    assert read.excess(float("nan")) > 0


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("trainable_params", "is not a constraint | Write NAME OP NUMBER"),
        ("trainable_params <= many", "'many' is not a number"),
        ("trainable_params <= inf", "'inf' is not a number"),
        ("trainable_params <= -1", "never -1"),
        ("trainable_parms <= 1", "unknown name 'trainable_parms' | Did you mean 'trainable_params'?"),
        ("lora.rnk <= 1", "Did you mean 'lora.rank'?"),
        ("lora.rank <= 5%", "5% of lora.rank is not defined"),
        ("lora.dora <= 1", "the values of lora.dora are not numbers"),
        ("lora.rank <= 1 if dora", "'dora' is not a comparison"),
        ("lora.rank <= 1 if train_flops > 3", "'train_flops' is a cost, after if"),
        ("lora.rank <= 1 if lora.dora = on", "lora.dora is never 'on' | Use one of: false, true."),
        ("lora.rank <= 1 if lora.targets > q+v", "have no order"),
        ("lora.rank <= 1 if rate > much", "'much' is not a number, as rate is"),
        ("__import__('os') <= 1", "unknown name"),
        (3, "3 is not a line of text"),
    ],
)
def test_bad_constraints(text: object, what: str) -> None:
    found: list[Problem] = []
    assert read_constraints([text], PARAMETERS, found) == ()
    assert found[0].where == "constraints[0]"
    assert what in f"{found[0].what} | {found[0].fix}"


def test_a_space_carries_its_constraints() -> None:
    spec = {"families": ["lora"], "constraints": ["stored_bytes <= 4e6", "lora.layers <= 3"]}
    loaded = load_space(spec, shape=BERT)
    assert [c.name for c in loaded.constraints] == ["stored_bytes", "lora.layers"]
    assert load_space(loaded.spec).constraints == loaded.constraints
    assert "is not a list" in problems({"families": ["lora"], "constraints": {"a": 1}})["constraints"]
    parts = {"lora.layers": {"range": True}, "lora.rank": {"profile": True}, "lora.targets": {"subset": True}}
    lines = ["lora.layers.count <= 3", "lora.rank.level <= 8 if lora.targets.q = true"]
    assert len(load_space({"families": ["lora"], "parameters": parts, "constraints": lines}).constraints) == 2


# --- roles as switches


def test_a_subset_is_one_switch_a_role_of_the_model() -> None:
    space = lora({"lora.targets": {"subset": True}}, shape=BERT).space
    roles = [f"lora.targets.{role}" for role in ("q", "k", "v", "o", "up", "down")]
    assert [name for name in space.names if name.startswith("lora.targets")] == roles
    assert all(space.default()[name] for name in roles)
    fused = lora({"lora.targets": {"subset": ["q", "v", "o", "gate"], "default": "q"}}, shape=FUSED).space
    switches = {name: v for name, v in fused.default().items() if "targets" in name}
    assert switches == {"lora.targets.qkv": True, "lora.targets.o": False}
    config = {**fused.default(), "lora.targets.qkv": False}
    assert fused.problems(config) == ["lora.targets: every switch is off; turn one on"]
    rng = np.random.default_rng(0)
    assert all(not space.problems(space.sample(rng)) for _ in range(100))


def test_switches_are_read_back_as_targets() -> None:
    switched = {"targets.q": True, "targets.v": False, "targets.down": True}
    assert selected_targets(switched, "targets", "all") == "q+down"
    assert selected_targets({"targets": "k"}, "targets", "all") == "k"
    assert selected_targets({}, "targets", "all") == "all"
    family = REGISTRY["lora"]
    both = [{"targets": "q+down", "rank": 4}, {**switched, "rank": 4}]
    assert len({family.cost(config, BERT) for config in both}) == 1


# --- neighboring layers


def test_a_range_of_layers_is_a_count_and_a_start() -> None:
    loaded = lora({"lora.layers": {"range": True, "default": 2}}, shape=BERT)
    space = loaded.space
    assert space.default()["lora.layers.count"] == 2
    assert space.default()["lora.layers.start"] == 2
    assert LayerRange(name="x").bind(4)[1].default == 0
    for count, start, layers in ((2, 1, (1, 2)), (4, 0, (0, 1, 2, 3)), (3, 3, (1, 2, 3)), (1, 3, (3,))):
        assert adapted_layers({"layers.count": count, "layers.start": start}, "layers", 4) == layers
    assert load_space(loaded.spec, shape=BERT).space == space


# --- ranks over the layers


def test_a_profile_is_a_level_a_slope_and_a_bump() -> None:
    loaded = lora({"lora.rank": {"profile": True, "high": 32, "default": 4}}, shape=BERT)
    default = loaded.space.default()
    assert [default[f"lora.rank.{part}"] for part in ("level", "slope", "bump")] == [4, 0.0, 0.0]
    assert "lora.rank" not in loaded.space
    assert load_space(loaded.spec, shape=BERT).space == loaded.space
    assert RankProfile(name="r", low=16, high=32).bind(2)[0].default == 16


@pytest.mark.parametrize(
    ("level", "slope", "bump", "ranks"),
    [
        (8, 0, 0, (8, 8, 8, 8, 8)),
        (8, 1, 0, (4, 6, 8, 11, 16)),
        (8, 0, 2, (2, 10, 16, 10, 2)),
        (1, 0, 2, (1, 1, 2, 1, 1)),
        (64, 2, -2, (64, 27, 32, 64, 64)),
    ],
)
def test_the_ranks_of_a_profile(level: int, slope: float, bump: float, ranks: tuple[int, ...]) -> None:
    """By hand, at u = -1/2: slope 1 gives 8 · 2^-0.5 = 5.66; bump 2 gives 8 · 2^0.25 = 9.51; slope 2 with
    bump -2 gives 64 · 2^-1.25 = 26.9. The ends of the last are cut at the width of 64.
    """
    config = {"rank.level": level, "rank.slope": slope, "rank.bump": bump}
    assert tuple(rank_at(config, "rank", layer, 5, 64) for layer in range(5)) == ranks
    assert rank_at({"rank.level": level}, "rank", 0, 1, 64) == level


# --- a center and a scale


def test_a_centre_and_a_scale_in_place_of_bounds() -> None:
    entry = {"center": 3e-4, "scale": 0.5}
    rate = lora({"lora.learning_rate": entry}).space["lora.learning_rate"]
    assert isinstance(rate, Centered)
    assert (rate.kind, rate.default) == ("log", 3e-4)
    assert rate.low == pytest.approx(3e-8)
    assert rate.high == pytest.approx(3.0)
    rank = lora({"lora.rank": {"center": 8, "scale": 0.3, "high": 100}}).space["lora.rank"]
    assert isinstance(rank, Centered)
    assert (rank.whole, rank.low, rank.high, rank.default) == (True, 1, 100, 8)
    dropout = lora({"lora.dropout": {"center": 0.05, "scale": 0.5, "kind": "logit"}}).space["lora.dropout"]
    assert isinstance(dropout, Centered)
    assert dropout.high == 0.95
    for loaded in (lora({"lora.learning_rate": entry}), lora({"lora.rank": {"center": 8, "scale": 0.3}})):
        assert load_space(parse_yaml(dump_yaml(loaded.spec))).space == loaded.space


@pytest.mark.parametrize(
    ("name", "entry", "where", "what"),
    [
        ("lora.rank", {"center": 8}, ".scale", "missing"),
        ("lora.rank", {"scale": 1}, ".center", "missing"),
        ("lora.rank", {"center": 8, "scale": 0}, "", "scale 0.0 is not above 0"),
        ("lora.rank", {"center": 0, "scale": 1}, ".center", "0 is out of range"),
        ("lora.rank", {"center": 8, "scale": 1, "kind": "lg"}, ".kind", "Did you mean 'log'?"),
        ("lora.rank", {"center": 8, "scale": 1, "log": True}, ".log", "Write kind: log."),
        ("lora.rank", {"center": 8, "scale": 1, "high": 4}, "", "center 8 is outside 1 to 4"),
        ("lora.rank", {"center": "8", "scale": 1}, ".center", "'8' is not a number"),
        ("lora.dropout", {"center": 0, "scale": 1, "kind": "logit"}, "", "center 0.0 is outside 0 to 1"),
        ("lora.rank", {"profile": 1}, ".profile", "1 is not true or false"),
        ("lora.rank", {"profile": True, "log": True}, ".log", "a profile is logarithmic"),
        ("lora.rank", {"profile": True, "low": 0}, ".low", "0 is out of range"),
        ("epochs", {"profile": True}, ".profile", "unknown field"),
        ("lora.targets", {"subset": 1}, ".subset", "1 is not true or a list"),
        ("lora.targets", {"subset": []}, ".subset", "[] is not true or a list"),
        ("lora.targets", {"subset": ["qq"]}, ".subset", "unknown role 'qq'"),
        ("lora.targets", {"subset": True, "default": "z"}, ".default", "'z' names no roles"),
        ("schedule", {"subset": True}, ".subset", "unknown field"),
        ("lora.layers", {"range": 1}, ".range", "1 is not true or false"),
        ("lora.layers", {"range": True, "mask": True}, ".range", "it cannot be combined with a mask"),
        ("lora.layers", {"range": True, "high": 3}, ".high", "a range has a start and a count"),
    ],
)
def test_bad_forms(name: str, entry: Mapping[str, Any], where: str, what: str) -> None:
    found = problems({"families": ["lora"], "parameters": {name: entry}})
    assert what in found[f"parameters.{name}{where}"]


def test_a_subset_of_roles_that_the_model_lacks() -> None:
    spec = {"families": ["lora"], "parameters": {"lora.targets": {"subset": ["gate"]}}}
    assert "none of gate" in problems(spec, shape=BERT)["parameters.lora.targets.subset"]


def test_forms_can_be_switched_off_again() -> None:
    assert lora({"lora.rank": {"profile": False, "high": 4}}).space["lora.rank"].distribution().high == 4  # type: ignore[attr-defined]
    assert isinstance(lora({"lora.targets": {"subset": False}}).space["lora.targets"], Categorical)
    subset = lora({"lora.targets": {"subset": ["q"]}}).space["lora.targets"]
    assert subset == TargetSubset(
        name="lora.targets", roles=("q",), default="all", when={"family": ("lora",)}
    )


@st.composite
def centered(draw: st.DrawFn) -> Centered:
    kind = draw(st.sampled_from(["linear", "log", "logit"]))
    whole = kind != "logit" and draw(st.booleans())
    center = {"linear": st.floats(-100, 100), "log": st.floats(1e-4, 1e4), "logit": st.floats(1e-3, 0.999)}
    value = draw(st.integers(1, 500)) if whole else draw(center[kind])
    return Centered(name="x", center=value, scale=draw(st.floats(0.05, 3)), kind=kind, whole=whole)


@settings(deadline=None, max_examples=60)
@given(centered(), st.floats(-3, 4), st.integers(0, 2**32 - 1))
def test_centred_values_survive_their_encoding(parameter: Centered, unit: float, seed: int) -> None:
    low, high = parameter.unit_range
    assert low <= 0.5 <= high
    distribution = parameter.distribution()
    for value in (
        parameter.from_unit(unit),
        SearchSpace((parameter,)).sample(np.random.default_rng(seed))["x"],
        parameter.low,
        parameter.high,
    ):
        value = int(value) if parameter.whole else value
        assert parameter.problem(value) is None
        assert distribution._contains(distribution.to_internal_repr(value))
        back = parameter.from_unit(parameter.to_unit(value))
        assert back == (value if parameter.whole else pytest.approx(value, rel=1e-6, abs=1e-9))
        assert type(back) is type(value)


def test_one_scale_is_a_fixed_step_of_the_encoding_and_draws_fall_around_the_centre() -> None:
    rate = Centered(name="x", center=1e-3, scale=0.5, kind="log")
    assert rate.to_unit(1e-3) == pytest.approx(0.5)
    assert rate.to_unit(1e-2) - rate.to_unit(1e-3) == pytest.approx(2 * UNITS_PER_SCALE)
    assert rate.unit_range == pytest.approx((0.5 - REACH * UNITS_PER_SCALE, 0.5 + REACH * UNITS_PER_SCALE))
    rng = np.random.default_rng(0)
    scales = np.array([np.log10(SearchSpace((rate,)).sample(rng)["x"] / 1e-3) / 0.5 for _ in range(2000)])
    # Standard errors 0.022 and 0.016: five of them pass by chance with p = 6e-7.
    assert abs(scales.mean()) < 0.11
    assert abs(scales.std() - 1) < 0.08
    cut = Centered(name="x", center=0.1, scale=1.0, low=0.0)
    values = np.array([SearchSpace((cut,)).sample(rng)["x"] for _ in range(500)])
    assert (values == 0).sum() < 5


def test_a_centred_parameter_refuses_what_it_cannot_be() -> None:
    whole = Centered(name="x", center=8, scale=1.0, whole=True)
    assert whole.problem(8.0) is not None
    assert whole.problem(True) is not None
    assert whole.problem(1e9) is not None
    assert Centered(name="x", center=0.5, scale=1.0).problem("1") is not None
