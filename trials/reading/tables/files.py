"""Reading of a data file by its ending."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from .cell_types import as_text
from .errors import DataError
from .rows import Places, Rows, counted

_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "txt",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
ENDINGS = tuple(_FORMATS)
"""The endings of files that can be read, in lower case; a compression may follow, as in `.csv.gz`."""


def data_format(path: Path) -> str | None:
    """Return the format that a file's ending stands for, in any case; None if it is unknown.

    Example:
        >>> data_format(Path("TRAIN.TSV")), data_format(Path("train.jsonl.gz")), data_format(Path("train.xlsx"))
        ('tsv', 'json', None)
    """
    path = Path(path.name.lower())
    if path.suffix in _COMPRESSIONS:
        path = path.with_suffix("")
        return None if path.suffix == ".parquet" else _FORMATS.get(path.suffix)
    return _FORMATS.get(path.suffix)


def expand_home(name: str) -> Path:
    """Return the path of a name that may begin with the folder of a user; other names with a tilde stay."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user: the file is named so
        return Path(name)


def unknown_ending(path: Path) -> DataError:
    """Return the error of a file whose ending is unknown."""
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        return DataError(f"{path.name!r} is a workbook", "Save its table as a CSV file in UTF-8.")
    return DataError(f"{path.name!r} ends in {path.suffix!r}", f"Use one of {', '.join(ENDINGS)}.")


def read_file(path: Path, text_columns: Collection[str] = ()) -> Rows:
    """Read the rows of a data file.

    Args:
        path: The file.
        text_columns: Columns whose numbers are text: as it stands in the file, if that is one of delimited text.

    Raises:
        DataError: There is no such file, its ending is unknown, or its content cannot be read.
    """
    form = data_format(path)
    if form is None:
        raise unknown_ending(path)
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}", "Give the path of a file.")
    with _without_collection():
        return _read(path, form, text_columns)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the collection of garbage, which would go through all values again and again while rows are added."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read(path: Path, form: str, text_columns: Collection[str]) -> Rows:
    if form == "parquet":
        from .parquet import read_parquet

        return with_text_columns(read_parquet(path), text_columns, path.name)
    from .text import read_text

    text, notes = read_text(path)
    if form == "json":
        from .json_files import read_json

        rows = read_json(text, path.name)
    elif form == "txt":
        rows = _read_lines(text, path.name)
    else:
        from .delimited import read_delimited

        rows = read_delimited(text, path.name, "," if form == "csv" else "\t", text_columns)
    return with_text_columns(replace(rows, notes=(*notes, *rows.notes)), text_columns, path.name)


def with_text_columns(rows: Rows, columns: Collection[str], name: str) -> Rows:
    """Return the rows with the numbers of some columns as text, with a note on how many there are.

    Args:
        rows: The rows.
        columns: The columns; those that the rows do not have are ignored.
        name: The name of the rows' source, for the note.
    """
    for column in columns:
        values = rows.columns.get(column, ())
        numbers = sum(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if numbers:
            rows = rows.with_column(column, as_text(values))
            note = f"{name}: {counted(numbers, 'number')} in column {column!r} read as text"
            rows = replace(rows, notes=(*rows.notes, note))
    return rows


def read_files(paths: Sequence[Path], text_columns: Collection[str] = ()) -> Rows:
    """Read the rows of several files with the same columns, in order.

    A column that is of numbers in one file and of text in another is text in all of them.

    Raises:
        DataError: A file cannot be read, or the files have different columns.
    """
    tables = [read_file(path, text_columns) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if different := set(table.column_names) ^ set(tables[0].column_names):
            raise DataError(
                f"{paths[0].name!r} and {path.name!r} have different columns: "
                f"only one of them has {', '.join(map(repr, sorted(different)))}",
                "Give all files of a split the same columns.",
            )
    if mixed := mixed_columns(tables):
        tables = [read_file(path, [*text_columns, *mixed]) for path in paths]
    return tables[0] if len(tables) == 1 else Rows.joined(tables)


def mixed_columns(tables: Sequence[Rows]) -> list[str]:
    """Return the columns that are of numbers in some tables and of text in others."""
    mixed = []
    for column in dict.fromkeys(name for table in tables for name in table.column_names):
        seen = {_kind_of(table[column]) for table in tables if column in table.columns}
        if {"text", "number"} <= seen:
            mixed.append(column)
    return mixed


def _kind_of(values: Sequence[Any]) -> str | None:
    seen = {type(value) for value in values if value is not None}
    if seen and seen <= {int, float}:
        return "number"
    return "text" if seen == {str} else None


def _read_lines(text: str, name: str) -> Rows:
    """Read a text file: each line that is not blank is one example in the column `text`."""
    lines = text.split("\n")
    numbers = [number for number, line in enumerate(lines, 1) if line and line.strip()]
    if not numbers:
        raise DataError(f"cannot read {name!r}: it is empty", "Give a file with one example per line.")
    notes = []
    if blank := numbers[-1] - len(numbers):
        notes.append(f"{name}: {counted(blank, 'blank line')} skipped; each other line is one example")
    tabs = {lines[number - 1].count("\t") for number in numbers}
    if len(tabs) == 1 and tabs != {0}:
        notes.append(f"{name}: each line has a tab; if they separate columns, rename the file to end in .tsv")
    return Rows(
        {"text": [lines[number - 1] for number in numbers]}, Places("line", numbers, name), tuple(notes)
    )
