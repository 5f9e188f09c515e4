"""Reading of tables of delimited text: CSV and TSV, with the separator and the use of quotation marks detected.

Two readings of a file are possible: a plain one, where a field ends at the next separator and a row at the end of its
line (as GLUE writes TSV), and a quoted one, where a field in quotation marks may hold separators and line breaks
(RFC 4180). A file is read in the way that gives each row as many fields as the header. If both do, the marks decide:
see `is_quoted`. A file that neither reading fits is refused with the first line that does not fit.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from .cell_types import typed
from .errors import DataError
from .headers import check_is_header, clean_header
from .markdown import ESCAPE, STYLE, read_drawn
from .quoting import breaks_labels, find_glued_row, has_quoted_fields, is_quoted
from .rows import Places, Rows, counted
from .surplus import find_surplus, join_surplus

_SPACED = "spaces after separators are not part of the fields"
_ONE_SPACE = re.compile(" (?! )").match
_FEWEST_SPACED = 3
"""Rows with the header from which a space before every field of a column is the writer's habit."""
_MOSTLY, _FEWEST_SPLIT = 0.9, 3
"""The share and the number of lines from which a separator other than that of the ending is meant."""
_NULL = "\\N"
_ENDED = "each row ends in a separator, which the header does not have"
_ESCAPED = "quotation marks within fields are written with a backslash"
_HINT = re.compile(r"sep=([,\t;|])(?=\n)").match
"""The first line by which some spreadsheets name the separator."""
_SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}


@dataclass(frozen=True)
class Table:
    """One reading of a file.

    Args:
        separator: The character between fields.
        quoted: Whether quotation marks enclose fields.
        rows: The fields of each row, the header first.
        lines: The physical line that each row begins on, from 1.
        error: Why this reading does not fit the file, if it does not.
        line: The line of the error.
        style: What is unusual about the fields, for a note.
        blank: The number of rows without a value between others.
        broken: The number of rows that take several lines, since a field holds line breaks.
        longest: The number of lines of the longest of them, and its first line.
        surplus: The column whose texts hold separators without quotation marks, if one does.
    """

    separator: str
    quoted: bool
    rows: list[list[str]]
    lines: Sequence[int]
    error: str = ""
    line: int = 0
    style: str = ""
    blank: int = 0
    broken: int = 0
    longest: tuple[int, int] = (0, 0)
    surplus: int | None = None

    @property
    def fits(self) -> bool:
        """Whether each row has as many fields as the header."""
        return not self.error

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.rows[0]) if self.rows else 0


def read_delimited(text: str, name: str, separator: str, text_columns: Collection[str] = ()) -> Rows:
    """Read a table of delimited text whose first line is the header.

    Args:
        text: The content, with plain line ends.
        name: The name of the file, for messages.
        separator: The separator that the file's ending stands for, a comma or a tab.
        text_columns: Columns whose cells are text as it stands in the file, even if all of them are numbers.

    Raises:
        DataError: The file has no header, or no reading gives each row as many fields as the header.
    """
    if not text.strip("\n \t"):
        raise DataError(f"cannot read {name!r}: it is empty", "Give a file with a header and rows.")
    usual = separator
    if hint := _HINT(text):
        separator, text = hint[1], text[hint.end() :]
    table = _read_drawn(text, name) or _read_best(text, name, separator)
    table = _without_leading_spaces(table, has_quoted_spaces=f'{table.separator}" ' in text)
    notes = _notes(table, '"' in text, usual, name)
    header, body = clean_header(table.rows, table.lines, name, notes)
    columns = list(zip(*(_with_missing(table.rows, body, name, notes)), strict=True)) or [()] * table.width
    return Rows(
        {
            title: [cell or None for cell in columns[place]]
            if title in text_columns
            else typed(columns[place])
            for place, title in header
        },
        Places("line", [table.lines[i] for i in body], name),
        tuple(notes),
    )


def _read_drawn(text: str, name: str) -> Table | None:
    """Return the reading of a table drawn with vertical bars, as in Markdown; None if the file is none."""
    drawn = read_drawn(text)
    if drawn is None:
        return None
    table = _checked(Table("|", False, *drawn, style=STYLE))
    if not table.fits:
        raise DataError(f"line {table.line:,} of {name!r} {table.error}", ESCAPE)
    return table


