"""Tables of delimited text: separators, quotation marks, headers, and rows that do not fit."""

from __future__ import annotations

import csv
import io
from random import Random

import pandas as pd
import pytest

from trials.reading.tables.delimited import read_delimited
from trials.reading.tables.errors import DataError
from trials.reading.tables.rows import Rows


def csv_rows(text: str, name: str = "a.csv") -> Rows:
    return read_delimited(text, name, "\t" if name.endswith("tsv") else ",")


def tsv_rows(text: str) -> Rows:
    return csv_rows(text, "a.tsv")


def values(rows: Rows) -> dict[str, list[object]]:
    return {name: list(column) for name, column in rows.columns.items()}


def notes(rows: Rows) -> str:
    return "\n".join(rows.notes)


def refusal(text: str, name: str = "a.csv") -> str:
    with pytest.raises(DataError) as caught:
        csv_rows(text, name)
    return str(caught.value)


# --- TSV without quoting


def test_a_mark_at_the_beginning_of_a_field_of_a_tsv_file_glues_no_lines() -> None:
    texts = [f'"so it says: film {i}' if i % 5 == 0 else f"film {i}" for i in range(40)]
    rows = tsv_rows("sentence\tlabel\n" + "".join(f"{t}\t{i % 2}\n" for i, t in enumerate(texts)))
    assert values(rows) == {"sentence": texts, "label": [0, 1] * 20}
    assert "8 fields with a quotation mark at the beginning" in notes(rows)
    assert rows.place(5) == "line 7 of a.tsv"


@pytest.mark.parametrize(
    "texts",
    [
        ['"Yes."', "No, never", "a film", 'he said "no"'],  # a whole quotation is a text
        ['"one', 'two"', "three, four", "five"],  # two marks that would glue two lines, and be closed
        ['"', '""', "x, y", '5" pipe'],
        ["plain, and", '"quoted, here"', "a", "b"],  # another field with a comma has no marks
    ],
)
def test_marks_of_a_tsv_file_are_text_unless_all_are_those_of_a_writer(texts: list[str]) -> None:
    rows = tsv_rows("text\tlabel\n" + "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts)))
    assert list(rows["text"]) == texts
    assert list(rows["label"]) == [0, 1, 0, 1]


TEXTS = [
    'he said "no", twice',
    "a\ttab",
    "two\nlines, one\ttab",
    "plain",
    '"',
    '""x""',
    "",
    "end ",
    "naïve — 漢字",
]


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
@pytest.mark.parametrize(
    "quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC], ids=["minimal", "all", "non-numeric"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_writers_of_quoted_tables_write_is_read_as_it_was(
    separator: str, quoting: int, end: str
) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerow(["text", "label"])
    writer.writerows([text, i] for i, text in enumerate(TEXTS))
    # `read_text` has made the line ends plain.
    text = file.getvalue().replace("\r\n", "\n")
    rows = csv_rows(text, "a.tsv" if separator == "\t" else "a.csv")
    assert values(rows) == {"text": [text or None for text in TEXTS], "label": list(range(len(TEXTS)))}


@pytest.mark.parametrize("texts", [["a", "b"], ['say "x"', "b"], ["a, b", "c"]])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_a_tsv_file_whose_columns_are_quoted_throughout(texts: list[str], quoting: int) -> None:
    frame = pd.DataFrame({"text": texts, "label": ["x", "y"]})
    rows = tsv_rows(frame.to_csv(sep="\t", index=False, quoting=quoting))  # type: ignore[arg-type]
    assert values(rows) == {"text": texts, "label": ["x", "y"]}
    assert "with quoting" in notes(rows)


def test_a_tsv_file_with_marks_where_a_spreadsheet_needs_them() -> None:
    rows = tsv_rows('text\tlabel\n"good, really"\t1\nbad\t0\n"he said ""no"""\t0\n')
    assert list(rows["text"]) == ["good, really", "bad", 'he said "no"']


def random_text(random: Random) -> str:
    """Return a text of several words, some with quotation marks, separators and line breaks within."""
    letters = random.choices('abc ",\n\t;', weights=[20, 20, 20, 15, 2, 2, 1, 1, 1], k=random.randint(1, 30))
    return "".join(letters).strip() or "x"


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["minimal", "all"])
def test_random_tables_of_writers_are_read_as_they_were(separator: str, quoting: int) -> None:
    random = Random(0)
    for _ in range(60):
        frame = pd.DataFrame({"text": [random_text(random) for _ in range(random.choice([3, 10, 40]))]})
        frame["label"] = [random.randint(0, 1) for _ in range(len(frame))]
        text = frame.to_csv(sep=separator, index=False, quoting=quoting)  # type: ignore[call-overload]
        rows = read_delimited(text, "a", "\t" if separator == "\t" else ",", ["text"])
        assert values(rows) == frame.to_dict("list")


