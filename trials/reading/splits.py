"""The examples of a split: read from its source and encoded, the same in the search and in an exported run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .images import read_image_folder, with_image_values
from .tables.files import read_files, with_text_columns
from .tables.hub import read_split
from .tables.label_columns import with_label_lists
from .tables.rows import Rows

Source = Mapping[str, Any]
"""Where a split is read from: `{"file": path}` or `{"files": [paths]}`; `{"images": folder}` for a folder with one
folder of images per class; `{"disk": folder, "split": name}` for a folder that datasets saved; or the arguments of
`datasets.load_dataset`. `text_columns` names columns whose numbers are text, `image_column` a column of images, and
`label_columns` columns of 0 and 1 that become one column of lists."""


def read_source(source: Source, folder: Path = Path()) -> Rows:
    """Read the rows of a split.

    Args:
        source: Where it is.
        folder: The folder that a relative path of a file starts from.

    Raises:
        DataError: It cannot be read.
    """
    rows = _read(source, folder)
    if image := source.get("image_column"):
        files = [source["file"]] if "file" in source else source.get("files", ())
        rows = with_image_values(rows, image, [(folder / file).parent for file in files])
    columns = source.get("label_columns", ())
    return with_label_lists(rows, columns) if columns else rows


def _read(source: Source, folder: Path) -> Rows:
    if "images" in source:
        return read_image_folder(folder / source["images"])
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
