"""Whether the quotation marks of a table enclose its fields or belong to its texts.

Both are possible in one file: `"Yes."` is a quoted field, or a text that is a quotation. What decides is whether all
of the marks are what a writer of quoted tables would have written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from .cell_types import typed

_MOSTLY = 0.9
_FEW_VALUES = 50


def is_enclosed(field: str) -> bool:
    """Return whether a field begins and ends with a quotation mark, and marks within it are doubled."""
    return len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', "")


def is_quoted(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the marks in a table, split at each separator, are those of a writer of quoted tables.

    Such a writer encloses all fields of a column, or those fields that need it: they hold a quotation mark, and for
    some writers a comma. In a table that is not quoted, other fields hold them too.

    Args:
        rows: The fields of each row as they stand in the file, the header first.
    """
    if all(map(is_enclosed, rows[0])):
        return True
    marked = [column for column in zip(*rows[1:], strict=True) if any('"' in field for field in column)]
    return bool(marked) and all(_is_enclosed_throughout(column) or _is_as_needed(column) for column in marked)


def breaks_labels(plain: Sequence[Sequence[str]], quoted: Sequence[Sequence[str]]) -> bool:
    """Return whether a table without quoting has other values in columns of labels or numbers than one with quoting.

    The lines of a quoted text can happen to have as many fields as the header. Their parts are then in columns where
    they do not belong.

    Args:
        plain: The fields of each row of the reading without quoting, the header first.
        quoted: Those of the reading with quoting.
    """
    if len(plain) == len(quoted):
        return False
    columns = zip(zip(*plain[1:], strict=True), zip(*quoted[1:], strict=True), strict=True)
    pairs = ((column, _known(other)) for column, other in columns)
    return any(known and not all(_fits(field, known) for field in column) for column, known in pairs)


def has_quoted_fields(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether quoting is meant in a table even if single marks are wrong: such marks are errors, not text.

    Args:
        rows: The fields of each row as they stand in the file, the header first.
    """
    rows = [[field.replace('\\"', '""') for field in row] for row in rows]
    if rows and all(map(is_enclosed, rows[0])):
        return True
    begun = [field for row in rows[1:] for field in row if field.startswith('"')]
    if sum(is_enclosed(field) and '""' in field[1:-1] for field in begun) * 2 > len(begun):
        return True
    return any(_is_enclosed_throughout(column) for column in zip(*rows[1:], strict=False))


def _is_enclosed_throughout(column: Sequence[str]) -> bool:
    filled = [field for field in column if field]
    return bool(filled) and sum(map(is_enclosed, filled)) >= _MOSTLY * len(filled)


def _is_as_needed(column: Sequence[str]) -> bool:
    enclosed = {field for field in column if is_enclosed(field)}
    plain = [field for field in column if field not in enclosed]
    if any('"' in field for field in plain):
        return False
    inner = [field[1:-1] for field in enclosed]
    if all('"' in text for text in inner):
        return True
    return all('"' in text or "," in text for text in inner) and not any("," in field for field in plain)


def find_glued_row(
    rows: Sequence[Sequence[str]],
    lines: Sequence[int],
    plain: Sequence[Sequence[str]],
    plain_lines: Sequence[int],
) -> int | None:
    """Return the index of a row one of whose fields holds what looks like whole rows, or None.

    A field that holds line breaks may be a text of several lines, or several rows between two stray quotation marks.
    It is taken for the latter if its lines have as many fields as the header, with values that the columns of labels
    and numbers have elsewhere.

    Args:
        rows: The rows of the quoted reading, the header first.
        lines: The line that each of them begins on.
        plain: The fields of each line that is not blank, split at each separator.
        plain_lines: These lines.
    """
    broken = [i for i, row in enumerate(rows) if i and any("\n" in field for field in row)]
    if not broken:
        return None
    whole = [row for i, row in enumerate(rows) if i and not any("\n" in field for field in row)]
    texts = {c for i in broken for c, field in enumerate(rows[i]) if "\n" in field}
    columns = {c: column for c, column in enumerate(zip(*whole, strict=True)) if c not in texts}
    known = {c: values for c, column in columns.items() if (values := _known(column))}
    if not known:
        return None
    width = len(rows[0])
    for index in broken:
        end = bisect_left(plain_lines, lines[index + 1]) if index + 1 < len(rows) else len(plain)
        physical = plain[bisect_left(plain_lines, lines[index]) : end]
        alike = sum(len(row) == width and all(_fits(row[c], known[c]) for c in known) for row in physical)
        if alike > 1 and alike >= _MOSTLY * len(physical):
            return index
    return None


def find_surplus(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the column whose texts hold separators without quotation marks, or None if that is not certain.

    It is certain if some rows have too many fields and none too few, and only one column can hold the surplus so that
    all other columns have numbers or the few values of labels.

    Args:
        rows: The fields of each row, split at each separator, the header first.
    """
    width = len(rows[0]) if rows else 0
    lengths = {len(row) for row in rows[1:]}
    if len(lengths) < 2 or min(lengths) < width:
        return None  # a surplus that all rows have is a column without a name
    if any(field.startswith('"') for row in rows for field in row):
        return None
    fitting = []
    for place in range(width):
        others = [
            column
            for i, column in enumerate(zip(*_joined(rows[1:], width, place, ""), strict=True))
            if i != place
        ]
        if all(map(_known, others)):
            fitting.append(place)
    return fitting[0] if len(fitting) == 1 else None


def join_surplus(rows: Sequence[Sequence[str]], column: int, separator: str) -> list[list[str]]:
    """Return the rows with the surplus of their fields joined in one column."""
    return _joined(rows, len(rows[0]), column, separator)


def _joined(rows: Sequence[Sequence[str]], width: int, place: int, separator: str) -> list[list[str]]:
    return [
        [
            *row[:place],
            separator.join(row[place : len(row) - width + place + 1]),
            *row[len(row) - width + place + 1 :],
        ]
        for row in rows
    ]


def _known(column: Sequence[str]) -> frozenset[str]:
    """Return the values of a column of labels, `{"0"}` for one of numbers, and nothing for a column of texts."""
    if all(isinstance(value, int | float) for value in typed(column)):
        return frozenset("0")
    different = frozenset(column)
    return different if len(different) <= min(_FEW_VALUES, max(1, len(column) // 2)) else frozenset()


def _fits(field: str, known: frozenset[str]) -> bool:
    if known == frozenset("0"):
        return isinstance(typed([field])[0], int | float)
    return field in known
