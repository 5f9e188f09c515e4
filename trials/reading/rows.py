"""A table of plain Python values whose rows know where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows of data by column.

    Values are what the file says, as plain Python values: a column may hold dictionaries with different keys, which a
    typed table would fill up with empty ones.

    Args:
        columns: The values by column; all columns have the same length.
        places: Where each row comes from, such as `line 17 of train.tsv`; None where that is not known.
    """

    columns: Mapping[str, Sequence[Any]]
    places: Sequence[str] | None = None

    @classmethod
    def of(cls, rows: Iterable[Row], places: Sequence[str] | None = None) -> Rows:
        """Return a table of rows; a key that a row lacks is None in that row."""
        rows = list(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        return cls({name: [row.get(name) for row in rows] for name in names}, places)

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
        return Rows(columns, [self.place(i) for i in indices])

    def with_column(self, name: str, values: Sequence[Any]) -> Rows:
        """Return the table with a column added or replaced."""
        return Rows({**self.columns, name: values}, self.places)

    def only(self, names: Iterable[str]) -> Rows:
        """Return the table with some of its columns."""
        return Rows({name: self.columns[name] for name in names}, self.places)

    def write(self, path: Path) -> None:
        """Write the rows as JSON lines, from which `read_file` reads equal values."""
        with path.open("w", encoding="utf-8") as file:
            for row in self:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
