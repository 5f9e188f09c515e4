"""Equal texts: what counts as equal, and what is reported about them."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from trials.data.leakage import (
    fold_text,
    group_rows,
    keys_by_tokens,
    normalize_text,
    report_equal_texts,
    text_keys,
)
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
    return group_rows(text_keys(Rows.of(rows), task).similar).tolist()


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


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Film", "film"),
        ("caf\u00e9", "cafe"),
        ("fi\u200blm", "film"),
        ("\ufefffilm", "film"),
        ("so\u00adft", "soft"),
        ("\ufb01lm", "film"),
        ("\uff21", "a"),
        ("STRASSE", "stra\u00dfe"),
        ("film!", "film !"),
        ("\u4e2d\u6587", "\u4e2d \u6587"),
        ("``so''", '"so"'),
    ],
)
def test_what_a_tokenizer_may_ignore_does_not_separate_rows(text: str, same: str) -> None:
    assert fold_text(text) == fold_text(same)
    assert groups(REVIEWS, {"text": text, "label": 0}, {"text": same, "label": 0}) == [0, 0]


@pytest.mark.parametrize(
    ("text", "other"), [("film", "films"), ("no.", "no!"), ("1", "2"), ("\u4e2d", "\u6587")]
)
def test_other_letters_digits_and_punctuation_separate_rows(text: str, other: str) -> None:
    assert groups(REVIEWS, {"text": text, "label": 0}, {"text": other, "label": 0}) == [0, 1]


def test_the_rejected_answer_is_not_read() -> None:
    task = TaskSpec(type="causal-lm", prompt="p", chosen="good", rejected="bad")
    row = {"p": "x", "good": "y", "bad": "z"}
    assert groups(task, row, {**row, "bad": "w"}, {**row, "good": "w"}) == [0, 0, 1]
    whole = TaskSpec(type="causal-lm", chosen="good", rejected="bad")
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    bad = [[*turns[:1], {"role": "assistant", "content": text}] for text in "zw"]
    assert groups(whole, *({"good": turns, "bad": each} for each in bad)) == [0, 0]


def test_the_form_of_a_chat_does_not_separate_rows() -> None:
    openai = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    sharegpt = [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]
    numbered = [{**message, "id": place} for place, message in enumerate(openai)]
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in openai]
    assert groups(CHATS, *({"messages": chat} for chat in (openai, sharegpt, numbered, parts))) == [0] * 4


def test_the_form_of_the_arguments_of_a_call_does_not_separate_rows() -> None:
    def chat(arguments: object, key: str) -> dict[str, object]:
        call = {"id": key, "type": "function", "function": {"name": "f", "arguments": arguments}}
        return {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]}

    forms = chat({"a": 1, "b": 2}, "c1"), chat('{"b": 2, "a": 1}', "c2"), chat({"a": 1, "b": 3}, "c1")
    assert groups(CHATS, *forms) == [0, 0, 1]


def test_a_missing_and_an_empty_part_of_a_prompt_are_the_same() -> None:
    task = TaskSpec(type="causal-lm", prompt=["instruction", "input"], completion="output")
    row = {"instruction": "x", "input": None, "output": "y"}
    assert groups(task, row, {**row, "input": ""}, {**row, "input": "z"}) == [0, 0, 1]


def test_the_border_of_prompt_and_completion_does_not_separate_rows() -> None:
    assert groups(PROMPTS, {"p": "x", "c": " y z"}, {"p": "x y", "c": " z"}) == [0, 0]


def word_tokenizer(*, is_uncased: bool) -> Any:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "film": 1, "Film": 2, "warm": 3}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=is_uncased)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[UNK]")


@pytest.mark.parametrize(("is_uncased", "shared"), [(True, "2 of 2"), (False, "1 of 2")])
def test_texts_with_equal_token_ids_in_two_splits_are_a_warning(is_uncased: bool, shared: str) -> None:
    splits = {
        "train": reviews(("warm film", 0)),
        "validation": reviews(("warm Film", 0), ("warm\u200b film", 0)),
    }
    keys = {name: text_keys(rows, REVIEWS) for name, rows in splits.items()}
    notes = Notes()
    found = keys_by_tokens(splits, keys, REVIEWS, lambda: word_tokenizer(is_uncased=is_uncased))
    report_equal_texts(splits, found, REVIEWS, notes)
    (warning,) = notes.warnings
    assert warning.startswith(f"validation: {shared} texts")


def test_the_tokenizer_is_not_loaded_without_similar_texts() -> None:
    def refuse() -> Any:
        raise AssertionError("the tokenizer is loaded")

    splits = {"train": reviews(("a", 0), ("a ", 0), ("b", 1))}
    keys = {"train": text_keys(splits["train"], REVIEWS)}
    assert keys_by_tokens(splits, keys, REVIEWS, refuse) == keys
