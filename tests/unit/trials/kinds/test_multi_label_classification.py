"""Sets of labels: columns, scores and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.errors import InvalidInputError
from trials.data.task_data import TaskData, load_task
from trials.kinds.kind import Scoring
from trials.kinds.multi_label_classification import MultiLabelClassification
from trials.kinds.scoring.scores import multi_label_scores
from trials.reading.fingerprint import split_fingerprint
from trials.reading.splits import read_source
from trials.tasks.specs import ModelSpec, TaskSpec

KIND = MultiLabelClassification()
WORDS = ("good", "film", "the", "was", "a", "story")


def load(tiny_model: Any, folder: Path, labels: list[Any], **fields: Any) -> TaskData:
    rows = [
        {"text": f"{WORDS[i % 6]} {WORDS[i // 6]}", **(each if isinstance(each, dict) else {"labels": each})}
        for i, each in enumerate(labels)
    ]
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fields = {"label": "labels", "train": str(path), "text": "text", **fields}
    return load_task(TaskSpec(type=KIND.name, **fields), ModelSpec(name=str(tiny_model("bert"))))


def test_scores_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.random((30, 4)) < 0.4
        logits = np.round(rng.normal(size=labels.shape) + labels, 1)  # with ties
        expected = {
            "f1_micro": metrics.f1_score(labels, logits > 0, average="micro"),
            "f1_macro": metrics.f1_score(labels, logits > 0, average="macro"),
            "mean_average_precision": metrics.average_precision_score(labels, logits, average="macro"),
            "subset_accuracy": metrics.accuracy_score(labels, logits > 0),
            "hamming_loss": metrics.hamming_loss(labels, logits > 0),
        }
        assert multi_label_scores(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_a_label_that_no_row_has_counts_for_no_mean() -> None:
    scores = multi_label_scores(
        np.array([[1.0, -1.0], [-1.0, -1.0]]), np.array([[True, False], [False, False]])
    )
    assert scores["f1_macro"] == scores["mean_average_precision"] == 1.0


def test_rows_may_have_no_label(tiny_model: Any, tmp_path: Path) -> None:
    data = load(tiny_model, tmp_path, [[], ["a"], ["b", "a"], ["a", "b"]] * 5)
    assert data.classes == ("a", "b")
    found = {tuple(example["labels"]) for split in data.splits.values() for example in split}
    assert found == {(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)}
    assert not any("different labels in different rows" in warning for warning in data.warnings)


def test_columns_of_zero_and_one_are_labels_also_in_an_exported_run(tiny_model: Any, tmp_path: Path) -> None:
    flags = [{"rude": int(i % 2), "spam": i % 3 == 0} for i in range(20)]
    data = load(tiny_model, tmp_path, flags, label=["rude", "spam"])
    assert data.classes == ("rude", "spam")
    task = TaskSpec(type=KIND.name, train="x", text="text", label=["rude", "spam"]).model_dump()
    assert TaskSpec(**task).label_columns == ("rude", "spam")
    other = load(
        tiny_model, tmp_path, flags, label=["rude", "spam"], validation=str(tmp_path / "train.jsonl")
    )
    read = read_source(other.sources["validation"])
    assert split_fingerprint(read, ["text", "rude, spam"], task) == other.fingerprint["validation"]


@pytest.mark.parametrize(
    ("labels", "fields", "message"),
    [
        (
            [["a"], "a,b"] * 10,
            {},
            r"line 2 of train.jsonl .* has 'a,b' in 'labels', which is no list of labels",
        ),
        ([["a"], [["b"]]] * 10, {}, "which is no list of labels"),
        ([[0, 1, 1], [1, 0, 0]] * 10, {}, "lists of 0 and 1 in 'labels'.*which name no label"),
        ([["a"], None] * 10, {}, r"has None in 'labels'.*\[\] is no label"),
        (
            [{"x": 0, "y": 1}, {"x": 2, "y": 1}] * 10,
            {"label": ["x", "y"]},
            "has 2 in 'x', which is neither 0 nor 1",
        ),
        ([{"x": 0, "y": 1}] * 10, {"label": ["x", "z"]}, "there is no column 'z'"),
    ],
)
def test_other_values_are_refused(tiny_model, tmp_path, labels, fields, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load(tiny_model, tmp_path, labels, **fields)


def test_several_label_columns_are_for_sets_alone() -> None:
    with pytest.raises(ValueError, match="set type: multi-label-classification for columns of 0 and 1"):
        TaskSpec(text="text", label=["a", "b"])


def test_a_label_that_is_only_in_carved_rows_is_a_warning(tiny_model: Any, tmp_path: Path) -> None:
    for seed in range(8):
        data = load(tiny_model, tmp_path, [["a"]] * 19 + [["a", "rare"]], split_seed=seed)
        is_left = any("rare" in labels for labels in data.raw["train"]["labels"])
        assert is_left != any("'rare' is in no row of train" in warning for warning in data.warnings)


def test_the_shares_of_train_are_the_best_constant_answer() -> None:
    train = [{"labels": [1.0, 0.0]}, {"labels": [1.0, 1.0]}, {"labels": [1.0, 0.0]}]
    columns = KIND.constant_columns(train, train, 2)
    assert columns is not None
    scores = KIND.scores(columns, Scoring())
    shares = -(np.log(2 / 3) * 2 + np.log(1 / 3)) / 6
    assert scores["eval_loss"] == pytest.approx(shares)
    assert scores["f1_micro"] == pytest.approx(6 / 7)


def test_data_without_any_label_are_refused(tiny_model: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="train has no label: every list in 'labels' is empty"):
        load(tiny_model, tmp_path, [[]] * 20)
