"""The examples of a split: read from its source and encoded, the same in the search and in an exported run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .encoding import IGNORED, Encoded, encode
from .errors import DataError
from .rows import Rows
from .tables.files import read_files, rows_of_kinds
from .tables.hub import read_split

Source = Mapping[str, Any]
"""Where a split is read from: `{"file": path}` or `{"files": [paths]}`; `{"disk": folder, "split": name}` for a
folder that datasets saved; or the arguments of `datasets.load_dataset`. `kinds` names columns that are to be text or
numbers."""


def read_source(source: Source, folder: Path = Path()) -> Rows:
    """Read the rows of a split.

    Args:
        source: Where it is.
        folder: The folder that a relative path of a file starts from.

    Raises:
        DataError: It cannot be read.
    """
    kinds = source.get("kinds", {})
    files = [source["file"]] if "file" in source else source.get("files")
    if files is not None:
        return read_files([folder / file for file in files], kinds)
    return rows_of_kinds(read_split(source), kinds, source["split"])


def complete_rows(rows: Rows, columns: Sequence[str]) -> list[int]:
    """Return the indices of the rows that have a value in each of these columns."""
    return [
        index
        for index in range(len(rows))
        if all((value := rows[column][index]) is not None and value == value for column in columns)
    ]


def encode_rows(
    rows: Rows, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
) -> tuple[list[Encoded], list[int]]:
    """Encode the rows of a split.

    Args:
        rows: The rows, with a value in each column of the task.
        task: The fields of the task's spec.
        tokenizer: The model's tokenizer.
        classes: The label values in order for classification, else None.

    Returns:
        The examples that have target tokens or a label, and the indices of their rows.

    Raises:
        DataError: A row cannot be encoded.
    """
    examples = []
    for index, row in enumerate(rows):
        try:
            examples.append(encode(row, task, tokenizer, classes))
        except (ValueError, TypeError, KeyError) as error:
            text = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise DataError(
                f"the tokenizer cannot encode {rows.place(index)} ({text})",
                "Check the columns: text must be strings, messages lists of {role, content}.",
            ) from error
    kept = with_targets(examples)
    return [examples[i] for i in kept], kept


def with_targets(examples: Sequence[Encoded]) -> list[int]:
    """Return the indices of the examples with target tokens, or with a label."""
    # A causal model predicts the next token, so the first label is never scored.
    return [
        index
        for index, example in enumerate(examples)
        if not isinstance(labels := example["labels"], list) or any(label != IGNORED for label in labels[1:])
    ]
