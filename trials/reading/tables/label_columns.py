"""Several columns of 0 and 1 as one column of lists: the same in the search and in an exported run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import DataError
from .rows import Rows

_TRUE = (1, True, "1", "true", "True", "TRUE")
_FALSE = (0, False, "0", "false", "False", "FALSE")


def joined_name(columns: Sequence[str]) -> str:
    """Return the name of the column that stands for several."""
    return ", ".join(columns)


def with_label_lists(rows: Rows, columns: Sequence[str]) -> Rows:
    """Return the rows with a further column, which lists the names of those columns that hold a 1.

    Args:
        rows: The rows of a split.
        columns: Columns of 0 and 1, or of false and true.

    Raises:
        DataError: There is no such column, or it holds another value.
    """
    for column in columns:
        if column not in rows.columns:
            raise DataError(f"there is no column {column!r}", f"Use some of: {', '.join(rows.column_names)}.")
    flags = [[_flag(value, column, rows, i) for i, value in enumerate(rows[column])] for column in columns]
    lists = [
        [name for name, is_set in zip(columns, row, strict=True) if is_set]
        for row in zip(*flags, strict=True)
    ]
    return rows.with_column(joined_name(columns), lists)


def _flag(value: Any, column: str, rows: Rows, index: int) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise DataError(
        f"{rows.place(index)} has {value!r} in {column!r}, which is neither 0 nor 1",
        "Correct the value, or name one column with lists of labels.",
    )
