"""Whether the quotation marks of a table enclose its fields or belong to its texts.

Both are possible in one file: `"Yes."` is a quoted field, or a text that is a quotation. What decides is whether all
of the marks are what a writer of quoted tables would have written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence

from .cell_types import typed

_MOSTLY = 0.9
_FEW_VALUES = 50
_MANY_LINES = 10
"""Lines that look like rows from which they are rows even in a table whose other fields are quoted on purpose."""


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
    pairs = ((column, known_values(other)) for column, other in columns)
    return any(known and not all(fits_values(field, known) for field in column) for column, known in pairs)


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
    and numbers have elsewhere. Without such columns, the fields must not be empty or begin with a space as they do
    after a comma of prose; and where other fields show that the table has texts of several lines, or separators in
    quotation marks, only many such lines count.

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
    known = {c: values for c, column in columns.items() if (values := known_values(column))}
    width = len(rows[0])
    if width < 2:
        return None
    starts = [bisect_left(plain_lines, line) for line in lines] + [len(plain)]
    physical = {index: plain[starts[index] : starts[index + 1]] for index in broken}
    if known:
        return _find_alike(physical, lambda row: all(fits_values(row[c], known[c]) for c in known), width, 2)
    if has_quoted_fields(plain):
        return None
    one_line = [plain[starts[index]] for index in range(1, len(rows)) if index not in physical]
    meant = any(len(row) != width or any(map(is_enclosed, row)) for row in one_line)
    spaced = {c for c, column in enumerate(zip(*one_line, strict=False)) if _begin_with_space(column)}
    return _find_alike(physical, lambda row: _are_apart(row, spaced), width, _MANY_LINES if meant else 2)


def _find_alike(
    physical: Mapping[int, Sequence[Sequence[str]]],
    is_row: Callable[[Sequence[str]], bool],
    width: int,
    least: int,
) -> int | None:
    """Return the first index whose lines are mostly rows, and at least so many.

    The first and the last line, which have the marks, need only as many fields: their labels may be wrong as well.
    """
    for index, part in physical.items():
        inner = part[1:-1] if len(part[0]) == len(part[-1]) == width and len(part) >= least + 2 else part
        alike = sum(len(row) == width and is_row(row) for row in inner)
        if alike >= max(least, _MOSTLY * len(inner)):
            return index
    return None


def _begin_with_space(fields: Sequence[str]) -> bool:
    return all(field.startswith(" ") for field in fields)


def _are_apart(row: Sequence[str], spaced: Collection[int]) -> bool:
    """Return whether the parts of a line are fields: those of a sentence with a comma begin with a space.

    Args:
        row: The parts.
        spaced: The columns whose fields begin with a space in all of the table.
    """
    return all(row) and not any(field.startswith(" ") for c, field in enumerate(row) if c and c not in spaced)


def known_values(column: Sequence[str]) -> frozenset[str]:
    """Return the values of a column of labels, `{"0"}` for one of numbers, and nothing for a column of texts."""
    if all(isinstance(value, int | float) for value in typed(column)):
        return frozenset("0")
    different = frozenset(column)
    return different if len(different) <= min(_FEW_VALUES, max(1, len(column) // 2)) else frozenset()


def fits_values(field: str, known: frozenset[str]) -> bool:
    """Return whether a field is one of the values that `known_values` gives for a column."""
    if known == frozenset("0"):
        return isinstance(typed([field])[0], int | float)
    return field in known
