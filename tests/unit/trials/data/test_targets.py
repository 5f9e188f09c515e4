"""The class that f1 scores, the scale of a regression, and the data that carry both."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import InvalidInputError
from trials.data.labels import find_positive, fit_target_scale, warn_of_constant_f1
from trials.data.notes import Notes
from trials.data.task_data import load_task, resolved_task
from trials.reading.labels import TargetScale
from trials.reading.tables.rows import Rows
from trials.tasks.specs import ROWS_APART, ModelSpec, TaskSpec
from trials.training.evaluation import without_model


def rows(*labels: object) -> Rows:
    return Rows({"text": [f"text {i}" for i in range(len(labels))], "label": labels})


def positive(classes: tuple[object, ...], *labels: object, **fields: object) -> tuple[int | None, Notes]:
    task, notes = TaskSpec(text="text", label="label", **fields), Notes()
    return find_positive(labels, task, classes, notes), notes


def scale(*targets: float, **fields: object) -> TargetScale | None:
    task = TaskSpec(type="regression", text="text", label="label", **fields)
    return fit_target_scale({"train": rows(*targets)}, task, Notes())


# --- the positive class


def test_the_rarer_of_two_classes_is_positive() -> None:
    found, notes = positive(("fraud", "legit"), *["fraud"] + ["legit"] * 19)
    assert found == 0
    assert notes.facts == ["f1: scores class 'fraud' (5.0% of train); task.positive names another class"]
    assert positive(("ham", "spam"), "ham", "ham", "spam")[0] == 1


def test_of_equally_frequent_classes_the_second_is_positive() -> None:
    assert positive((0, 1), 0, 1, 1, 0)[0] == 1


def test_more_classes_have_no_default() -> None:
    assert positive(("a", "b", "c"), "a", "b", "c") == (None, Notes())


def test_the_first_version_has_no_default() -> None:
    assert positive((0, 1), 0, 1, 1, data_version=ROWS_APART) == (None, Notes())


@pytest.mark.parametrize(
    ("classes", "name", "index"),
    [
        (("fraud", "legit"), "legit", 1),
        (("a", "b", "c"), "b", 1),
        ((0, 1), 1, 1),
        ((0, 1), "0", 0),
        ((0.0, 1.0), 1, 1),
        (("0", "1"), 1, 1),
        ((False, True), True, 1),
        ((False, True), "true", 1),
        (("FALSE", "TRUE"), True, 1),
        (("no", "yes"), "yes", 1),
        ((Decimal("0.5"), Decimal("1.5")), 1.5, 1),
    ],
)
def test_a_named_class_is_found_by_its_text(classes, name, index) -> None:
    found, notes = positive(classes, *classes, positive=name)
    assert found == index
    assert notes.facts == [f"f1: scores class {classes[index]!r} ({1 / len(classes):.1%} of train)"]
    assert positive(classes, *classes, positive=name, data_version=ROWS_APART)[0] == index


@pytest.mark.parametrize(
    ("classes", "name", "fix"),
    [(("fraud", "legit"), "fruad", "Did you mean 'fraud'"), ((0, 1), True, "0, 1")],
)
def test_an_unknown_class_is_refused(classes, name, fix) -> None:
    with pytest.raises(InvalidInputError, match=f"task.positive: train has no class {name!r}") as caught:
        positive(classes, *classes, positive=name)
    assert fix in str(caught.value)


@pytest.mark.parametrize("type", ["regression", "causal-lm"])
def test_a_task_without_classes_has_no_positive_class(type) -> None:
    columns = {"text": "text"} if type == "causal-lm" else {"text": "text", "label": "label"}
    with pytest.raises(ValueError, match=r"task.positive: 'a': .* has no classes"):
        TaskSpec(type=type, **columns, positive="a")


# --- the scale of a regression


def test_the_scale_is_that_of_train() -> None:
    found = scale(100.0, 200.0, 300.0)
    assert found is not None
    assert (found.mean, found.deviation) == pytest.approx((200.0, np.std([1, 2, 3]) * 100))
    assert scale(100.0, 200.0, data_version=ROWS_APART) is None


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9, 1e100])
def test_targets_of_any_size_are_restored(size: float) -> None:
    targets = size * np.array([1.0, 2.0, 4.0])
    found = scale(*targets)
    assert found is not None
    standardized = found.standardize(targets)
    assert (standardized.mean(), standardized.std()) == pytest.approx((0.0, 1.0), abs=1e-9)
    assert found.restore(standardized) == pytest.approx(targets, rel=1e-12)


def test_targets_far_from_zero_keep_their_differences() -> None:
    found = scale(1e9, 1e9 + 1, 1e9 + 2)
    assert found is not None
    assert found.standardize(1e9 + 2) - found.standardize(1e9) == pytest.approx(2 / found.deviation)


def test_constant_targets_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="all 3 targets of train are 7"):
        scale(7.0, 7.0, 7.0)


def test_targets_without_a_finite_variance_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot be computed"):
        scale(-1e300, 1e300)


def test_a_constant_split_is_a_warning() -> None:
    notes, task = Notes(), TaskSpec(type="regression", text="text", label="label")
    fit_target_scale({"train": rows(1.0, 2.0), "test": rows(5.0, 5.0)}, task, notes)
    assert notes.warnings == ["test: all targets are 5, so correlations are 0"]


# --- the data of a task


@pytest.fixture
def bert(tiny_model: Callable[[str], Path]) -> ModelSpec:
    return ModelSpec(name=str(tiny_model("bert")))


def prices(write_jsonl: Callable[..., Path], **fields: object) -> TaskSpec:
    data = [{"text": f"house of {i} rooms", "price": 3000 * (40 + i)} for i in range(100)]
    return TaskSpec(
        type="regression", train=str(write_jsonl("p.jsonl", data)), text="text", label="price", **fields
    )


def test_examples_hold_standardized_targets_at_every_length(bert, write_jsonl) -> None:
    task = prices(write_jsonl)
    data = load_task(task, bert)
    assert data.target_scale is not None
    targets = np.array(data.raw["train"]["price"])
    for examples in (data.splits["train"], data.at_length(task, 4).splits["train"]):
        labels = np.array([example["labels"] for example in examples])
        assert (labels.mean(), labels.std()) == pytest.approx((0.0, 1.0))
        assert data.target_scale.restore(labels) == pytest.approx(targets, rel=1e-12)
    assert any(note.startswith("targets: standardized in training with the mean ") for note in data.notes)


def test_the_first_version_trains_on_targets_as_they_are(bert, write_jsonl) -> None:
    data = load_task(prices(write_jsonl, data_version=ROWS_APART), bert)
    assert [example["labels"] for example in data.splits["train"]] == list(data.raw["train"]["price"])


def test_the_mean_as_an_answer_is_scored_in_the_units_of_the_targets(bert, write_jsonl) -> None:
    data = load_task(prices(write_jsonl), bert)
    train, held_out = (np.array(data.raw[name]["price"]) for name in ("train", "validation"))
    found = without_model(data, "regression")
    assert found["mse"] == pytest.approx(((held_out - train.mean()) ** 2).mean())
    assert found["eval_loss"] == pytest.approx(found["mse"] / train.var())


def test_carving_decides_no_tie(bert, write_jsonl) -> None:
    """Of 30 rows per class, the carved splits of 9 rows take 4 or 5 of each class."""
    data = [{"text": f"film no. {i}", "label": bool(i % 2)} for i in range(60)]
    path = str(write_jsonl("f.jsonl", data))
    for seed in range(5):
        loaded = load_task(TaskSpec(train=path, text="text", label="label", split_seed=seed), bert)
        assert loaded.positive == 1
        assert "f1: scores class True (50.0% of train); task.positive names another class" in loaded.notes


def test_a_resolved_task_names_its_class_and_loads_the_same(bert, write_jsonl) -> None:
    data = [{"text": f"film no. {i}", "label": "fraud" if i % 10 == 0 else "legit"} for i in range(100)]
    task = TaskSpec(train=str(write_jsonl("f.jsonl", data)), text="text", label="label", metric="f1")
    loaded = load_task(task, bert)
    resolved = resolved_task(task, loaded)
    assert resolved == task.model_copy(update={"positive": "fraud"})
    assert load_task(resolved, bert).positive == loaded.positive == 0
    assert without_model(loaded, "sequence-classification")["f1"] == 0.0
    other = load_task(task.model_copy(update={"positive": "legit"}), bert)
    assert without_model(other, "sequence-classification")["f1"] > 0.9


@pytest.mark.parametrize(
    ("metric", "validation", "test", "lacking"),
    [
        ("f1", "aa", "ab", ["validation has no row of class 'b'"]),
        ("f1", "aa", "aa", ["validation and test have no row of class 'b'"]),
        ("f1", "ab", "ba", []),
        ("accuracy", "aa", "aa", []),
    ],
)
def test_a_held_out_split_without_the_class_of_f1_is_a_warning(metric, validation, test, lacking):
    task, notes = TaskSpec(text="text", label="label", metric=metric), Notes()
    splits = {"train": "aabb", "validation": validation, "test": test}
    warn_of_constant_f1(
        {name: Rows({"label": list(each)}) for name, each in splits.items()}, task, "b", notes
    )
    assert len(notes.warnings) == len(lacking)
    for warning, part in zip(notes.warnings, lacking, strict=True):
        assert f"f1: {part}, which f1 scores (2 rows in train), so f1 is 0 there for every trial" in warning