def test_random_tables_without_quoting_are_read_as_they_were() -> None:
    random = Random(0)
    for _ in range(100):
        texts = [random_text(random).replace("\n", " ").replace("\t", " ") for _ in range(20)]
        rows = read_delimited("text\tlabel\n" + "".join(f"{t}\t1\n" for t in texts), "a.tsv", "\t", ["text"])
        assert values(rows) == {"text": texts, "label": [1] * 20}


# --- CSV


def test_the_places_of_rows_are_the_lines_that_they_begin_on() -> None:
    rows = csv_rows('text,label\n"two\nlines",0\n\nplain,1\n"three\n\nlines",0\nend,1\n')
    assert [rows.place(i) for i in range(4)] == [f"line {n} of a.csv" for n in (2, 5, 6, 9)]
    assert list(rows["text"]) == ["two\nlines", "plain", "three\n\nlines", "end"]
    assert "2 rows with line breaks within a field, at most 3 lines from line 6 on" in notes(rows)
    assert "1 blank line skipped" in notes(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'text,label\n"never closed, really,0\nb,1\nc,0\n',
            "line 2 of 'a.csv' begins a field with a quotation mark that",
        ),
        (
            'text,label\n"a"b,c",0\nd,1\n',
            "line 2 of 'a.csv' begins a field with a quotation mark, and text follows",
        ),
        ("text,label\na,0\nb\nc,1\n", "line 3 of 'a.csv' has 1 field, and the header has 2"),
        ("text,label\na,0\nb,1,x,y\n\nc\n", "line 3 of 'a.csv' has 4 fields, and the header has 2"),
        ('text,label\n"a\nb",0\nc,1\n"d,e",1,2\n', "line 5 of 'a.csv' has 3 fields, and the header has 2"),
        ("text,label\n1,a,0\n2,b,1\n", "name the first column"),
        ("", "is empty"),
        ("\n\n \n", "is empty"),
        ("text,label,text\na,0,b\n", "line 1 of 'a.csv', the header, has the column 'text' twice"),
        ('"a"b,c\nd,e,f\n', "line 1 of 'a.csv'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_their_line(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\tlabel\na\t0\nb\n", "line 3 of 'a.tsv' has 1 field, and the header has 2"),
        ('text\tlabel\n"a\t0\tx\nb\t1\n', "line 2 of 'a.tsv' has 3 fields"),
        (
            '"text"\t"label"\n"a"\t"0"\n"b\t"1"\n',
            "line 3 of 'a.tsv'",
        ),  # quoting is meant, and a mark is missing
    ],
)
def test_tsv_rows_that_do_not_fit(text: str, message: str) -> None:
    assert message in refusal(text, "a.tsv")


def test_marks_in_a_csv_file_that_is_not_quoted_are_text() -> None:
    rows = csv_rows('text,label\n"so it goes,0\nb,1\n"and on,0\n')
    assert list(rows["text"]) == ['"so it goes', "b", '"and on']
    assert "without quoting" in notes(rows)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('text,label\n"he said \\"no\\", twice",0\n"b",1\n', 'he said "no", twice'),
        ('text,label\n"he said \\"no\\"",0\n"b",1\n', 'he said "no"'),
        ('text, label\n"one, two", 0\nb, 1\n', "one, two"),
        ('text,label\n"C:\\new, \\"x\\"",0\nb,1\n', 'C:\\new, "x"'),
    ],
)
def test_other_ways_to_write_marks_are_read_and_said(text: str, expected: str) -> None:
    rows = csv_rows(text)
    assert values(rows) == {"text": [expected, "b"], "label": [0, 1]}
    assert rows.notes


