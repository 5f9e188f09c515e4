"""Reading of JSON: lines, arrays, and the objects that tools wrap rows in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import DataError
from .rows import Places, Rows, counted

_WHITESPACE = " \t\n\r"


def read_json(text: str, name: str) -> Rows:
    """Read rows from JSON: one object per line, an array of objects, or an object that holds one of them.

    Values are read as they are written; NaN, which JSON does not have and tools write for missing numbers, is None.

    Args:
        text: The content, with plain line ends.
        name: The name of the file, for messages.

    Raises:
        DataError: The content is no JSON, an object has a key twice, or it is not clear what the rows are.
    """
    parser = _Parser(text, name)
    values, lines = parser.parse()
    if not values:
        raise DataError(f"cannot read {name!r}: it is empty", "Give a file with one object per row.")
    notes: list[str] = []
    places = Places("line", lines, name)
    if len(values) == 1 and (rows := _unwrapped(values[0], name, notes)) is not None:
        values, places = rows, Places("row", range(1, len(rows) + 1), name)
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise DataError(
                f"{places[index]} is {_kind(value)}, and rows are objects with the names of columns",
                'Write each row as an object, such as {"text": "...", "label": 0}.',
            )
    if parser.missing:
        notes.append(f"{name}: {counted(parser.missing, 'NaN value')} read as missing")
    return Rows.of(values, places, notes)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


class _Parser:
    """A strict parser that names lines.

    Args:
        text: The content.
        name: The name of the file, for messages.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.missing = 0
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant)
        # Only escapes can name half of a character, which no tokenizer and no file takes.
        self._has_surrogates = "\\ud" in text or "\\uD" in text

    def parse(self) -> tuple[list[Any], list[int]]:
        """Return the values at the top level, and the line that each begins on."""
        lines = self.text.split("\n")
        first = next((line for line in lines if line.strip()), "")
        if self._is_complete(first):
            numbers = [number for number, line in enumerate(lines, 1) if line and line.strip()]
            return [self._value(lines[number - 1], number) for number in numbers], numbers
        return self._sequence()

    def _is_complete(self, line: str) -> bool:
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return False
        return True

    def _value(self, line: str, number: int) -> Any:
        try:
            value = self._decoder.decode(line)
        except (ValueError, RecursionError) as error:
            raise self._error(error, number) from None
        self._check_characters(value, number)
        return value

    def _sequence(self) -> tuple[list[Any], list[int]]:
        """Return values that take several lines each, such as one array of indented objects."""
        values: list[Any] = []
        lines: list[int] = []
        place, line = 0, 1
        while True:
            start = place
            while place < len(self.text) and self.text[place] in _WHITESPACE:
                place += 1
            if place == len(self.text):
                return values, lines
            line += self.text.count("\n", start, place)
            try:
                value, end = self._decoder.raw_decode(self.text, place)
            except (ValueError, RecursionError) as error:
                offset = error.lineno if isinstance(error, json.JSONDecodeError) else line
                raise self._error(error, offset) from None
            self._check_characters(value, line)
            values.append(value)
            lines.append(line)
            line += self.text.count("\n", place, end)
            place = end

    def _error(self, error: Exception, line: int) -> DataError:
        text = error.msg if isinstance(error, json.JSONDecodeError) else str(error).partition("\n")[0]
        return DataError(
            f"cannot read line {line:,} of {self.name!r} ({text[:100]})",
            "Write one JSON object per line, or one array of objects.",
        )

    def _check_characters(self, value: Any, line: int) -> None:
        if not self._has_surrogates:
            return
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(
                f"line {line:,} of {self.name!r} has half of a character (\\ud8.. or \\udc..)",
                "Write both halves of the character, or remove it.",
            ) from None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise ValueError(f"the key {twice!r} is there twice")
        return value

    def _constant(self, word: str) -> float | None:
        if word == "NaN":
            self.missing += 1
            return None
        return float(word)


def _unwrapped(value: Any, name: str, notes: list[str]) -> list[Any] | None:
    """Return the rows within the one value that a file holds; None if the value is the only row."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return None
    tables = [key for key, rows in value.items() if _is_table(rows)]
    if any(_is_chat(value[key]) for key in tables):
        return None
    if "rows" in tables and all(isinstance(row.get("row"), dict) for row in value["rows"]):
        notes.append(f"{name}: the rows are in the form of the viewer of the Hugging Face hub")
        return [row["row"] for row in value["rows"]]
    if len(tables) == 1:
        notes.append(f"{name}: the rows are the array {tables[0]!r}")
        return list(value[tables[0]])
    if len(tables) > 1:
        raise DataError(
            f"{name!r} has several arrays of rows ({', '.join(map(repr, tables))})",
            "Write each of them to a file of its own, and name the files in train, validation and test.",
        )
    if len(value) == 1 and any(map(_is_table, _values_of(*value.values()))):
        return _unwrapped(next(iter(value.values())), name, notes)
    if set(value) - {"index"} == {"columns", "data"} and all(isinstance(v, list) for v in value.values()):
        notes.append(f"{name}: the rows are in the form of pandas' orient='split'")
        return _from_split(value["columns"], value["data"], name)
    columns = list(value.values())
    if len(columns) > 0 and all(isinstance(c, list) for c in columns) and len(set(map(len, columns))) == 1:
        if any(isinstance(cell, list | dict) for column in columns for cell in column[:1]):
            return None  # one row whose values are arrays
        notes.append(f"{name}: the object holds one array per column")
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if columns and all(isinstance(c, dict) and c for c in columns):
        return _from_nested(value, name, notes)
    return None


def _from_split(columns: list[Any], data: list[Any], name: str) -> list[dict[str, Any]]:
    for number, row in enumerate(data, 1):
        if not isinstance(row, list) or len(row) != len(columns):
            found = f"has {counted(len(row), 'value')}" if isinstance(row, list) else f"is {_kind(row)}"
            raise DataError(
                f"row {number:,} of 'data' in {name!r} {found}, and 'columns' has {counted(len(columns), 'name')}",
                "Write each row as an array with one value per column, null where it has none.",
            )
    if not all(isinstance(column, str) for column in columns) or len({*columns}) < len(columns):
        raise DataError(f"'columns' in {name!r} are not different texts", "Name each column once, as text.")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _values_of(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []


def _is_table(rows: Any) -> bool:
    return isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) for row in rows)


def _is_chat(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether objects are the turns of one chat, and not rows."""
    return all("role" in row or "from" in row for row in rows)


def _from_nested(value: Mapping[str, Mapping[str, Any]], name: str, notes: list[str]) -> list[Any] | None:
    """Return rows from columns of numbered cells (pandas' default), or from rows by identifier."""
    inner = list(value.values())
    keys: Sequence[str] = list(inner[0])
    if all(key.isdecimal() for key in keys) and all(list(column) == keys for column in inner):
        notes.append(f"{name}: the object holds one object of numbered cells per column")
        return [{title: column[key] for title, column in value.items()} for key in keys]
    if len(inner) > 1 and all(set(row) == set(keys) for row in inner):
        notes.append(f"{name}: the object holds one row per key; the keys are not read")
        return inner
    return None
