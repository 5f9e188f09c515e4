"""The choices of the base model in a sweep file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from autotune.sweep.comparison import search_differences
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.errors import InvalidInputError
from trials.tasks.model_spec import ModelSpec, model_labels


def test_the_last_choice_is_the_sweeps_own_model():
    spec = ModelSpec.model_validate({"choices": ["small", "models/base"]})
    assert (spec.name, spec.layers) == ("models/base", None)
    assert spec.smaller == ("small",)
    assert ModelSpec.model_validate({"name": "big", "choices": ["25%", "100%"]}).layers is None
    half = ModelSpec.model_validate({"name": "big", "choices": ["25%", "50%"]})
    assert (half.name, half.layers) == ("big", "50%")
    assert ModelSpec.model_validate(half.model_dump()) == half


def test_a_configuration_names_its_model_by_a_short_label():
    spec = ModelSpec.model_validate({"choices": ["/a/models/small", "/a/models/base"], "precision": "fp32"})
    assert spec.choice_of({"model": "small"}) == "/a/models/small"
    assert spec.choice_of({"model": "base"}) is None
    assert spec.choice_of({"family": "lora"}) is None
    chosen = spec.chosen_by({"model": "small"})
    assert (chosen.name, chosen.precision, chosen.choices) == ("/a/models/small", "fp32", None)
    half = ModelSpec.model_validate({"name": "big", "revision": "v1", "choices": ["50%", "100%"]})
    assert half.chosen_by({"model": "50%"}) == ModelSpec(name="big", revision="v1", layers="50%")
    assert half.chosen_by({"model": "100%"}) == ModelSpec(name="big", revision="v1")
    with pytest.raises(InvalidInputError, match=r"'tiny' is not one of the choices \(small, base\)"):
        spec.choice_of({"model": "tiny"})


def test_labels_have_as_few_parts_as_tell_them_apart():
    assert model_labels(["25%", "100%"]) == ["25%", "100%"]
    assert model_labels(["/a/x/model", "/a/y/model"]) == ["x/model", "y/model"]
    assert model_labels(["/a/x/model", "/b/x/model"]) == ["a/x/model", "b/x/model"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"choices": ["small"]}, "at least two models"),
        ({"choices": ["small", "small"]}, "'small' is there already"),
        ({"choices": ["small", 3]}, "3 is no model"),
        ({"choices": ["0%", "100%"], "name": "big"}, "'0%' is no share of the layers"),
        ({"choices": ["25%", "100%"]}, "missing beside shares of layers"),
        ({"name": "other", "choices": ["small", "base"]}, "'other' is not the last choice, 'base'"),
        ({"name": "big", "choices": ["big", "50%"]}, "Write 100% instead"),
        ({"name": "big", "layers": "50%", "choices": ["25%", "100%"]}, "'50%' is given beside choices"),
        ({"name": "big", "layers": "half"}, "'half' does not fit"),
    ],
)
def test_a_wrong_choice_names_the_field_and_the_fix(section, message):
    with pytest.raises((InvalidInputError, ValidationError), match=message):
        ModelSpec.model_validate(section)


def sweep_with(model: object, folder: Path, **changes: object):
    (folder / "train.tsv").write_text("text\tlabel\nyes\t1\nno\t0\n")
    task = {"train": "train.tsv", "text": "text", "label": "label"}
    given = {"name": "s", "model": model, "task": task, "budget": {"trials": 3}, **changes}
    return parse_sweep(given, folder)


def test_choices_are_relative_to_the_folder_of_the_file(tmp_path):
    for name in ("small", "base"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    found = sweep_with({"choices": ["./small", "./base"]}, tmp_path).model
    assert found.choices == (str(tmp_path / "small"), str(tmp_path / "base"))
    assert found.name == str(tmp_path / "base")
    with pytest.raises(InvalidInputError, match=r"model.choices\[0\].*there is no folder"):
        sweep_with({"choices": ["./tiny", "./base"]}, tmp_path)


def test_models_are_either_rungs_or_choices(tmp_path):
    ladder = {"of": "base", "bases": ["25%"]}
    with pytest.raises(InvalidInputError, match=r"ladder.of: base: models cannot be rungs and choices"):
        sweep_with({"name": "big", "choices": ["25%", "100%"]}, tmp_path, ladder=ladder)


def test_a_moved_folder_has_the_same_choices(tmp_path):
    there = sweep_with({"choices": ["hub/small", "hub/base"]}, tmp_path)
    moved = sweep_with({"choices": ["other/small", "other/base"]}, tmp_path)
    assert "model.choices[0]" in search_differences(there, moved)
    assert "model.choices[0]" not in search_differences(there, moved, compare_paths=False)
