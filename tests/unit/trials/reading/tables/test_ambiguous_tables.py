"""Tables whose rows can be told in two ways: stray quotation marks, and separators within texts without marks."""

from __future__ import annotations

import csv

import pandas as pd
import pytest

from trials.reading.tables.delimited import read_delimited
from trials.reading.tables.errors import DataError
from trials.reading.tables.rows import Rows


def csv_rows(text: str) -> Rows:
    return read_delimited(text, "a.csv", ",")


def notes(rows: Rows) -> str:
    return "\n".join(rows.notes)


def refusal(text: str) -> str:
    with pytest.raises(DataError) as caught:
        csv_rows(text)
    return str(caught.value)


@pytest.mark.parametrize("labels", [["0", "1"], ["spam", "ham"], ["0.5", "1.5"]])
def test_rows_between_two_stray_marks_are_not_taken_for_a_field(labels: list[str]) -> None:
    plain = [f"text {i},{labels[i % 2]}" for i in range(20)]
    glued = ['"so it begins,' + labels[0], "and so," + labels[1], 'it ends",' + labels[0]]
    message = refusal("\n".join(["text,label", *plain, *glued, *plain]) + "\n")
    assert "line 22 of 'a.csv' begins a field with a quotation mark" in message
    assert "whole rows" in message


@pytest.mark.parametrize(("first", "last"), [(5, 30), (5, 7), (5, 6), (0, 39)])
def test_rows_between_two_stray_marks_are_seen_without_a_column_of_labels(first: int, last: int) -> None:
    lines = [f"Question number {i},Answer {i}" for i in range(40)]
    lines[first], lines[last] = '"How wide,very', 'a screen of 5",big'
    message = refusal("\n".join(["prompt,completion", *lines]) + "\n")
    assert f"line {first + 2} of 'a.csv' begins a field with a quotation mark" in message


@pytest.mark.parametrize("separator", [", ", ";", "|"])
def test_rows_between_two_stray_marks_are_seen_with_other_separators(separator: str) -> None:
    rows = [[f"Question number {i}", f"Answer {i}"] for i in range(40)]
    rows[5], rows[30] = ['"How wide', "very"], ['a screen of 5"', "big"]
    message = refusal("\n".join(map(separator.join, [["prompt", "completion"], *rows])))
    assert "line 7 of 'a.csv' begins a field with a quotation mark" in message


def test_labels_beside_stray_marks_may_be_wrong_as_well() -> None:
    lines = [f"film {i},{'pos' if i % 2 else 'neg'}" for i in range(20)]
    lines[5], lines[9] = '"How wide,very', 'a screen of 5",big'
    assert "line 7 of 'a.csv' begins a field" in refusal("\n".join(["text,label", *lines]))


@pytest.mark.parametrize("line", ["a flat; one;2;5", "a flat"])
def test_a_row_that_does_not_fit_another_separator_is_refused(line: str) -> None:
    """The file would also be a table of one column, `text;price`."""
    lines = ["text;price", *(f"flat {i};{i}" for i in range(20)), line]
    assert "line 22 of 'a.csv' has" in refusal("\n".join(lines))


def test_many_rows_between_two_stray_marks_are_seen_beside_quoted_fields() -> None:
    lines = [f'Question {i},"Yes, no. {i}"' if i > 30 else f"Question {i},Answer {i}" for i in range(40)]
    lines[5], lines[20] = '"How wide,very', 'a screen of 5",big'
    assert "line 7 of 'a.csv'" in refusal("\n".join(["prompt,completion", *lines]) + "\n")


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["minimal", "all"])
@pytest.mark.parametrize(
    "text",
    [
        "Hello {i},\nBob",
        "Dear {i},\nI write, since\nit rains, here",
        "def f(a, b):\n    return a, {i}",
        "x,{i}\ny,2",  # a table within a text, where quoted fields show how the file is written
    ],
)
def test_texts_of_several_lines_in_both_columns(text: str, quoting: int) -> None:
    texts = [text.format(i=i) if i % 2 else f"one line, no. {i}" for i in range(20)]
    frame = pd.DataFrame({"prompt": [f"Question {i}" for i in range(20)], "completion": texts})
    for columns in (["prompt", "completion"], ["completion", "prompt"]):
        rows = csv_rows(frame[columns].to_csv(index=False, quoting=quoting))  # type: ignore[call-overload]
        assert list(rows["completion"]) == texts


