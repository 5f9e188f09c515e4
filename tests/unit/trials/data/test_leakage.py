"""Equal texts: what counts as equal, and what is reported about them."""

from __future__ import annotations

import pytest

from trials.data.leakage import group_rows, normalize_text, report_equal_texts, text_keys
from trials.data.notes import Notes
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TaskSpec

REVIEWS = TaskSpec(text="text", label="label")
PAIRS = TaskSpec(text=["a", "b"], label="label")
PROMPTS = TaskSpec(type="causal-lm", prompt="p", completion="c")
CHATS = TaskSpec(type="causal-lm", messages="messages")


def reviews(*pairs: tuple[str, object], file: str = "train.tsv") -> Rows:
    rows = [{"text": text, "label": label} for text, label in pairs]
    return Rows.of(rows, [f"line {i + 2} of {file}" for i in range(len(rows))])


def groups(task: TaskSpec, *rows: dict[str, object]) -> list[int]:
    return group_rows(text_keys(Rows.of(rows), task)).tolist()


def report(task: TaskSpec = REVIEWS, **splits: Rows) -> Notes:
    notes = Notes()
    report_equal_texts(splits, {name: text_keys(rows, task) for name, rows in splits.items()}, task, notes)
    return notes


@pytest.mark.parametrize(
    ("text", "same"),
    [("a  b", "a b"), ("a\tb\n", "a b"), (" a b", "a b"), ("cafe\u0301", "caf\u00e9"), ("a\u00a0b", "a b")],
)
def test_white_space_and_composed_characters_make_no_difference(text: str, same: str) -> None:
    assert normalize_text(text) == normalize_text(same)


@pytest.mark.parametrize(("text", "other"), [("a b", "A b"), ("a b", "ab"), ("a b", "a b."), ("ﬁ", "fi")])
def test_letters_case_and_punctuation_make_a_difference(text: str, other: str) -> None:
    assert normalize_text(text) != normalize_text(other)


def test_the_whole_input_is_compared_and_the_label_is_not() -> None:
    assert groups(
        REVIEWS, {"text": "x", "label": 0}, {"text": "y", "label": 0}, {"text": "x ", "label": 1}
    ) == [0, 1, 0]
    pair = {"a": "x", "b": "y", "label": 0}
    assert groups(PAIRS, pair, {**pair, "b": "z"}, {**pair, "a": "y", "b": "x"}, {**pair, "label": 1}) == [
        0,
        1,
        2,
        0,
    ]
    assert groups(PAIRS, {"a": "x y", "b": "z", "label": 0}, {"a": "x", "b": "y z", "label": 0}) == [0, 1]
    assert groups(PROMPTS, {"p": "x", "c": "y"}, {"p": "x", "c": "z"}, {"p": "x", "c": " y"}) == [0, 1, 0]
    assert groups(REVIEWS, {"text": "x", "label": 0, "id": 1}, {"text": "x", "label": 0, "id": 2}) == [0, 0]


def test_chats_are_compared_with_all_their_turns() -> None:
    def chat(answer: object, **more: object) -> dict[str, object]:
        question = {"role": "user", "content": "Say  it"}
        return {"messages": [question, {"role": "assistant", "content": answer, **more}]}

    swapped = {"messages": [{"content": "Say it", "role": "user"}, {"content": "yes", "role": "assistant"}]}
    called = chat(None, tool_calls=[{"name": "f", "arguments": {"a": 1}}])
    again = chat(None, tool_calls=[{"arguments": {"a": 1}, "name": "f"}])
    assert groups(CHATS, chat("yes"), chat("no"), swapped, called, again, chat(None)) == [0, 1, 0, 2, 2, 3]


def test_different_texts_are_not_mentioned() -> None:
    notes = report(train=reviews(("a", 0), ("b", 1)), validation=reviews(("c", 0)), test=reviews(("d", 1)))
    assert (notes.facts, notes.warnings) == ([], [])


def test_repeated_texts_of_train_are_counted() -> None:
    notes = report(train=reviews(("a", 0), ("a", 0), ("b", 1), (" a ", 0)))
    assert notes.facts == ["train: 2 of 4 rows repeat the text of an earlier row"]
    assert notes.warnings == []


def test_texts_of_train_in_another_split_are_a_warning() -> None:
    notes = report(
        train=reviews(("a", 0), ("b", 1)),
        validation=reviews(("c", 0), ("a", 0), ("b", 0), ("a", 0), file="dev.tsv"),
    )
    assert notes.warnings == [
        "validation: 3 of 4 texts (75.0%) are also in train, 1 of them with another label, first line 3 of dev.tsv "
        "and line 2 of train.tsv; scores on validation are too good unless they are removed from one of the two"
    ]


def test_texts_of_validation_in_test_are_a_warning() -> None:
    (warning,) = report(
        train=reviews(("a", 0)), validation=reviews(("b", 0)), test=reviews(("b", 0))
    ).warnings
    assert warning.startswith("test: 1 of 1 texts (100.0%) are also in validation, first line 2")
    assert "not independent" in warning


def test_contradicting_labels_are_a_warning_with_the_first_places() -> None:
    (warning,) = report(train=reviews(("a", 0), ("b", 1), ("a", 1), ("b", 1), ("a", 0))).warnings
    assert warning == (
        "train: 1 text has different labels in different rows, first 0 in line 2 of train.tsv and "
        "1 in line 4 of train.tsv"
    )


def test_repeated_measurements_are_no_warning() -> None:
    task = TaskSpec(type="regression", text="text", label="label")
    notes = report(task, train=reviews(("a", 1.0), ("a", 1.5)))
    assert notes.warnings == []
    assert any("1 text has different labels" in note for note in notes.facts)


def test_prompts_with_equal_completions_in_both_splits_are_a_warning() -> None:
    rows = Rows.of([{"p": "x", "c": "y"}])
    (warning,) = report(PROMPTS, train=rows, test=rows).warnings
    assert warning.startswith("test: 1 of 1 texts (100.0%) are also in train, first row 1 and row 1;")
