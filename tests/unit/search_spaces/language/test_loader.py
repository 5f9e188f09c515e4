"""Search spaces from presets, files and mappings; what is wrong with them; and YAML as people mean it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import InvalidInputError
from search_spaces.families import REGISTRY
from search_spaces.language.loader import PRESETS, load_space, preset_names
from search_spaces.language.yaml_io import dump_yaml, load_yaml, parse_yaml, write_yaml
from search_spaces.parameters.training import TRAINING
from search_spaces.parameters.types import Categorical, Float, Int, LayerMask, TopLayers
from tests.support.shapes import BERT, FUSED, lora, problems

# --- presets


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_samples_and_survives_being_spelt_out(name: str) -> None:
    loaded = load_space(name, shape=replace(BERT, norms=()))
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert loaded.space.problems(loaded.space.sample(rng)) == []
    for default in loaded.space.defaults():
        assert loaded.space.problems(default) == []
    again = load_space(parse_yaml(dump_yaml(loaded.spec)), shape=BERT)
    assert again.space == loaded.space
    assert again.spec == loaded.spec
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    assert loaded.space.problems(loaded.space.suggest(trial)) == []


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_what_it_is_for(name: str) -> None:
    first = (PRESETS / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 40


def test_the_preset_everything_has_every_family() -> None:
    assert load_space("everything").spec["families"] == list(REGISTRY)


@pytest.mark.parametrize("family", list(REGISTRY))
def test_every_family_loads_on_its_own(family: str) -> None:
    space = load_space({"families": [family]}).space
    knobs = {f"{family}.{knob.name}" for knob in REGISTRY[family].parameters}
    assert set(space.names) == {"family"} | knobs | {p.name for p in TRAINING}
    assert all(space[name].when["family"] == (family,) for name in knobs)


def test_order_families_conditions_and_training() -> None:
    space = load_space({"families": ["ia3", "head"]}).space
    assert space["family"] == Categorical(name="family", choices=("ia3", "head"))
    assert space.names[0] == "family"
    assert space.names[-5:] == ("batch_size", "epochs", "weight_decay", "warmup", "schedule")
    assert "ia3.learning_rate" not in space.default(family="head")
    assert "head.learning_rate" in space.default(family="head")


def test_a_single_family_needs_no_list() -> None:
    assert load_space({"families": "lora"}).spec == load_space({"families": ["lora"]}).spec


# --- overrides


def test_a_range_keeps_its_scale_and_clips_its_default() -> None:
    assert lora({"lora.rank": {"high": 4}}).space["lora.rank"] == Int(
        name="lora.rank", low=1, high=4, log=True, default=4, when={"family": ("lora",)}
    )
    rank = lora({"lora.rank": {"low": 16, "high": 32, "default": 20}}).space["lora.rank"]
    assert (rank.default, rank.distribution().log) == (20, True)  # type: ignore[attr-defined]
    decay = lora({"weight_decay": {"low": 0, "high": 0.1, "log": False, "step": 0.05}}).space["weight_decay"]
    assert decay == Float(name="weight_decay", low=0, high=0.1, step=0.05, default=0.0)


def test_choices_in_place_of_a_range_are_ordered() -> None:
    rank = lora({"lora.rank": [16, 4, 1]}).space["lora.rank"]
    assert rank == Categorical(
        name="lora.rank", choices=(1, 4, 16), ordered=True, default=4, when={"family": ("lora",)}
    )
    rate = lora({"lora.learning_rate": {"choices": [1e-4, 1e-3], "default": 1e-3}}).space[
        "lora.learning_rate"
    ]
    assert (rate.default, rate.nominal) == (1e-3, False)
    assert lora({"batch_size": [128, 4]}).space["batch_size"].distribution().choices == (4, 128)  # type: ignore


def test_choices_without_order_keep_theirs() -> None:
    schedule = lora({"schedule": ["constant", "cosine"]}).space["schedule"]
    assert schedule == Categorical(name="schedule", choices=("constant", "cosine"), default="constant")
    assert lora({"schedule": {"default": "cosine"}}).space["schedule"].default == "cosine"
    assert lora({"lora.targets": ["q+v+down", "q+v", "all"]}).space["lora.targets"].default == "all"


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("batch_size", 16, 16),
        ("weight_decay", 0, 0.0),
        ("lora.dora", True, True),
        ("lora.rank", 8.0, 8),
        ("schedule", "cosine", "cosine"),
    ],
)
def test_a_scalar_fixes(name: str, given: Any, kept: Any) -> None:
    loaded = lora({name: given})
    values = {loaded.space.bind(4).sample(np.random.default_rng(i))[name] for i in range(10)}
    assert values == {kept}
    assert type(values.pop()) is type(kept)


def test_layers_as_number_range_choices_and_mask() -> None:
    assert isinstance(lora({}).space["lora.layers"], TopLayers)
    assert isinstance(lora({"lora.layers": {"mask": True}}).space["lora.layers"], LayerMask)
    layers = lora({"lora.layers": {"mask": True}}, shape=BERT).space
    assert [name for name in layers.names if name.startswith("lora.layers")] == [
        f"lora.layers.{i}" for i in range(4)
    ]
    assert lora({"lora.layers": {"low": 2, "high": 3}}, shape=BERT).space["lora.layers"].default == 3
    assert lora({"lora.layers": [1, 4]}, shape=BERT).space["lora.layers"].default == 4
    assert lora({"lora.layers": {"default": 2}}, shape=BERT).space["lora.layers"].default == 2
    for entry in (2, [1, 4], {"mask": True}, {"low": 2, "high": 3}, {"default": 2}):
        loaded = lora({"lora.layers": entry})
        assert load_space(loaded.spec).space == loaded.space
    found = problems({"families": ["lora"], "parameters": {"lora.layers": [2, 12]}}, shape=BERT)
    assert found == {"parameters.lora.layers": "selects 12 layers of a model with 4 | Use at most 4."}


@settings(deadline=None, max_examples=40)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "lora.rank": st.one_of(
                st.integers(1, 64),
                st.lists(st.integers(1, 300), min_size=1, max_size=4, unique=True),
                st.fixed_dictionaries({"low": st.integers(1, 9), "high": st.integers(9, 99)}),
            ),
            "lora.learning_rate": st.fixed_dictionaries({"high": st.floats(1e-4, 1)}),
            "lora.layers": st.sampled_from([{"mask": True}, 3, [1, 2], {"low": 1, "high": 2}]),
            "lora.dropout": st.sampled_from([0, 0.1, {"high": 0.1}, {"high": 0.5, "step": 0.25}]),
            "epochs": st.sampled_from([1, [1, 8], {"high": 9}]),
            "lora.targets": st.sampled_from(["all", ["q+v", "k"]]),
        },
    )
)
def test_whatever_is_overridden_is_spelt_out_in_full(overrides: dict[str, Any]) -> None:
    loaded = lora(overrides)
    again = load_space(parse_yaml(dump_yaml(loaded.spec)))
    assert again.space == loaded.space
    assert set(loaded.spec["parameters"]) == set(loaded.space.names) - {"family"}


# --- fitting to a model


def test_families_that_cannot_work_are_left_out_with_the_reason() -> None:
    loaded = load_space({"families": ["lora", "head"]}, shape=FUSED)
    assert list(loaded.left_out) == ["head"]
    assert "no head to train" in loaded.left_out["head"]
    assert loaded.space["family"] == Categorical(name="family", choices=("lora",))
    assert "head.learning_rate" not in loaded.space
    assert loaded.spec["families"] == [
        "lora",
        "head",
    ]  # the spec is what was asked, not what this model allows
    found = problems({"families": ["head"]}, shape=FUSED)
    assert "none works" in found["families"]


def test_targets_that_are_the_same_or_nothing_here_are_dropped() -> None:
    spec = {"families": ["lora"], "parameters": {"lora.targets": ["q+v", "k", "attention", "gate", "all"]}}
    loaded = load_space(spec, shape=FUSED)
    assert loaded.space["lora.targets"] == Categorical(
        name="lora.targets", choices=("q+v", "attention", "all"), default="all", when={"family": ("lora",)}
    )
    assert loaded.narrowed == {
        "lora.targets": "k is the same as q+v in a gpt2; gate matches no module in a gpt2",
        "lora.init": "loftq corrects the error of quantized weights, and these are not quantized",
    }
    assert load_space("lora", shape=BERT).narrowed == {}
    found = problems({"families": ["lora"], "parameters": {"lora.targets": "gate"}}, shape=BERT)
    assert "gate matches no module in a bert" in found["parameters.lora.targets"]


def test_the_default_moves_when_its_choice_goes() -> None:
    spec = {
        "families": ["lora"],
        "parameters": {"lora.targets": {"choices": ["gate", "q"], "default": "gate"}},
    }
    assert load_space(spec, shape=BERT).space["lora.targets"].default == "q"


# --- problems


def test_unknown_names_are_suggested() -> None:
    found = problems(
        {
            "families": ["lora", "iaa3"],
            "parametres": {},
            "parameters": {"lora.rnk": 8, "lora.rank": {"hihg": 3}},
        }
    )
    assert found == {
        "parametres": "unknown key | Did you mean 'parameters'?",
        "families[1]": "unknown family 'iaa3' | Did you mean 'ia3'?",
        "parameters.lora.rnk": "unknown parameter | Did you mean 'lora.rank'?",
        "parameters.lora.rank.hihg": "unknown field | Did you mean 'high'?",
    }
    assert "Did you mean 'lora'?" in problems("lorra")[""]
    assert (
        "Did you mean 'linear'"
        in problems({"families": ["lora"], "parameters": {"schedule": "linar"}}).popitem()[1]
    )


@pytest.mark.parametrize(
    ("name", "given", "where", "what"),
    [
        ("lora.rank", {"low": 100}, ".low", "low 100 is above high 64 | Give high as well: it is 64."),
        ("lora.rank", {"low": 9, "high": 2}, ".low", "low 9 is above high 2 | Swap them."),
        ("lora.rank", {"low": 0}, ".low", "0 is out of range | It must be 1 or more."),
        ("lora.rank", {"high": 8.5}, ".high", "8.5 is not a whole number | Write 8."),
        ("lora.rank", {"high": "8"}, ".high", "'8' is not a number | Write a number such as 8."),
        ("lora.rank", {"default": 65}, ".default", "65 is outside 1 to 64 | Move it inside."),
        ("lora.rank", {"step": 2}, ".step", "has no steps"),
        ("lora.rank", [1, 1], "", "a choice appears twice"),
        ("lora.rank", [], "", "[] is not a list of choices"),
        ("lora.rank", None, "", "empty"),
        ("lora.rank", True, "", "True is not a number"),
        ("lora.dropout", 1.5, "", "1.5 is out of range | It must be 0 or more, at most 0.95."),
        ("lora.learning_rate", {"low": 0}, ".low", "0 is out of range | It must be above 0, at most 10."),
        ("lora.dora", "yes", "", "'yes' is not a choice"),
        ("lora.targets", "q+z", "", "'q+z' is not a choice | Write attention, feed-forward, all, or roles"),
        ("lora.layers", {"mask": 1}, ".mask", "1 is not true or false"),
        ("lora.layers", {"low": 2}, ".low", "needs its high end"),
        ("lora.layers", {"mask": True, "high": 2}, ".high", "a mask has switches, not a range"),
        ("lora.layers", 0, "", "0 is out of range"),
        ("weight_decay", {"low": 0}, ".low", "0 has no logarithm"),
        ("weight_decay", {"log": "no"}, ".log", "'no' is not true or false"),
        ("warmup", {"high": 0.05}, ".high", "0 to 0.05 is not a multiple of step 0.02 | Use high 0.04."),
        ("warmup", {"step": 0}, ".step", "0 is not above 0"),
        (
            "schedule",
            {"choices": ["linear"], "default": "cosine"},
            ".default",
            "'cosine' is not among the choices",
        ),
        ("schedule", {"low": 1}, ".low", "unknown field"),
        ("lora.layers", {"low": 3, "high": 2}, ".low", "low 3 is above high 2"),
        ("lora.layers", {"low": 2, "high": 3, "default": 9}, "", "default 9 is outside 2 to 3"),
        ("lora.layers", {"high": 1.5}, ".high", "1.5 is not a whole number"),
        ("ia3.learning_rate", 1e-3, "", "family 'ia3' is not in the space | Add ia3 to families"),
        ("family", "lora", "", "cannot be set here"),
    ],
)
def test_bad_overrides_name_the_place_the_value_and_the_fix(
    name: str, given: Any, where: str, what: str
) -> None:
    found = problems({"families": ["lora"], "parameters": {name: given}})
    assert what in found[f"parameters.{name}{where}"]


@pytest.mark.parametrize(
    ("spec", "where", "what"),
    [
        ({}, "families", "missing"),
        ({"families": []}, "families", "[] is not a list"),
        ({"families": 3}, "families", "3 is not a list"),
        ({"families": ["lora", "lora"]}, "families[1]", "'lora' appears twice"),
        ({"families": ["lora"], "parameters": [1]}, "parameters", "[1] is not a mapping"),
    ],
)
def test_bad_specs(spec: Any, where: str, what: str) -> None:
    assert what in problems(spec)[where]


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("families: [lora]\nparameters: {lora.learning_rate: {low: 1e-4, high: 1e-3}}\n")
    assert load_space(path).space["lora.learning_rate"].distribution().low == 1e-4  # type: ignore[attr-defined]
    assert load_space(str(path)).spec == load_space(path).spec
    path.write_text("- lora\n")
    assert "does not contain a mapping" in problems(path)[str(path)]
    assert "no such file" in problems(tmp_path / "nothing.yaml")[str(tmp_path / "nothing.yaml")]


# --- YAML


def test_scalars_follow_yaml_1_2() -> None:
    text = "[1e-4, 1E5, .5, 5., no, on, 1:30, 2024-01-01, 007, 0x1f, true, ~, -.inf, '1e-4', +3]"
    expected = [
        1e-4,
        1e5,
        0.5,
        5.0,
        "no",
        "on",
        "1:30",
        "2024-01-01",
        7,
        31,
        True,
        None,
        float("-inf"),
        "1e-4",
        3,
    ]
    assert parse_yaml(text) == expected


@settings(deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.-1e", max_size=5), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_what_is_dumped_is_read_back_by_this_loader_and_by_pyyaml(value: Any) -> None:
    text = dump_yaml(value)
    assert parse_yaml(text) == value
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: not valid YAML: the key 'a' appears twice"),
        ("a: [1", "line 1"),
        ("a: b: c", "mapping values are not allowed here"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_bad_yaml_names_the_line(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match="not valid YAML") as error:
        parse_yaml(text, "x.yaml")
    assert message in str(error.value)
    assert "x.yaml" in str(error.value)


def test_merge_keys_work() -> None:
    assert parse_yaml("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}")["b"] == {"p": 1, "q": 3}


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        load_yaml(tmp_path / "x.yaml")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_yaml(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    write_yaml({"a": 1}, path, header="one\n\ntwo")
    assert path.read_text() == "# one\n#\n# two\na: 1\n" or path.read_text() == "# one\n#\n# two\n{a: 1}\n"
    with pytest.raises(yaml.representer.RepresenterError):
        write_yaml({"a": object()}, path)
    assert load_yaml(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.yaml"]