def test_a_long_field_is_read() -> None:
    long = "word, " * 60_000
    rows = csv_rows(f'text,label\n"{long}",0\nb,1\n')
    assert rows["text"][0] == long
    assert csv.field_size_limit() == 131_072


# --- separators


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolon"), ("\t", "tab"), ("|", "vertical bar")])
def test_the_separator_of_a_csv_file_is_detected_and_said(separator: str, word: str) -> None:
    rows = csv_rows(f"text{separator}label\ngood, truly{separator}1\nbad{separator}0\n")
    assert values(rows) == {"text": ["good, truly", "bad"], "label": [1, 0]}
    assert f"separated by a {word}" in notes(rows)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.tsv", "text,label\na,1\nb,0\n", {"text": ["a", "b"], "label": [1, 0]}),
        ("a.csv", "sep=;\ntext;label\na;1\nb;0\n", {"text": ["a", "b"], "label": [1, 0]}),
        ("a.csv", "text,label\na,1,\nb,0,\n", {"text": ["a", "b"], "label": [1, 0]}),
        ("a.csv", "text\nhello, world\nx\ny, or, z\n", {"text": ["hello, world", "x", "y, or, z"]}),
        ("a.csv", "text; or not\nhello; world\nx\n", {"text; or not": ["hello; world", "x"]}),
        ("a.csv", "text\nhello world\nx; y\n", {"text": ["hello world", "x; y"]}),
        ("a.csv", "text;price\nhouse;3,5\nflat;2,5\n", {"text": ["house", "flat"], "price": ["3,5", "2,5"]}),
    ],
)
def test_separators_of_other_endings(name: str, text: str, expected: dict[str, list[object]]) -> None:
    assert values(csv_rows(text, name)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "| text | label |\n|------|-------|\n| good, truly | 1 |\n| a \\| b | 0 |\n",
        "|text|label|\n|:-|-:|\n|good, truly|1|\n|a \\| b|0|\n",
        "text | label\n--- | ---\ngood, truly | 1\na \\| b | 0\n",
        " text         | label\n--------------+-------\n good, truly  |     1\n a \\| b       |     0\n",
        "+------+---+\n| text | label |\n+------+---+\n| good, truly | 1 |\n| a \\| b | 0 |\n+------+---+\n",
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_table_drawn_with_vertical_bars_is_read_and_said(text: str, name: str) -> None:
    rows = csv_rows(text, name)
    assert values(rows) == {"text": ["good, truly", "a | b"], "label": [1, 0]}
    assert "a table drawn with vertical bars" in notes(rows)
    before = text.partition("good")[0]
    assert rows.place(0) == f"line {before.count(chr(10)) + 1} of {name}"


def test_a_bar_within_a_field_of_a_drawn_table_is_refused() -> None:
    message = refusal("| text | label |\n|---|---|\n| a | 1 |\n| b | c | 0 |\n")
    assert (
        "line 4 of 'a.csv' has 3 fields, and the header has 2. Write a vertical bar within a field as"
        in message
    )


def test_dashes_in_a_table_with_bars_are_values() -> None:
    assert values(csv_rows("text|label\n-|-\na|b\n")) == {"text": ["-", "a"], "label": ["-", "b"]}


def test_one_space_before_every_field_of_a_column_is_the_writers() -> None:
    rows = csv_rows(
        "text,label,kind\n" + "".join(f"film {i}, {'pos' if i % 2 else 'neg'},x\n" for i in range(4))
    )
    assert values(rows) == {
        "text": [f"film {i}" for i in range(4)],
        "label": ["neg", "pos"] * 2,
        "kind": ["x"] * 4,
    }
    assert "the one space before each field of 'label' is not part of it" in notes(rows)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("text,label\na, pos\nb,neg\n", [" pos", "neg"]),  # not all
        ("text,label\na,  pos\nb, neg\n", ["  pos", " neg"]),  # not one
        ("text,label\na, pos\n", [" pos"]),  # one row
        ('text,label\na," pos"\nb," neg"\n', [" pos", " neg"]),  # enclosed
        ("text\tlabel\na\t pos\nb\t neg\n", [" pos", " neg"]),
    ],
)
def test_other_spaces_are_part_of_the_fields(text: str, labels: list[str]) -> None:
    assert list(csv_rows(text, "a.tsv" if "\t" in text else "a.csv")["label"]) == labels


