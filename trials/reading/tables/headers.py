"""The header of a delimited table: its names are made clean, and a header that looks like data is questioned."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from .cell_types import typed
from .errors import DataError
from .rows import counted

_FEW_VALUES = 50
_SENTENCE = 4
"""Words from which a name looks like a text."""
_SAMPLE = 1_000


def clean_header(
    rows: Sequence[Sequence[str]], lines: Sequence[int], name: str, notes: list[str]
) -> tuple[list[tuple[int, str]], list[int]]:
    """Return the places and names of a table's columns, and the indices of the rows that are not headers.

    Args:
        rows: The fields of each row, the header first.
        lines: The line that each row begins on.
        name: The name of the file, for messages.
        notes: Receives what was changed.

    Raises:
        DataError: Two columns have the same name, or the first line looks like data.
    """
    header = [*map(_clean, rows[0])]
    if header != list(rows[0]):
        notes.append(f"{name}: spaces around the names of columns are removed")
    body = _without_repeated_headers(rows, header, name, notes)
    columns: list[tuple[int, str]] = []
    for place, title in enumerate(header):
        if title:
            columns.append((place, title))
        elif any(rows[i][place].strip() for i in body):
            columns.append((place, f"Unnamed: {place}"))
            notes.append(f"{name}: column {place + 1} has no name and is called 'Unnamed: {place}'")
    twice = [title for title, count in Counter(title for _, title in columns).items() if count > 1]
    if twice:
        raise DataError(
            f"line {lines[0]:,} of {name!r}, the header, has the column {twice[0]!r} twice",
            "Rename one of them.",
        )
    if _looks_like_data(header, [rows[i] for i in body[:_SAMPLE]]):
        raise _data_in_header(header, lines[0], name)
    return columns, body


def check_is_header(header: Sequence[str], line: int, name: str) -> None:
    """Check the names of a table whose rows do not fit them.

    Raises:
        DataError: A name is a number or a sentence, so that the first line is likely the first row.
    """
    if any(isinstance(typed([title])[0], int | float) or len(title.split()) >= _SENTENCE for title in header):
        raise _data_in_header(header, line, name)


def _data_in_header(header: Sequence[str], line: int, name: str) -> DataError:
    text = " ".join(", ".join(header).split())
    return DataError(
        f"line {line:,} of {name!r} should name the columns and looks like data "
        f"({text if len(text) <= 80 else f'{text[:77]}...'})",
        "Add a first line with the names of the columns, such as text,label; if it is a header, shorten its names.",
    )


def _clean(title: str) -> str:
    """Return a name without spaces around it, also without those of no width, as in files that were joined."""
    return title.strip().strip("\ufeff\u200b").strip()


def _without_repeated_headers(
    rows: Sequence[Sequence[str]], header: Sequence[str], name: str, notes: list[str]
) -> list[int]:
    """Return the indices of the rows that are not the header again, as in files that were joined together."""
    if len(header) == 1:
        return list(range(1, len(rows)))  # the name may well be a text
    body = [
        i for i in range(1, len(rows)) if _clean(rows[i][0]) != header[0] or [*map(_clean, rows[i])] != header
    ]
    if repeated := len(rows) - 1 - len(body):
        notes.append(f"{name}: {counted(repeated, 'row')} with the header again skipped")
    return body


def _looks_like_data(header: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Return whether each name looks like the values of its column; columns numbered from 0 or 1 do not."""
    if not body or any(header == [str(place + first) for place in range(len(header))] for first in (0, 1)):
        return False
    columns = [
        (title, [value for value in column if value])
        for title, column in zip(header, zip(*body, strict=True), strict=True)
    ]
    others = [(title, column) for title, column in columns if title and not _is_value(title, column)]
    # Beside a name that is a number or a label, fewer words make a text.
    words = _SENTENCE if len(others) == len(columns) else _SENTENCE // 2
    return all(_is_text_like(title, column, words) for title, column in others)


def _is_value(title: str, column: Sequence[str]) -> bool:
    """Return whether a name is a number above numbers, a label above labels, or numbered as the values are."""
    if not column:
        return False
    if isinstance(typed([title])[0], int | float):
        return all(isinstance(value, int | float) for value in typed(column))
    different = set(column)
    if title in different and len(different) <= min(_FEW_VALUES, max(1, len(column) // 2)):
        return True
    return bool(re.search(r"\d", title)) and all(_shape(value) == _shape(title) for value in column)


def _is_text_like(title: str, column: Sequence[str], words: int) -> bool:
    """Return whether a name and most values of its column have so many words."""
    has_words = sum(len(value.split()) >= words for value in column) * 2 > len(column)
    return len(title.split()) >= words and has_words


def _shape(text: str) -> str:
    return re.sub(r"\d+", "9", text)
