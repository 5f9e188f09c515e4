"""Words and tags: encoding, cuts, scores and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.errors import InvalidInputError
from trials.data.preview import preview_examples
from trials.data.task_data import TaskData, load_task
from trials.data.tokenizers import load_tokenizer
from trials.kinds.kind import Scoring
from trials.kinds.token_classification import TokenClassification
from trials.reading.encoding import IGNORED
from trials.tasks.specs import ModelSpec, TaskSpec

KIND = TokenClassification()
TAGS = ("B-x", "I-x", "O")
TASK = {"text": ("tokens",), "label": "tags", "max_length": 6}
NAMED = Scoring(classes=TAGS, names=TAGS)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Any) -> Any:
    return load_tokenizer(ModelSpec(name=str(tiny_model("bert"))))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(tiny_model: Any, folder: Path, rows: list[dict[str, Any]], **fields: Any) -> TaskData:
    task = spec(folder, rows, **fields)
    return load_task(task, ModelSpec(name=str(tiny_model("bert"))))


def spec(folder: Path, rows: list[dict[str, Any]], **fields: Any) -> TaskSpec:
    path = write(folder / "train.jsonl", rows)
    return TaskSpec(type="token-classification", train=path, text="tokens", label="tags", **fields)


ROWS = [
    {"tokens": ["good", "film", word], "tags": ["B-x", "I-x", "O"]}
    for word in ("the", "was", "a", "story", "good", "film")
] * 2


def test_the_first_token_of_a_word_has_its_tag(tokenizer: Any) -> None:
    row = {"tokens": ["good film", "the", " ", "was"], "tags": ["B-x", "O", "O", "I-x"]}
    encoding = KIND.encode(row, {**TASK, "max_length": 20}, tokenizer, TAGS)
    assert encoding.example["labels"] == [IGNORED, 0, IGNORED, 2, 1, IGNORED]
    assert encoding.example["words"] == [0, 1, 3]  # no token is of the word of white space alone
    assert encoding.full_targets == 4
    assert "words that the tokenizer removes" in encoding.remarks[0]


def test_an_entity_beyond_the_limit_is_missed(tokenizer: Any) -> None:
    row = {"tokens": ["good", "film", "the", "was", "a"], "tags": ["B-x", "O", "O", "B-x", "I-x"]}
    encoding = KIND.encode(row, TASK, tokenizer, TAGS)
    assert encoding.full_length == 7
    assert KIND.target_count(encoding.example) == 4
    tokens = np.array([[IGNORED, 0, 2, 2, 0, IGNORED]], float)  # all tags within the limit are right
    columns = KIND.finish((np.array([4.0]), np.array([1.0]), tokens), [encoding.example], NAMED)
    scores = KIND.scores(columns, NAMED)
    assert scores["entity_recall"] == scores["entity_precision"] == 0.5  # the second one is too short
    assert scores["token_accuracy"] == 0.8
    assert scores["eval_loss"] == 0.25


def test_tags_of_a_split_are_read_and_carved(tiny_model: Any, tmp_path: Path) -> None:
    data = load(tiny_model, tmp_path, ROWS)
    assert data.classes == TAGS
    assert data.outputs == 3
    assert {len(split) for split in data.splits.values()} == {8, 2}
    texts = {name: {tuple(words) for words in rows["tokens"]} for name, rows in data.raw.items()}
    assert not texts["train"] & texts["validation"]
    assert any("entities: 1 types (x)" in note for note in data.notes)


def test_the_preview_shows_each_word_with_its_tag(tiny_model: Any, tmp_path: Path) -> None:
    data, task = load(tiny_model, tmp_path, ROWS), spec(tmp_path, ROWS)
    assert preview_examples(data, task, 1)[0].label == "good/B-x film/I-x the/O"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, r"line 13 of train.jsonl of train has 2 words .* and 1 tags"),
        ({"tokens": "a b", "tags": ["O", "O"]}, r"has 'a b' in 'tokens', which is no list of words"),
        ({"tokens": ["a"], "tags": "O"}, r"has 'O' in 'tags', which is no list of tags"),
        ({"tokens": ["a"], "tags": [["O"]]}, r"which is no list of tags"),
        ({"tokens": [None], "tags": ["O"]}, r"which is no list of words"),
    ],
)
def test_a_row_without_one_tag_per_word_is_named(tiny_model, tmp_path, row, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load(tiny_model, tmp_path, [*ROWS, row])


def test_scores_of_entities_need_a_prefix(tiny_model: Any, tmp_path: Path) -> None:
    rows = [{"tokens": row["tokens"], "tags": ["A", "N", "N"]} for row in ROWS]
    with pytest.raises(InvalidInputError, match=r"no tag has a prefix.*Set metric: token_accuracy"):
        load(tiny_model, tmp_path, rows)
    data = load(tiny_model, tmp_path, rows, metric="token_accuracy")
    assert data.class_names == ("A", "N")
    assert any(note.startswith("entities: none, since no tag has a prefix") for note in data.notes)


def test_two_columns_of_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Name the column with the lists of words"):
        TaskSpec(type="token-classification", text=["a", "b"], label="tags")


def test_tags_that_train_lacks_are_named(tiny_model: Any, tmp_path: Path) -> None:
    other = write(tmp_path / "v.jsonl", [{"tokens": ["a", "b"], "tags": ["O", "B-y"]}] * 2)
    with pytest.raises(
        InvalidInputError, match=r"labels that train does not have: 'B-y' \(line 1 of v.jsonl\)"
    ):
        load(tiny_model, tmp_path, ROWS, validation=other)


def test_the_most_frequent_tag_has_no_entities() -> None:
    example = {"labels": [IGNORED, 0, 2, 2], "tags": [0, 2, 2], "words": [0, 1, 2]}
    columns = KIND.constant_columns([example], [example], 3)
    assert columns is not None
    scores = KIND.scores(KIND.finish(columns, [example], NAMED), NAMED)
    assert scores["entity_f1"] == 0.0
    assert scores["token_accuracy"] == pytest.approx(2 / 3)
    assert scores["eval_loss"] == pytest.approx(-(np.log(1 / 3) + 2 * np.log(2 / 3)) / 3)