# --- headers


@pytest.mark.parametrize(
    "lines",
    [
        [f"a film that I saw no. {i},{i % 2}" for i in range(20)],
        [f"{i},a film that I saw no. {i},{'pos' if i % 2 else 'neg'}" for i in range(20)],
        [f"a film that I saw no. {i}" for i in range(20)],
        [f"a film, that I saw no. {i},{i % 2}" if i % 2 else f"a film that I saw,{i % 2}" for i in range(20)],
        [f"doc_{i},{i / 7:.3f}" for i in range(20)],
        [f"{'ham' if i % 3 else 'spam'},Ok {i}" for i in range(20)],
        [f"gj04,{i % 2},,Our friends won't buy this {i}." for i in range(20)],
        [f'"{i % 2}","One of ""the"" best,\nreally {i}"' for i in range(20)],
    ],
)
def test_a_header_that_looks_like_data_is_questioned(lines: list[str]) -> None:
    message = refusal("\n".join(lines) + "\n")
    assert "line 1 of 'a.csv' should name the columns and looks like data" in message
    assert "Add a first line with the names of the columns" in message


@pytest.mark.parametrize(
    "header",
    [
        "text,label",
        "0,1",
        "text,1",
        "How likely are you to come again?,label",
        "text,2019",
        "review text,is it good",
    ],
)
def test_headers_that_are_headers(header: str) -> None:
    rows = csv_rows("\n".join([header, *(f"a film that I saw no. {i},{i % 2}" for i in range(20))]))
    assert rows.column_names == header.split(",")
    assert len(rows) == 20


def test_a_label_column_named_like_one_of_its_labels() -> None:
    rows = csv_rows("text,spam\n" + "".join(f"mail {i},{'spam' if i % 2 else 'ham'}\n" for i in range(20)))
    assert set(rows["spam"]) == {"spam", "ham"}


def test_names_are_made_clean_and_what_was_done_is_said() -> None:
    rows = csv_rows(" text , label\u200b ,\na,0,\n\ufefftext , label,\nb,1,\n")
    assert values(rows) == {"text": ["a", "b"], "label": [0, 1]}
    assert "spaces around the names" in notes(rows)


def test_an_index_without_a_name_and_a_repeated_header() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": [0, 1]})
    once = frame.to_csv()
    rows = csv_rows(once + once)
    assert values(rows) == {"Unnamed: 0": [0, 1, 0, 1], "text": ["a", "b"] * 2, "label": [0, 1] * 2}
    assert "1 row with the header again skipped" in notes(rows)


def test_a_header_without_rows() -> None:
    rows = csv_rows("text,label\n")
    assert (len(rows), rows.column_names) == (0, ["text", "label"])


def test_rows_without_any_value_are_skipped() -> None:
    rows = csv_rows("text,label\na,0\n,\n,\nb,1\n,\n\n\n")
    assert values(rows) == {"text": ["a", "b"], "label": [0, 1]}
    assert "2 blank lines skipped" in notes(rows)


# --- cells


def test_words_for_missing_values_are_words() -> None:
    words = ["None", "NA", "null", "n/a", "nan", "NaN", "N/A", "-"]
    rows = tsv_rows("text\tlabel\n" + "".join(f"{w}\t{w}\n" for w in words) + "x\t\n")
    assert list(rows["text"]) == [*words, "x"]
    assert list(rows["label"]) == [*words, None]


def test_the_missing_value_of_databases_is_missing_and_counted() -> None:
    rows = tsv_rows("text\tscore\n\\N\t1\nb\t\\N\n\\N is here\t3\n")
    assert values(rows) == {"text": [None, "b", "\\N is here"], "score": [1, None, 3]}
    assert "2 cells of \\N read as missing" in notes(rows)


def test_columns_of_text_keep_their_digits() -> None:
    text = "text,score\n007,1e3\n1.50,2\n,3\n12,4\n"
    rows = read_delimited(text, "a.csv", ",", ["text"])
    assert values(rows) == {"text": ["007", "1.50", None, "12"], "score": [1000.0, 2.0, 3.0, 4.0]}
    assert not rows.notes
