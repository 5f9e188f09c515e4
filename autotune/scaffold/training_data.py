"""The data that `autotune init` is given: files, a folder, or a data set of the hub, read as a sweep reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autotune.formatting.units import counted
from autotune.sweep.paths import looks_like_path
from search_spaces.errors import InvalidInputError, Problem
from trials.data.notes import Notes
from trials.data.sources import find_sources, note_unread_files
from trials.reading.splits import read_source
from trials.reading.tables.errors import DataError
from trials.reading.tables.files import data_format, expand_home
from trials.reading.tables.rows import Rows

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?").fullmatch
_WORDS = {"validation": ("validation", "valid", "val", "dev", "eval"), "test": ("test",)}


@dataclass
class TrainingData:
    """Training data and where they are.

    Args:
        name: The name of the data in messages.
        train: The training rows.
        dataset: The id of a data set of the hub, or None for files.
        paths: The training files, or one folder.
        others: The rows of the other splits that a folder or a data set has.
        files: The files beside a training file that are its other splits.
    """

    name: str
    train: Rows
    dataset: str | None = None
    paths: list[Path] = field(default_factory=list)
    others: Mapping[str, Rows] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)


def read_training_data(given: Sequence[str | Path]) -> TrainingData:
    """Read the data that a user names: one file or several, a folder, or the id of a data set of the hub.

    Raises:
        InvalidInputError: They cannot be read, or have no rows.
    """
    names = [str(name) for name in given]
    dataset = names[0] if len(names) == 1 and _is_hub_id(names[0]) else None
    train = "train" if dataset else names[0] if len(names) == 1 else tuple(names)
    try:
        sources = find_sources({"train": train}, dataset)
        splits = {name: read_source(source) for name, source in sources.items()}
    except DataError as error:
        raise InvalidInputError(Problem("--data", error.what, error.fix)) from None
    except InvalidInputError as error:
        raise InvalidInputError([Problem("--data", each.what, each.fix) for each in error.problems]) from None
    rows = splits.pop("train")
    if not len(rows):
        raise InvalidInputError(Problem("--data", f"{names[0]!r} has no rows", "Give a file with examples."))
    unread = Notes()
    note_unread_files(names, sources, unread)
    rows = replace(rows, notes=(*rows.notes, *unread.facts))
    paths = [] if dataset else [Path(name) for name in names]
    others = f" and {counted(len(paths) - 1, 'more file')}" if len(paths) > 1 else ""
    name = dataset or f"{paths[0].name}{others}"
    return TrainingData(name, rows, dataset, paths, splits)


def _is_hub_id(name: str) -> bool:
    path = expand_home(name)
    is_id = _HUB_ID(name) is not None and not looks_like_path(name) and data_format(path) is None
    return is_id and not path.exists() and ("/" in name or not path.suffix)


def add_sibling_files(data: TrainingData, columns: Sequence[str], notes: list[str]) -> None:
    """Add the files beside a training file that are named like its other splits and have values in all columns.

    Args:
        data: The training data.
        columns: The columns that the task uses.
        notes: Receives what was found.

    Raises:
        InvalidInputError: Such a file cannot be read.
    """
    for split in _WORDS:
        if split in data.others:
            notes.append(f"{split}: {len(data.others[split]):,} examples of {data.name}")
        elif (path := _sibling(data, split, columns, notes)) is not None:
            notes.append(f"{split}: {path.name}, found beside {data.name}")
            data.files[split] = path
        else:
            missing = (
                f" of {data.paths[0].name}, since there is no {split} file beside it" if data.paths else ""
            )
            notes.append(f"{split}: a held-out share{missing or ' of train'}")


def _sibling(data: TrainingData, split: str, columns: Sequence[str], notes: list[str]) -> Path | None:
    if len(data.paths) != 1 or not data.paths[0].is_file() or "train" not in data.paths[0].name.lower():
        return None
    train = data.paths[0]
    beside = {path.name.lower(): path for path in train.parent.iterdir() if path.is_file()}
    for word in _WORDS[split]:
        path = beside.get(train.name.lower().replace("train", word))
        if path is None:
            continue
        rows = read_training_data([path]).train
        missing = [name for name in columns if name not in rows.columns or None in rows[name]]
        if not missing:
            return path
        notes.append(f"{path.name}: not used, since it lacks values of {', '.join(missing)}")
    return None
