"""Tables without quotation marks in which texts hold separators: whose texts they are, if that is certain."""

from __future__ import annotations

from collections.abc import Sequence

from .quoting import fits_values, known_values

_NUMBERS = frozenset("0")


def find_surplus(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the column whose texts hold separators without quotation marks, or None if that is not certain.

    It is certain if the rows of the header's width show that all other columns have numbers or the few values of
    labels, only one column can hold the surplus so that all rows agree with that, and no row can be split in another
    way: see `_is_certain`.

    Args:
        rows: The fields of each row, split at each separator, the header first.
    """
    width = len(rows[0]) if rows else 0
    exact = [row for row in rows[1:] if len(row) == width]
    longer = [row for row in rows[1:] if len(row) > width]
    if not exact or not longer or len(exact) + len(longer) < len(rows) - 1:
        return None  # a surplus that all rows have is a column without a name
    if any(field.startswith('"') for row in rows for field in row):
        return None
    known = [known_values(column) for column in zip(*exact, strict=True)]
    fitting = [
        place
        for place in range(width)
        if all(values for column, values in enumerate(known) if column != place)
        and all(_fits_others(row, place, known) for row in longer)
    ]
    if len(fitting) != 1 or not all(_is_certain(row, fitting[0], known) for row in longer):
        return None
    return fitting[0]


def join_surplus(rows: Sequence[Sequence[str]], column: int, separator: str) -> list[list[str]]:
    """Return the rows with the surplus of their fields joined in one column."""
    width = len(rows[0])
    return [
        [
            *row[:column],
            separator.join(row[column : len(row) - width + column + 1]),
            *row[len(row) - width + column + 1 :],
        ]
        for row in rows
    ]


def _parts(row: Sequence[str], place: int, width: int) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """Return the fields before a text, the pieces of the text, and the fields after it."""
    end = len(row) - width + place + 1
    return row[:place], row[place:end], row[end:]


def _fits_others(row: Sequence[str], place: int, known: Sequence[frozenset[str]]) -> bool:
    before, _, after = _parts(row, place, len(known))
    values = [*known[:place], *known[place + 1 :]]
    return all(fits_values(field, each) for field, each in zip([*before, *after], values, strict=True))


def _is_certain(row: Sequence[str], place: int, known: Sequence[frozenset[str]]) -> bool:
    """Return whether the separators of a row are those of prose, and none can belong to another field.

    A space follows them, and none follows the separators of the row's fields. The first and the last piece of the
    text are no part of a field beside it: `1,201` may be one price, and `sad, angry` two labels.
    """
    before, pieces, after = _parts(row, place, len(known))
    if any(field.startswith(" ") for field in [*row[1 : place + 1], *after]):
        return False
    if not all(piece.startswith(" ") for piece in pieces[1:]):
        return False
    left, right = known[: len(before)], known[place + 1 :]
    return not any(_could_be(pieces[0], values) for values in left) and not any(
        _could_be(pieces[-1], values) for values in right
    )


def _could_be(piece: str, known: frozenset[str]) -> bool:
    """Return whether a piece could be a part of a value: it has no letters, or as few words as labels have."""
    if not any(map(str.isalpha, piece)):
        return True
    if known == _NUMBERS:
        return False
    return len(piece.split()) <= max(len(value.split()) for value in known)
