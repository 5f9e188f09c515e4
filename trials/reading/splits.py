"""The examples of a split: read from its source and encoded, the same in the search and in an exported run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .encoding import Encoded, Encoding, count_targets, encode_fully
from .lengths import Cut, measured_cut
from .tables.errors import DataError, RowError, first_line
from .tables.files import read_files, with_text_columns
from .tables.hub import read_split
from .tables.rows import Rows

Source = Mapping[str, Any]
"""Where a split is read from: `{"file": path}` or `{"files": [paths]}`; `{"disk": folder, "split": name}` for a
folder that datasets saved; or the arguments of `datasets.load_dataset`. `text_columns` names
columns whose numbers are text."""

_SHOWN = 3
"""The causes of bad rows that an error names."""


def read_source(source: Source, folder: Path = Path()) -> Rows:
    """Read the rows of a split.

    Args:
        source: Where it is.
        folder: The folder that a relative path of a file starts from.

    Raises:
        DataError: It cannot be read.
    """
    text_columns = source.get("text_columns", ())
    files = [source["file"]] if "file" in source else source.get("files")
    if files is not None:
        return read_files([folder / file for file in files], text_columns)
    return with_text_columns(read_split(source), text_columns, source["split"])


def complete_rows(rows: Rows, columns: Sequence[str]) -> list[int]:
    """Return the indices of the rows that have a value in each of these columns."""
    return [
        index
        for index in range(len(rows))
        if all((value := rows[column][index]) is not None and value == value for column in columns)
    ]


@dataclass(frozen=True)
class EncodedRows:
    """The examples of a split.

    Args:
        examples: The examples that have target tokens or a label.
        kept: The indices of their rows.
        cut: What `max_length` cut of all rows that could be encoded.
        bad: What is wrong with the rows that were dropped, one clause per cause; empty if there are none.
        bad_rows: The number of these rows.
        remarks: How often something was decided or left out in a row.
    """

    examples: list[Encoded]
    kept: list[int]
    cut: Cut
    bad: str
    bad_rows: int
    remarks: Counter[str]


def encode_rows(
    rows: Rows, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
) -> EncodedRows:
    """Encode the rows of a split.

    Args:
        rows: The rows, with a value in each column that the task requires.
        task: The fields of the task's spec. Rows that cannot be encoded are dropped if `bad_rows` is `drop`.
        tokenizer: The model's tokenizer.
        classes: The label values in order for classification, else None.

    Raises:
        DataError: A row cannot be encoded.
    """
    encodings, errors = dict[int, Encoding](), dict[int, RowError]()
    for index, row in enumerate(rows):
        try:
            encodings[index] = encode_fully(row, task, tokenizer, classes)
        except RowError as error:
            errors[index] = error
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"the tokenizer cannot encode {rows.place(index)} ({first_line(error)})",
                "Check the columns: text must be strings, messages lists of {role, content}.",
            ) from error
    bad = _causes(rows, errors)
    if errors and task.get("bad_rows") != "drop":
        fix = next(iter(errors.values())).fix
        raise DataError(bad, f"{fix} bad_rows: drop leaves them out.")
    indices = list(encodings)
    kept = [indices[i] for i in with_targets([encodings[i].example for i in indices])]
    remarks = Counter(remark for index in kept for remark in encodings[index].remarks)
    examples = [encodings[index].example for index in kept]
    cut = measured_cut(
        task["max_length"],
        [(e.full_length, e.full_targets, count_targets(e.example["labels"])) for e in encodings.values()],
    )
    return EncodedRows(examples, kept, cut, bad, len(errors), remarks)


def _causes(rows: Rows, errors: Mapping[int, RowError]) -> str:
    """Return the causes of bad rows with their counts, the frequent ones first, each with its first row."""
    if not errors:
        return ""
    first: dict[str, int] = {}
    for index, error in errors.items():
        first.setdefault(error.what, index)
    counts = Counter(error.what for error in errors.values())
    shown = [
        f"{what}, in {count:,} {'row' if count == 1 else 'rows'}, first {rows.place(first[what])}"
        for what, count in counts.most_common(_SHOWN)
    ]
    more = f"; and {len(counts) - _SHOWN:,} other causes" if len(counts) > _SHOWN else ""
    return f"{len(errors):,} of {len(rows):,} rows cannot be used: {'; '.join(shown)}{more}"


def with_targets(examples: Sequence[Encoded]) -> list[int]:
    """Return the indices of the examples with target tokens, or with a label."""
    return [
        index
        for index, example in enumerate(examples)
        if not isinstance(labels := example["labels"], list) or count_targets(labels)
    ]
