"""Reading of Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from .errors import DataError, first_line
from .rows import Places, Rows

_INDEX = "__index_level_0__"
"""The column in which pandas stores the index of a frame."""


def read_parquet(path: Path) -> Rows:
    """Read a Parquet file as plain Python values.

    Dates and times become text in the form of ISO 8601, and bytes become text if all of a column are UTF-8.

    Raises:
        DataError: The file cannot be read.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        # Not `read_table`, which adds columns for folders named like `language=en`.
        with pyarrow.parquet.ParquetFile(path) as file:
            table = file.read()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"cannot read {str(path)!r} ({first_line(error)})",
            "Check that the file is complete and is a Parquet file.",
        ) from error
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise DataError(f"{path.name!r} has the column {twice[0]!r} twice", "Rename one of them.")
    notes: list[str] = []
    names = [name for name in table.column_names if name != _INDEX]
    columns = {name: _plain(table[name].to_pylist(), name, path.name, notes) for name in names}
    return Rows(columns, Places("row", range(1, table.num_rows + 1), path.name), tuple(notes))


def _plain(values: Sequence[Any], column: str, name: str, notes: list[str]) -> Sequence[Any]:
    first = next((value for value in values if value is not None), None)
    if isinstance(first, date | datetime | time):
        notes.append(f"{name}: dates in column {column!r} are read as text, such as {first.isoformat()!r}")
        return [None if value is None else value.isoformat() for value in values]
    if isinstance(first, Decimal):
        notes.append(f"{name}: decimal numbers in column {column!r} are read as floats")
        return [None if value is None else float(value) for value in values]
    if isinstance(first, bytes):
        return decoded(values, column, name, notes)
    if isinstance(first, float):
        return [None if value != value else value for value in values]
    if isinstance(first, dict | list):
        return [without_absent_keys(value) for value in values]
    return values


def decoded(values: Sequence[Any], column: str, name: str, notes: list[str]) -> Sequence[Any]:
    """Return the bytes of a column as text, with a note, or as they are if one of them is not text in UTF-8."""
    try:
        texts = [value.decode("utf-8") if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        return values
    if any("\0" in text for text in texts if isinstance(text, str)):
        return values
    notes.append(f"{name}: bytes in column {column!r} are read as text in UTF-8")
    return texts


def without_absent_keys(value: Any) -> Any:
    """Return a value without the keys of its mappings that are None, at any depth.

    Arrow gives all mappings of a column the keys of all of them: the arguments of a tool call would have those of
    every other call, as None.
    """
    if isinstance(value, Mapping):
        return {key: without_absent_keys(item) for key, item in value.items() if item is not None}
    return [without_absent_keys(item) for item in value] if isinstance(value, list) else value
