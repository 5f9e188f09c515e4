"""The rows of a task's splits: from local files and folders, a data set of the hub, or the embedded data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from search_spaces.errors import InvalidInputError, Problem
from trials.data.notes import Notes
from trials.reading.errors import DataError
from trials.reading.rows import Rows
from trials.reading.splits import read_source
from trials.reading.tables.files import mixed_columns
from trials.reading.tables.folders import split_files
from trials.reading.tables.hub import is_hub_copy, is_saved, split_names
from trials.tasks.specs import DOCSTRINGS, TaskSpec

_Value = TypeVar("_Value")
SPLITS = ("train", "validation", "test")

Sources = dict[str, dict[str, Any]]
"""Where `trials.reading.splits.read_source` finds each split."""


def read_splits(task: TaskSpec, notes: Notes) -> tuple[dict[str, Rows], Sources]:
    """Read the splits of a task.

    Returns:
        The rows by split, and where `trials.reading.splits.read_source` finds each split again.

    Raises:
        InvalidInputError: A file or a data set cannot be read.
    """
    if task.dataset == DOCSTRINGS:
        from trials.tasks.pocket import load_corpus

        corpus = load_corpus()
        notes.note(corpus.summary())
        return {name: Rows.of(corpus.splits[name]) for name in SPLITS}, {}
    sources = find_sources(task)
    # A prompt or a completion of digits is text, whether or not all of a file are.
    texts = [column for column in task.columns if column != task.label]
    splits = _read(sources, texts)
    if task.label is not None and task.label in mixed_columns([*splits.values()]):
        # One split alone does not show that its numbers are names: 1 and 2 in train, 1, 2 and n/a in test.
        splits = _read(sources, [*texts, task.label])
    for note in dict.fromkeys(note for rows in splits.values() for note in rows.notes):
        notes.note(note)
    return splits, sources


def _read(sources: Sources, text_columns: Sequence[str]) -> dict[str, Rows]:
    """Read the splits, and name their columns of text in the sources, so that other readers of them agree."""
    for source in sources.values():
        source["text_columns"] = [*text_columns]
    return _by_split({name: partial(read_source, source) for name, source in sources.items()})


def _by_split(functions: Mapping[str, Callable[[], _Value]]) -> dict[str, _Value]:
    """Call a function per split, and report the problems of all splits at once."""
    values, problems = {}, []
    for name, function in functions.items():
        try:
            values[name] = function()
        except DataError as error:
            problems.append(Problem(f"task.{name}", error.what, error.fix))
    if problems:
        raise InvalidInputError(problems)
    return values


def find_sources(task: TaskSpec) -> Sources:
    """Return where the splits of a task are.

    Raises:
        InvalidInputError: A folder has no data files, or a data set cannot be read.
    """
    named = {name: where for name in SPLITS if (where := getattr(task, name)) is not None}
    if task.dataset is None:
        sources = _by_split({name: partial(_local_source, where, name) for name, where in named.items()})
        if isinstance(task.train, str) and (folder := _absolute(task.train)).is_dir():
            others = _in_folder("task.train", folder)
            sources |= {name: others[name] for name in SPLITS if name in others and name not in sources}
        return sources
    if _absolute(task.dataset).is_dir() and not _needs_library(task, named):
        existing = _in_folder("task.dataset", _absolute(task.dataset))
        return _by_split(
            {
                name: partial(_existing, existing, named.get(name, name), task.dataset)
                for name in SPLITS
                if name in named or name in existing
            }
        )
    hub = {"path": task.dataset, "name": task.dataset_config}
    try:
        existing_names = split_names(hub)
    except DataError as error:
        raise InvalidInputError(Problem("task.dataset", error.what, error.fix)) from error
    return {
        name: {**hub, "split": named.get(name, name)}
        for name in SPLITS
        if name in named or name in existing_names
    }


def _needs_library(task: TaskSpec, named: Mapping[str, object]) -> bool:
    """Return whether datasets must read a local folder: for a configuration, or for a slice such as `train[:9]`."""
    assert task.dataset is not None
    sliced = any(not str(where).replace("_", "").isalnum() for where in named.values())
    return task.dataset_config is not None or sliced or is_hub_copy(_absolute(task.dataset))


def _existing(sources: Sources, split: str, folder: str) -> dict[str, Any]:
    if split not in sources:
        raise DataError(f"{folder!r} has no split {split!r}", f"Use one of: {', '.join(sources)}.")
    return sources[split]


def _local_source(where: str | tuple[str, ...], split: str) -> dict[str, Any]:
    paths = [_absolute(name) for name in ([where] if isinstance(where, str) else where)]
    if len(paths) > 1 or not paths[0].is_dir():
        return _files(paths)
    sources = _folder_splits(paths[0])
    # A folder that is given for one split and whose names say nothing holds that split.
    return next(iter(sources.values())) if len(sources) == 1 else _existing(sources, split, str(paths[0]))


def _in_folder(field: str, folder: Path) -> Sources:
    try:
        return _folder_splits(folder)
    except DataError as error:
        raise InvalidInputError(Problem(field, error.what, error.fix)) from error


def _folder_splits(folder: Path) -> Sources:
    """Return the splits of a folder, of data files or saved by datasets."""
    if is_saved(folder):
        return {split: {"disk": str(folder), "split": split} for split in split_names({"disk": str(folder)})}
    return {split: _files(paths) for split, paths in split_files(folder).items()}


def _absolute(name: str) -> Path:
    return Path(name).expanduser().resolve()


def _files(paths: Sequence[Path]) -> dict[str, Any]:
    return {"file": str(paths[0])} if len(paths) == 1 else {"files": [*map(str, paths)]}
