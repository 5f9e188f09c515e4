"""Reading of files by their names: endings, paths, text lines, Parquet, several files, and files that are written."""

from __future__ import annotations

import datetime
import decimal
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from trials.reading.tables.errors import DataError
from trials.reading.tables.files import ENDINGS, data_format, read_file, read_files
from trials.reading.tables.rows import Rows


def refusal(*paths: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_files(paths)
    return str(caught.value)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name",
    ["data[1].tsv", "train*.tsv", "a?b.tsv", "reviews [2024]/TRAIN.TSV", "my data #2.tsv", "a{b,c}.tsv", "~x.tsv",
     "100%.tsv", "lang=en/a.tsv", "a::b.tsv", "http:/a.tsv", "été.tsv", ".hidden.tsv", "-n.tsv", "a.b.c.Tsv"],
)  # fmt: skip
def test_exactly_the_named_file_is_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in (
        "data1.tsv",
        "train1.tsv",
        "train2.tsv",
        "axb.tsv",
        "ab.tsv",
        "ac.tsv",
        "reviews 2/TRAIN.TSV",
    ):
        write(tmp_path / other, "text\tlabel\nwrong\t0\n")
    path = write(tmp_path / name, "text\tlabel\nright\t1\n")
    assert [*read_file(path)] == [{"text": "right", "label": 1}]
    monkeypatch.chdir(tmp_path)
    assert [*read_file(Path(name))] == [{"text": "right", "label": 1}]
    frame = pd.DataFrame({"text": ["right"]})
    frame.to_parquet(path.with_suffix(".parquet"))
    assert [*read_file(path.with_suffix(".parquet"))] == [{"text": "right"}]


def test_endings_in_any_case(tmp_path: Path) -> None:
    for ending in ENDINGS:
        assert data_format(Path(f"a{ending.upper()}")) == data_format(Path(f"a{ending}")) is not None
    assert data_format(Path("a.csv.gz")) == "csv"
    assert data_format(Path("a.parquet.gz")) is data_format(Path("a.gz")) is data_format(Path("csv")) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xlsx", "'a.xlsx' is a workbook. Save its table as a CSV file"),
        ("a.log", "'a.log' ends in '.log'. Use one of .csv, .tsv"),
        ("a", "'a' ends in ''"),
    ],
)
def test_unknown_endings(tmp_path: Path, name: str, message: str) -> None:
    assert message in refusal(write(tmp_path / name, "x"))


def test_no_file(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "a.csv")
    (tmp_path / "b.csv").mkdir()
    assert "there is no file" in refusal(tmp_path / "b.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text\nx\n")
    path.chmod(0)
    assert "cannot read" in refusal(path)


# --- lines of text


def test_each_line_of_a_text_file_is_an_example(tmp_path: Path) -> None:
    rows = read_file(write(tmp_path / "a.txt", 'one\n\n  two, "x"\n \nthree\n\n'))
    assert list(rows["text"]) == ["one", '  two, "x"', "three"]
    assert [rows.place(i) for i in range(3)] == [f"line {n} of a.txt" for n in (1, 3, 5)]
    assert rows.notes == ("a.txt: 2 blank lines skipped; each other line is one example",)


def test_a_text_file_that_looks_like_a_table_is_questioned(tmp_path: Path) -> None:
    rows = read_file(write(tmp_path / "a.txt", "text\tlabel\na\t1\n"))
    assert "rename the file to end in .tsv" in rows.notes[0]
    assert "is empty" in refusal(write(tmp_path / "b.txt", "\n \n"))


# --- Parquet


def test_parquet_gives_plain_values_and_row_numbers(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "text": ["a", None],
            "n": pyarrow.array([2**53 + 1, None], pyarrow.int64()),
            "score": pyarrow.array([float("nan"), 0.5]),
            "kind": pyarrow.array(["x", "y"]).dictionary_encode(),
            "turns": [[{"role": "user", "content": "a"}], []],
            "day": [datetime.date(2024, 5, 1), None],
            "price": [decimal.Decimal("1.50"), None],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    rows = read_file(tmp_path / "a.parquet")
    first = {"text": "a", "n": 2**53 + 1, "score": None, "kind": "x", "day": "2024-05-01", "price": 1.5}
    assert {name: value for name, value in rows.row(0).items() if name != "turns"} == first
    assert rows["turns"][0] == [{"role": "user", "content": "a"}]
    assert rows.place(1) == "row 2 of a.parquet"
    assert "dates in column 'day' are read as text, such as '2024-05-01'" in "\n".join(rows.notes)


def test_the_index_of_a_frame_is_no_column(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b"]}, index=[4, 9]).to_parquet(tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet").column_names == ["text"]


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    assert "cannot read" in refusal(write(tmp_path / "a.parquet", "text,label\n"))


# --- several files


def test_several_files_are_one_table_with_the_places_of_each(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "b.csv", "text,label\nb,0\n"),
        write(tmp_path / "a.jsonl", '{"label": 1, "text": "a"}'),
    ]
    rows = read_files(paths)
    assert [*rows] == [{"text": "b", "label": 0}, {"text": "a", "label": 1}]
    assert [rows.place(i) for i in range(2)] == ["line 2 of b.csv", "line 1 of a.jsonl"]


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.csv", "text,label\nb,0\n"),
        write(tmp_path / "b.csv", "sentence,label\nb,0\n"),
    ]
    message = refusal(*paths)
    assert "'a.csv' and 'b.csv' have different columns" in message
    assert "only one of them has 'sentence', 'text'" in message


def test_a_column_of_numbers_in_one_file_and_of_text_in_another_is_text(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.csv", "zip\n12\n34.50\n"), write(tmp_path / "b.csv", "zip\n0123\n")]
    assert list(read_files(paths)["zip"]) == ["12", "34.50", "0123"]


def test_numbers_in_columns_of_text_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1, "b": 2, "c": true}\n{"a": "x", "b": 3, "c": 0.5}\n')
    rows = read_file(path, ["a", "c", "d"])
    assert [*rows] == [{"a": "1", "b": 2, "c": True}, {"a": "x", "b": 3, "c": "0.5"}]
    assert rows.notes == (
        "a.jsonl: 1 number in column 'a' read as text",
        "a.jsonl: 1 number in column 'c' read as text",
    )


# --- writing


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    values = [
        0.1,
        1e300,
        2**63,
        None,
        True,
        "007",
        "NA",
        "",
        "a\u2028b\nc\td\r",
        '"',
        "é 漢 😀",
        [1, {"a": None}],
        {},
    ]
    rows = Rows({"text": values, "n": [*range(len(values))]})
    rows.write(tmp_path / "a.jsonl")
    again = read_file(tmp_path / "a.jsonl")
    assert {name: list(again[name]) for name in again.column_names} == rows.columns
    assert [*map(type, again["text"])] == [*map(type, values)]


def test_values_that_cannot_be_written_are_refused_with_their_column(tmp_path: Path) -> None:
    rows = Rows({"text": ["a", "b"], "image": [None, b"\x89PNG"]})
    with pytest.raises(DataError, match=r"column 'image' holds values of type bytes.*first row 2"):
        rows.write(tmp_path / "a.jsonl")


def test_selected_rows_keep_their_places() -> None:
    rows = Rows({"text": ["a", "b", "c"]}, ["line 2", "line 3", "line 9"], ("note",))
    part = rows.select([2, 0])
    assert [part.place(i) for i in range(2)] == ["line 9", "line 2"]
    assert part.notes == ("note",)
    assert json.dumps([*part]) == '[{"text": "c"}, {"text": "a"}]'
