"""The types of cells that are text in a file: numbers where the whole column is numbers, and text otherwise."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

_INTEGER = re.compile(r" *[+-]?(?:0|[1-9][0-9]*) *").fullmatch
_DECIMAL = re.compile(r" *[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? *").fullmatch
_FRACTION = re.compile(r"\.([0-9]*[1-9])?(0*)$").search
_EXACT_DIGITS = 15
"""Digits of a whole number that a float holds for sure."""
_MOST_DIGITS = 1_000
"""Python refuses to convert texts of more than 4,300 digits; so long a text is no number."""


def typed(cells: Sequence[str]) -> list[Any]:
    """Return the cells of a column as whole numbers, as decimal numbers, or as text; empty cells are None.

    A column is of numbers only if each cell that is not empty is a finite number in plain or scientific notation. All
    of a column is text if a cell is a word (`NA`, `nan`, `inf`, `true`), has leading zeros (`007`), or would not be
    the same again: `3.10` beside `3.9` may be a version, and whole numbers of many digits beside decimal numbers
    would be rounded.

    Example:
        >>> typed(["1", "", "-3"]), typed(["1", "2.5"]), typed(["007", "1"])
        ([1, None, -3], [1.0, 2.5], ['007', '1'])
    """
    different = set(cells)
    different.discard("")
    if not different:
        return [None] * len(cells)
    if all(map(_INTEGER, different)) and max(map(len, different)) <= _MOST_DIGITS:
        return _converted(cells, {text: int(text) for text in different})
    if all(map(_DECIMAL, different)) and not _loses_digits(different):
        return _converted(cells, {text: float(text) for text in different})
    return [cell or None for cell in cells]


def _converted(cells: Sequence[str], values: dict[str, Any]) -> list[Any]:
    values[""] = None
    return [values[cell] for cell in cells]


def _loses_digits(different: Iterable[str]) -> bool:
    fractions = set()
    padded = False
    for text in different:
        if len(text) > _EXACT_DIGITS and _INTEGER(text):
            return True
        if not math.isfinite(float(text)):
            return True
        if fraction := _FRACTION(text.rstrip()):
            fractions.add(len(fraction[0]))
            padded = padded or bool(fraction[1] and fraction[2])
    return padded and len(fractions) > 1


def as_text(values: Sequence[Any]) -> list[Any]:
    """Return the values of a column with numbers as text, whole ones without a fraction.

    Example:
        >>> as_text([7, 1.0, 2.5, True, None, "x"])
        ['7', '1', '2.5', True, None, 'x']
    """
    return [_as_text(value) for value in values]


def _as_text(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
