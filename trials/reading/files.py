"""Reading of a data file by its ending."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from .errors import DataError
from .rows import Rows

_READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"delimiter": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}
ENDINGS = tuple(_READERS)
"""The endings of files that can be read, in lower case."""


def read_file(path: Path) -> Rows:
    """Read the rows of a data file.

    Raises:
        DataError: There is no such file, its ending is unknown, or its content cannot be read.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    ending = path.suffix.lower()
    if ending not in _READERS:
        raise DataError(f"{str(path)!r} ends in {path.suffix!r}", f"Use one of {', '.join(ENDINGS)}.")
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}", "Give the path of a file.")
    reader, options = _READERS[ending]
    try:
        table = load_dataset(reader, data_files=glob.escape(str(path.resolve())), split="train", **options)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        text = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise DataError(
            f"cannot read {str(path)!r} ({text})", "Check that the file's format is that of its ending."
        ) from error
    return Rows({name: table[name][:] for name in table.column_names})