def test_a_text_of_several_lines_with_commas_is_a_text() -> None:
    texts = [f"Dear {i},\nI write, since\nit rains, here" for i in range(20)]
    frame = pd.DataFrame({"text": texts, "label": ["x", "y"] * 10})
    assert list(csv_rows(frame.to_csv(index=False))["text"]) == texts


def test_a_separator_in_texts_without_marks_is_read_where_labels_decide_and_said() -> None:
    texts = [f'good no. "{i}", really, truly' if i % 2 else f"bad no. {i}" for i in range(20)]
    lines = [f"{text},{i % 2}" for i, text in enumerate(texts)]
    rows = csv_rows("\n".join(["text,label", *lines]))
    assert rows.columns == {"text": texts, "label": [0, 1] * 10}
    assert "10 texts in column 'text' with a comma" in notes(rows)


def test_a_separator_in_texts_is_refused_where_two_columns_could_hold_it() -> None:
    lines = [f"question {i}, or not,answer {i}" if i % 3 else f"question {i},answer {i}" for i in range(20)]
    assert "line 3 of 'a.csv' has 3 fields" in refusal("\n".join(["prompt,completion", *lines]))


@pytest.mark.parametrize(
    ("header", "exact", "line"),
    [
        ("text,price", "a flat no. {i},{i}50", "a flat,1,201"),  # 201, or 1,201
        ("text,price", "a flat no. {i},{i}50", "a flat, 1,201"),
        ("text,price", "a flat no. {i},{i}50", "a flat, $1,201"),
        ("text,score", "a flat no. {i},0.{i}", "flat 1,4,1"),
        ("score,text", "0.{i},a flat no. {i}", "1,4,flat 1"),
        ("text,label", "film {i},happy", "film 0,sad, angry"),
        ("text,label", "film {i},happy", "film 0, sad,happy"),
        ("text,label", "film {i},happy", "film 0,sad,happy"),
        ("label,text", "happy,film {i}", "happy, sad,film 0"),
        ("label,text", "happy,film {i}", "happy,sad, film 0"),
        ("text,label", "film {i},1", "film 0,1,2"),
        ("text,label", "film {i},1", "film 0, 1, 2"),
        ("text,label,date", "film {i},1,2020", "film 1,1,May 5, 2020"),
        ("text,label,date", "film {i},1,2020", "film 1, 1,0,2020"),
        ("text,label", "film {i},1", "film 0, really,unknown"),
        ("text,label", "film {i},1", "film 0,,1"),
        ("text,label", "film {i}, 1", "film 0, really, 1"),  # a space follows every comma
    ],
)
def test_a_separator_that_may_belong_to_another_column_is_refused(header: str, exact: str, line: str) -> None:
    lines = [header, *(exact.format(i=i) for i in range(20)), line]
    message = refusal("\n".join(lines))
    assert f"line 22 of 'a.csv' has {len(line.split(','))} fields" in message
    assert "in quotation marks" in message


@pytest.mark.parametrize(
    ("header", "exact", "line", "text"),
    [
        ("text,label", "film {i},1", "film 0, or so, in 1985, a hit,0", "film 0, or so, in 1985, a hit"),
        ("label,text", "happy,film {i}", "happy,a film, really, truly", "a film, really, truly"),
        ("text,label", "film {i},happy", "film 0, a sad one,happy", "film 0, a sad one"),
        ("id,text,label", "{i},film {i},happy", "20,film 0, a sad one,happy", "film 0, a sad one"),
    ],
)
def test_a_separator_of_prose_is_read_as_text(header: str, exact: str, line: str, text: str) -> None:
    rows = csv_rows("\n".join([header, *(exact.format(i=i) for i in range(20)), line]))
    assert rows["text"][20] == text
    assert "1 text in column 'text' with a comma" in notes(rows)
