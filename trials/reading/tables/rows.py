"""A table of plain Python values whose rows know where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

from .errors import DataError

Row = Mapping[str, Any]


def counted(number: int, noun: str) -> str:
    """Return a number with a noun: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@dataclass(frozen=True)
class Places(Sequence[str]):
    """Where the rows of a file are; a place becomes text only when it is asked for.

    Args:
        unit: What the numbers count: `line` or `row`.
        numbers: The number of each row, from 1.
        file: The name of the file.
    """

    unit: str
    numbers: Sequence[int]
    file: str

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Places: ...
    def __getitem__(self, index: int | slice) -> str | Places:
        """Return one place, such as `line 17 of train.tsv`, or those of a slice."""
        if isinstance(index, slice):
            return replace(self, numbers=self.numbers[index])
        return f"{self.unit} {self.numbers[index]:,} of {self.file}"


@dataclass(frozen=True)
class Rows:
    """Rows of data by column.

    Values are what the file says, as plain Python values: a column may hold dictionaries with different keys, which a
    typed table would fill up with empty ones.

    Args:
        columns: The values by column; all columns have the same length.
        places: Where each row comes from, such as `line 17 of train.tsv`; None where that is not known.
        notes: What was guessed, skipped or converted when the rows were read; one sentence each.
        class_names: The names of the classes 0, 1, … by column, where the data set has them.
    """

    columns: Mapping[str, Sequence[Any]]
    places: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Row], places: Sequence[str] | None = None, notes: Iterable[str] = ()) -> Rows:
        """Return a table of rows; a key that a row lacks is None in that row."""
        rows = list(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        return cls({name: [row.get(name) for row in rows] for name in names}, places, tuple(notes))

    @classmethod
    def joined(cls, tables: Sequence[Rows]) -> Rows:
        """Return the rows of several tables with the same columns, one table after the other."""
        columns = {
            name: [value for table in tables for value in table[name]] for name in tables[0].column_names
        }
        places = [table.place(index) for table in tables for index in range(len(table))]
        return cls(columns, places, tuple(note for table in tables for note in table.notes))

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in the order of the file."""
        return list(self.columns)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), ()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield each row as a dictionary."""
        names = self.column_names
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(names, values, strict=True))

    def __getitem__(self, column: str) -> Sequence[Any]:
        """Return the values of a column."""
        return self.columns[column]

    def row(self, index: int) -> dict[str, Any]:
        """Return one row."""
        return {name: values[index] for name, values in self.columns.items()}

    def place(self, index: int) -> str:
        """Return where a row comes from."""
        return self.places[index] if self.places is not None else f"row {index + 1}"

    def select(self, indices: Sequence[int]) -> Rows:
        """Return the rows at some indices, in their order."""
        columns = {name: [values[i] for i in indices] for name, values in self.columns.items()}
        return replace(self, columns=columns, places=[self.place(i) for i in indices])

    def with_column(self, name: str, values: Sequence[Any]) -> Rows:
        """Return the table with a column added or replaced."""
        return replace(self, columns={**self.columns, name: values})

    def only(self, names: Iterable[str]) -> Rows:
        """Return the table with some of its columns."""
        return replace(self, columns={name: self.columns[name] for name in names})

    def write(self, path: Path) -> None:
        """Write the rows as JSON lines, from which `read_file` reads equal values.

        Raises:
            DataError: A column holds values that JSON cannot express, such as bytes.
        """
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for index, row in enumerate(self):
                try:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                except TypeError:
                    raise self._unwritable(index) from None

    def _unwritable(self, index: int) -> DataError:
        for name, value in self.row(index).items():
            try:
                json.dumps(value)
            except TypeError:
                kind = type(value).__name__
                return DataError(
                    f"column {name!r} holds values of type {kind}, which JSON lines cannot express, "
                    f"first {self.place(index)}",
                    "Remove the column from the data.",
                )
        raise AssertionError("every column can be written")
