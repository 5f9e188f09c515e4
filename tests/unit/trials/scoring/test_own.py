"""The user's own scores: what a function receives, and what it may return and state."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import InvalidInputError
from trials.kinds.generation import Generated
from trials.kinds.kind import Metric, Scoring
from trials.kinds.registry import find_kind
from trials.reading.labels import TargetScale
from trials.reading.tables.rows import Rows
from trials.scoring.own import (
    OwnScoreError,
    answers_of,
    call,
    generated_answers,
    is_reference,
    stated_metrics,
)
from trials.tasks.own_code import OwnCode, digest, is_installed, load

LOGITS = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
COLUMNS = (np.zeros(3), LOGITS, np.array([0.0, 1.0, 0.0]))
ROWS = Rows.of([{"a": "x", "b": 1}, {"a": "y", "b": 2}, {"a": "z", "b": 3}])


@pytest.fixture(autouse=True)
def _no_own_modules() -> Iterator[None]:
    yield
    sys.modules.pop("own_file", None)
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "module", None) != "own_file"]


def test_files_import_each_other_and_are_imported_again_if_one_changes(tmp_path: Path) -> None:
    (tmp_path / "own_file.py").write_text("import own_help\n\ndef score(*_):\n    return own_help.VALUE\n")
    try:
        for value in (1, 2):
            (tmp_path / "own_help.py").write_text(f"VALUE = {value}\n")
            code = tuple(OwnCode.read(tmp_path / name) for name in ("own_file.py", "own_help.py"))
            assert load("own_file:score", code)() == value
            assert load("own_file:score", code) is load("own_file:score", code)
    finally:
        sys.modules.pop("own_help", None)
        sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "module", None) != "own_help"]


@pytest.mark.parametrize("name", ["accuracy", "a:", ":f", "a.b", "a b:f", "./a.py:f", "a:f.g", None, 3])
def test_other_names_are_no_references(name: object) -> None:
    assert not is_reference(name)
    assert is_reference("package.module:function")


def test_a_classification_hands_out_texts_and_the_names_of_classes() -> None:
    seen: list[object] = []

    def function(*arguments: object) -> float:
        seen.extend(arguments)
        return 1

    scoring = Scoring(classes=(0, 1), names=("bad", "good"), task={"text": ("a",)})
    kind = find_kind("sequence-classification")
    assert call(function, "m:f", *answers_of(kind, COLUMNS, [{}] * 3, ROWS, scoring)) == {"m:f": 1.0}
    assert seen == [["x", "y", "z"], ["bad", "good", "good"], ["bad", "good", "bad"]]


def test_a_regression_hands_out_numbers_and_pairs_of_texts() -> None:
    def function(texts: list[object], predictions: list[float], references: list[float]) -> dict[str, float]:
        assert texts[0] == ("x", 1)
        return {"bias": np.float32(predictions[0] - references[0])}

    columns = (np.zeros(3), np.array([2.0, 0.0, 0.0]), np.array([0.5, 0.0, 0.0]))
    examples = [{"labels": 0.5}, {"labels": 0.0}, {"labels": 0.0}]
    scoring = Scoring(target_scale=TargetScale(mean=10.0, deviation=2.0), task={"text": ("a", "b")})
    found = call(function, "m:f", *answers_of(find_kind("regression"), columns, examples, ROWS, scoring))
    assert found == {"bias": 3.0}


def test_a_tagging_hands_out_lists_of_tags() -> None:
    def function(words: list[list[str]], predictions: list[list[str]], references: list[list[str]]) -> float:
        assert words == [["x"], ["y", "z"]]
        assert (predictions, references) == ([["O"], ["B-a", "O"]], [["O"], ["B-a", "B-a"]])
        return 0.5

    examples = [{"tags": [0], "words": [0]}, {"tags": [1, 1], "words": [0, 1]}]
    columns = (np.ones(2), np.zeros(2), np.array([[-100, 0, -100], [-100, 1, 0]]))
    rows = Rows({"w": [["x"], ["y", "z"]]})
    scoring = Scoring(names=("O", "B-a"), task={"text": ("w",)})
    kind = find_kind("token-classification")
    assert call(function, "m:f", *answers_of(kind, columns, examples, rows, scoring)) == {"m:f": 0.5}


def test_generated_texts_are_predictions() -> None:
    generated = [Generated(0, "2 + 2 =", " 4", "4"), Generated(3, "1 + 1 =", " 3", "2")]
    assert generated_answers(generated) == (["2 + 2 =", "1 + 1 ="], [" 4", " 3"], ["4", "2"])


def test_a_kind_without_answers_is_refused() -> None:
    columns = (np.ones(3), np.ones(3), np.ones(3))
    with pytest.raises(OwnScoreError, match="no answers unless it generates text"):
        answers_of(find_kind("causal-lm"), columns, [{}] * 3, ROWS, Scoring())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (math.nan, "returned nan as 'm:f'"),
        ({"a": 1.0, "b": math.inf}, "returned inf as 'b'"),
        ("good", "returned 'good', not a number"),
        (None, "not a number"),
        (True, "not a number"),
        ({"a": "x"}, "'a': 'x', not a number"),
        ({1: 0.5}, "not a number or a mapping"),
        (np.ones(2), "not a number"),
    ],
)
def test_only_finite_numbers_are_scores(returned: object, message: str) -> None:
    with pytest.raises(OwnScoreError, match=message):
        call(lambda: returned, "m:f")


def test_an_exception_is_named_with_the_function() -> None:
    with pytest.raises(OwnScoreError, match="m:f raised ZeroDivisionError: division by zero"):
        call(lambda: 1 / 0, "m:f")


def test_attributes_state_direction_and_bounds() -> None:
    def function() -> None: ...

    assert stated_metrics(function, "m:f") == {}
    function.direction, function.best = "maximize", 1.0  # type: ignore[attr-defined]
    assert stated_metrics(function, "m:f") == {"m:f": Metric("maximize", 1.0)}
    function.direction, function.best = {"a": "minimize", "b": "maximize"}, {"a": 0}  # type: ignore[attr-defined]
    assert stated_metrics(function, "m:f") == {"a": Metric("minimize", 0), "b": Metric("maximize", None)}
    function.direction = "up"  # type: ignore[attr-defined]
    with pytest.raises(OwnScoreError, match="'up', not maximize or minimize"):
        stated_metrics(function, "m:f")


def test_code_of_a_file_is_imported_from_its_text(tmp_path: Path) -> None:
    file = tmp_path / "own_file.py"
    file.write_text("def score():\n    return 1\n")
    code = OwnCode.read(file)
    file.unlink()  # a worker on another machine has the text only
    assert load("own_file:score", (code,))() == 1
    other = code.model_copy(update={"text": "def score():\n    return 2\n"})
    assert load("own_file:score", (other,))() == 2
    assert digest("own_file:score", (code,)) != digest("own_file:score", (other,))
    with pytest.raises(OwnScoreError, match="no function 'loss'"):
        load("own_file:loss", (code,))


def test_code_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    file = tmp_path / "own_file.py"
    file.write_text("raise RuntimeError('no luck')\n")
    with pytest.raises(OwnScoreError, match="cannot be imported \\(RuntimeError: no luck\\)"):
        load("own_file:score", (OwnCode.read(file),))


@pytest.mark.parametrize(
    ("name", "message"),
    [("json.py", "has the name of the module 'json'"), ("my-score.py", "not the name of a Python module")],
)
def test_names_of_files_that_no_module_can_have_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(InvalidInputError, match=message):
        OwnCode.read(tmp_path / name)


def test_a_module_in_the_working_directory_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_file.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert is_installed("own_file")
    monkeypatch.chdir(tmp_path)
    assert not is_installed("own_file")
    with pytest.raises(OwnScoreError, match="no file of this name is given"):
        load("own_file:score", ())
    assert "own_file" not in sys.modules