def _with_missing(
    rows: Sequence[Sequence[str]], body: Sequence[int], name: str, notes: list[str]
) -> list[Sequence[str]]:
    r"""Return the rows with empty cells for those of `\N`, by which MySQL and Hive write missing values."""
    kept = [rows[i] for i in body]
    if count := sum(row.count(_NULL) for row in kept):
        notes.append(f"{name}: {counted(count, 'cell')} of {_NULL} read as missing, as databases write it")
        return [["" if field == _NULL else field for field in row] for row in kept]
    return kept


def _read_best(text: str, name: str, usual: str) -> Table:
    first = text.lstrip("\n").partition("\n")[0]
    others = [mark for mark in _SEPARATORS if mark != usual and mark in first]
    table = _read(text, usual)
    if table.fits and (table.width > 1 or not others):
        return table
    for separator in sorted(others, key=first.count, reverse=True):
        other = _read(text, separator)
        if other.fits and other.width > 1:
            return other
    if table.fits and (meant := _mostly_separated(text, others)):
        table = _read(text, meant)  # its rows that do not fit are the error
    if table.fits:
        return table
    for separator in [usual, *others]:
        other = _read_plain(text, separator)
        if (surplus := find_surplus(other.rows)) is not None:
            return replace(
                other, rows=join_surplus(other.rows, surplus, separator), error="", surplus=surplus
            )
    if table.rows:
        check_is_header(table.rows[0], table.lines[0], name)
    raise DataError(f"line {table.line:,} of {name!r} {table.error}", _fix(table, text))


def _mostly_separated(text: str, separators: Sequence[str]) -> str | None:
    """Return the separator that splits nearly all lines into as many fields as the header."""
    for separator in separators:
        plain = _read_plain(text, separator)
        alike = sum(len(row) == plain.width for row in plain.rows[1:])
        if plain.width > 1 and alike >= max(_FEWEST_SPLIT, _MOSTLY * (len(plain.rows) - 1)):
            return separator
    return None


def _fix(table: Table, text: str) -> str:
    separator = _SEPARATORS[table.separator]
    if {*map(len, table.rows[1:])} == {table.width + 1}:
        return "Each row has one field more than the header: name the first column, or remove lines above the header."
    if '"' in text or table.separator == ",":
        return (
            f"Enclose fields that hold a {separator} or a line break in quotation marks, and double the quotation "
            'marks within such fields ("").'
        )
    return f"Remove the {separator} or the line break within the field, or use JSON lines."


def _read(text: str, separator: str) -> Table:
    """Return the reading that fits, and else the usual one for the separator with its error."""
    if '"' not in text:
        return _read_plain(text, separator)
    quoted = _read_quoted(text, separator)
    is_tsv = separator == "\t"
    if quoted.fits and not is_tsv and not quoted.broken:
        return quoted
    plain = _read_plain(text, separator)
    if quoted.fits and plain.fits and is_tsv:
        return quoted if is_quoted(plain.rows) or breaks_labels(plain.rows, quoted.rows) else plain
    if quoted.fits:
        return _unless_glued(quoted, plain)
    meant = has_quoted_fields(plain.rows)
    if plain.fits and not meant:
        return plain
    for variant in _quoted_variants(text, separator):
        if variant.fits:
            return _unless_glued(variant, plain)
    return quoted if meant or not is_tsv else plain


def _unless_glued(quoted: Table, plain: Table) -> Table:
    """Return the quoted reading, with an error where a field holds what looks like rows."""
    row = find_glued_row(quoted.rows, quoted.lines, plain.rows, plain.lines)
    if row is None:
        return quoted
    error = "begins a field with a quotation mark, and up to the next one follow what looks like whole rows"
    return replace(quoted, error=error, line=quoted.lines[row])


def _quoted_variants(text: str, separator: str) -> list[Table]:
    variants = []
    if f'{separator} "' in text:
        spaced = _read_quoted(text, separator, skipinitialspace=True)
        variants.append(replace(spaced, style=_SPACED))
    if '\\"' in text:
        escaped = _read_quoted(text.replace('\\"', '""'), separator)
        variants.append(replace(escaped, style=_ESCAPED))
    return variants


def _read_plain(text: str, separator: str) -> Table:
    lines = text.split("\n")
    rows = [line.split(separator) for line in lines]
    return _checked(Table(separator, False, rows, range(1, len(rows) + 1)))


