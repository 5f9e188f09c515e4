"""JSON in the forms in which people have rows, and JSON that is none."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from trials.reading.tables.errors import DataError
from trials.reading.tables.json_files import read_json
from trials.reading.tables.rows import Rows

ROWS = [{"text": "a", "label": 0}, {"text": "b\u2028c", "label": 1}]


def read(text: str) -> Rows:
    return read_json(text, "a.json")


def refusal(text: str) -> str:
    with pytest.raises(DataError) as caught:
        read(text)
    return str(caught.value)


FRAME = pd.DataFrame(ROWS)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("\n".join(map(json.dumps, ROWS)), "line 2"),
        ("\n\n" + "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n", "line 5"),
        ("\n".join(json.dumps(row, indent=1) for row in ROWS), "line 5"),
        (json.dumps(ROWS), "row 2"),
        (json.dumps(ROWS, indent=2), "row 2"),
        (json.dumps({"data": ROWS}), "row 2"),
        (json.dumps({"rows": ROWS}, indent=1), "row 2"),
        (json.dumps({"data": {"train": ROWS}}), "row 2"),
        (json.dumps({"version": "1.0", "tags": ["x"], "examples": ROWS, "meta": {"n": 2}}), "row 2"),
        (
            json.dumps(
                {
                    "features": [{"name": "text"}],
                    "rows": [{"row_idx": i, "row": r} for i, r in enumerate(ROWS)],
                }
            ),
            "row 2",
        ),
        (FRAME.to_json(orient="records"), "row 2"),
        (FRAME.to_json(orient="records", lines=True), "line 2"),
        (FRAME.to_json(orient="split"), "row 2"),
        (FRAME.to_json(orient="split", index=False), "row 2"),
        (FRAME.to_json(orient="columns"), "row 2"),
        (FRAME.set_index(pd.Index(["x", "y"])).to_json(orient="index"), "row 2"),
        (json.dumps({"text": ["a", "b\u2028c"], "label": [0, 1]}), "row 2"),
    ],
)
def test_forms_of_rows(text: str, place: str) -> None:
    rows = read(text)
    assert [*rows] == ROWS
    assert rows.place(1) == f"{place} of a.json"


def test_a_column_that_changes_its_type_keeps_what_each_row_says() -> None:
    extras = ["x", {"a": 1}, {"b": [1, None]}, 3, None, [1, "x"]]
    rows = read("\n".join(json.dumps({"text": "t", "extra": extra}) for extra in extras))
    assert list(rows["extra"]) == extras


def test_a_key_that_rows_lack_is_none() -> None:
    rows = read('{"text": "a"}\n{"label": 1}\n')
    assert [*rows] == [{"text": "a", "label": None}, {"text": None, "label": 1}]


def test_numbers_stay_what_they_are() -> None:
    rows = read('{"n": 9007199254740993, "f": 1.0, "s": "007", "i": Infinity, "b": true}\n' * 2)
    assert rows.row(0) == {"n": 9007199254740993, "f": 1.0, "s": "007", "i": float("inf"), "b": True}
    assert isinstance(rows["f"][0], float)


def test_nan_is_missing_and_counted() -> None:
    rows = read('{"n": NaN}\n{"n": 1}\n{"n": NaN}\n')
    assert list(rows["n"]) == [None, 1, None]
    assert "2 NaN values" in rows.notes[0]


def test_one_chat_is_one_row() -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert [*read(json.dumps(chat))] == [chat]
    shared = {"id": 3, "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    assert [*read(json.dumps(shared))] == [shared]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": 2\n{"a": 3}\n', "cannot read line 2 of 'a.json'"),
        ('{"a": 1}\n{"a": 1, "a": 2}\n', "cannot read line 2 of 'a.json' (the key 'a' is there twice)"),
        ('[{"a": 1},\n {"a": 2},\n {"a": }]', "cannot read line 3 of 'a.json'"),
        ("{not json\n", "cannot read line 1 of 'a.json'"),
        ("{'a': 1}\n", "cannot read line 1"),
        ('{"a": 1}\n[1, 2]\n', "line 2 of a.json is an array, and rows are objects"),
        ('["a", "b"]', "row 1 of a.json is a string"),
        ('[{"a": 1}, null]', "row 2 of a.json is null"),
        ("[[1, 2], [3, 4]]", "row 1 of a.json is an array"),
        ("3", "line 1 of a.json is a number"),
        ("", "is empty"),
        (" \n", "is empty"),
        (json.dumps({"train": ROWS, "test": ROWS}), "has several arrays of rows ('train', 'test')"),
        (json.dumps({"data": {"train": ROWS, "dev": ROWS}}), "has several arrays of rows ('train', 'dev')"),
        ('{"a": "x"}\n{"a": "\\ud83d"}\n', "line 2 of 'a.json' has half of a character"),
        ('{"a": "x"}\n' + "[" * 100_000, "cannot read line 2"),
        ('{"a": 1}\n{"a": 2},\n', "cannot read line 2"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("columns", "data", "message"),
    [
        (
            ["text", "label"],
            [["a", 0], ["b"], ["c", 1]],
            "row 2 of 'data' in 'a.json' has 1 value, and 'columns'",
        ),
        (["text", "label"], [["a", 0], ["b", 1, 2]], "row 2 of 'data' in 'a.json' has 3 values"),
        (["text", "label"], [["a", 0], {"text": "b"}], "row 2 of 'data' in 'a.json' is an object"),
        (["text", "label"], [["a", 0], None], "row 2 of 'data' in 'a.json' is null"),
        (["text", "text"], [["a", 0]], "'columns' in 'a.json' are not different texts"),
        (["text", 1], [["a", 0]], "'columns' in 'a.json' are not different texts"),
        (["text", ["x", "y"]], [["a", 0]], "'columns' in 'a.json' are not different texts"),
    ],
)
def test_a_split_frame_whose_rows_do_not_fit_its_columns(columns: object, data: object, message: str) -> None:
    assert message in refusal(json.dumps({"columns": columns, "index": [0, 1], "data": data}))


def test_both_halves_of_a_character_are_a_character() -> None:
    assert list(read('{"a": "\\ud83d\\ude00"}\n')["a"]) == ["😀"]
