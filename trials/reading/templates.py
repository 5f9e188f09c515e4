"""Texts made of columns, such as `{instruction}\\n\\n{input}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .tables.errors import DataError

BETWEEN_COLUMNS = "\n\n"
"""What joins the columns of a list: a blank line."""


def parse_template(template: str) -> list[tuple[str, str | None]]:
    """Split a template at its columns.

    A column's name stands in braces; a brace itself is doubled. Nothing else has a meaning: no attribute, index or
    format of `str.format`.

    Returns:
        Pairs of literal text and the column that follows it, None at the end.

    Raises:
        DataError: A brace is not closed, not opened, or encloses no name.
    """
    parts, literal, place = list[tuple[str, str | None]](), "", 0
    while place < len(template):
        sign = template[place]
        if template[place : place + 2] in ("{{", "}}"):
            literal, place = literal + sign, place + 2
        elif sign == "{":
            end = template.find("}", place)
            name = template[place + 1 : end].strip() if end > 0 else ""
            if not name or "{" in name:
                raise DataError(
                    f"{template!r} has a brace at character {place + 1} that encloses no column",
                    "Write {column}; double a brace that is part of the text: {{ or }}.",
                )
            parts.append((literal, name))
            literal, place = "", end + 1
        elif sign == "}":
            raise DataError(
                f"{template!r} has a closing brace at character {place + 1} that was not opened",
                "Write {column}; double a brace that is part of the text: {{ or }}.",
            )
        else:
            literal, place = literal + sign, place + 1
    return [*parts, (literal, None)]


def is_template(value: object) -> bool:
    """Return whether a text names columns in braces, and is not itself the name of a column."""
    return isinstance(value, str) and ("{" in value or "}" in value)


def columns_of(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns that a field reads: those of a template or a list, or the one that it names.

    Raises:
        DataError: It is a template that cannot be parsed.
    """
    if value is None:
        return ()
    if not isinstance(value, str):
        return tuple(value)
    if not is_template(value):
        return (value,)
    return tuple(dict.fromkeys(name for _, name in parse_template(value) if name is not None))


def fill(value: str | Sequence[str], texts: Mapping[str, Any]) -> str:
    """Return the text of a field in a row.

    Args:
        value: A template, a list of columns, of which those with text are joined by a blank line, or one column.
        texts: The row's text by column.
    """
    if not isinstance(value, str):
        return BETWEEN_COLUMNS.join(text for name in value if (text := texts[name]).strip())
    if not is_template(value):
        return str(texts[value])
    return "".join(literal + (texts[name] if name else "") for literal, name in parse_template(value))