def _read_quoted(text: str, separator: str, **options: bool) -> Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    broken, longest = 0, (0, 0)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        source = io.StringIO(text, newline="\n")
        reader = csv.reader(source, delimiter=separator, strict=True, **options)  # type: ignore[arg-type]
        line = 1
        for row in reader:
            rows.append(row)
            lines.append(line)
            if reader.line_num > line:
                broken += 1
                longest = max(longest, (reader.line_num - line + 1, line))
            line = reader.line_num + 1
    except csv.Error as error:
        return Table(separator, True, rows, lines, _csv_error(str(error)), line)
    finally:
        csv.field_size_limit(limit)
    return _checked(Table(separator, True, rows, lines, broken=broken, longest=longest))


def _csv_error(message: str) -> str:
    if "end of data" in message:
        return "begins a field with a quotation mark that is never closed"
    if "expected after" in message:
        return "begins a field with a quotation mark, and text follows the closing one"
    return f"cannot be read ({message})"


def _checked(table: Table) -> Table:
    """Return the reading without blank rows, and with the first row of another width than the header as its error."""
    kept = [i for i, row in enumerate(table.rows) if any(row) and (len(row) > 1 or row[0].strip())]
    blank = kept[-1] - kept[0] + 1 - len(kept) if kept else 0
    rows, lines = [table.rows[i] for i in kept], [table.lines[i] for i in kept]
    table = replace(table, rows=rows, lines=lines, blank=blank)
    width = table.width
    if {*map(len, rows[1:])} == {width + 1} and not any(row[-1] for row in rows[1:]):
        return replace(table, rows=[rows[0], *(row[:-1] for row in rows[1:])], style=_ENDED)
    for index, row in enumerate(rows):
        if len(row) != width:
            error = f"has {counted(len(row), 'field')}, and the header has {width}"
            return replace(table, error=error, line=lines[index])
    return table


def _without_leading_spaces(table: Table, has_quoted_spaces: bool) -> Table:
    """Remove the spaces that follow separators, if the names in the header have them too, or all rows of a column."""
    if any(title.startswith(" ") for title in table.rows[0][1:]):
        rows = [[row[0], *(field.lstrip(" ") for field in row[1:])] for row in table.rows]
        return replace(table, rows=rows, style=table.style or _SPACED)
    if table.separator == "\t" or has_quoted_spaces or len(table.rows) < _FEWEST_SPACED:
        return table
    columns = list(zip(*table.rows, strict=True))
    spaced = [c for c, column in enumerate(columns) if c and all(map(_ONE_SPACE, column[1:]))]
    if not spaced:
        return table
    names = ", ".join(repr(columns[c][0].strip()) for c in spaced)
    rows = [
        [field[1:] if r and c in spaced else field for c, field in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]
    return replace(table, rows=rows, style=f"the one space before each field of {names} is not part of it")


def _notes(table: Table, has_marks: bool, usual: str, name: str) -> list[str]:
    """Return what was decided about a table, as far as it is not what the file's ending says."""
    notes = []
    separator = _SEPARATORS[table.separator]
    if table.separator != usual:
        notes.append(f"{name}: fields are separated by a {separator}")
    if has_marks and not table.quoted:
        begun = sum(field.startswith('"') for row in table.rows for field in row)
        if begun:
            notes.append(
                f"{name} is read without quoting: {counted(begun, 'field')} with a quotation mark at the beginning"
            )
    elif has_marks and usual == "\t":
        notes.append(f"{name} is read with quoting, as CSV")
    if table.style:
        notes.append(f"{name}: {table.style}")
    if table.broken:
        count, line = table.longest
        notes.append(
            f"{name}: {counted(table.broken, 'row')} with line breaks within a field, at most {count:,} lines from "
            f"line {line:,} on"
        )
    if table.surplus is not None:
        count = sum(table.separator in row[table.surplus] for row in table.rows)
        notes.append(
            f"{name}: {counted(count, 'text')} in column {table.rows[0][table.surplus].strip()!r} with a {separator} "
            "and without quotation marks around the text; it is read as part of the text"
        )
    if table.blank:
        notes.append(f"{name}: {counted(table.blank, 'blank line')} skipped")
    return notes
