"""The rows of a task's splits: from local files and folders, a data set of the hub, or the embedded data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from search_spaces.errors import InvalidInputError, Problem
from trials.data.notes import Notes
from trials.reading.images import image_folders
from trials.reading.splits import read_source
from trials.reading.tables.errors import DataError
from trials.reading.tables.files import expand_home, mixed_columns
from trials.reading.tables.folders import data_files, split_files
from trials.reading.tables.hub import is_hub_copy, is_saved, split_names
from trials.reading.tables.rows import Rows, counted
from trials.tasks.specs import DOCSTRINGS, TaskSpec

_Value = TypeVar("_Value")
SPLITS = ("train", "validation", "test")
_SHOWN = 5
"""The files that a note names."""

Where = str | tuple[str, ...]
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
    named = {name: where for name in SPLITS if (where := getattr(task, name)) is not None}
    sources = find_sources(named, task.dataset, task.dataset_config)
    # A prompt or a completion of digits is text, whether or not all of a file are.
    texts = [column for column in task.columns if column != task.label]
    if task.image:
        for source in sources.values():
            source["image_column"] = task.image
    if task.label_columns:
        for source in sources.values():
            source["label_columns"] = [*task.label_columns]
    splits = _read(sources, texts)
    if task.label is not None and task.label in mixed_columns([*splits.values()]):
        # One split alone does not show that its numbers are names: 1 and 2 in train, 1, 2 and n/a in test.
        splits = _read(sources, [*texts, task.label])
    note_unread_files([*named.values(), task.dataset], sources, notes)
    for note in dict.fromkeys(note for rows in splits.values() for note in rows.notes):
        notes.note(note)
    return splits, sources


def note_unread_files(places: Sequence[Where | None], sources: Sources, notes: Notes) -> None:
    """Name the data files of the task's folders that belong to no split, such as `holdout.csv` beside `train.csv`."""
    read = {path for source in sources.values() for path in [source.get("file"), *source.get("files", ())]}
    if not any(read):
        return  # the library `datasets` finds the splits
    folders = [_absolute(place) for place in places if isinstance(place, str)]
    for folder in dict.fromkeys(folder for folder in folders if folder.is_dir() and not is_saved(folder)):
        unread = [str(path.relative_to(folder)) for path in data_files(folder) if str(path) not in read]
        if unread:
            shown = ", ".join(unread[:_SHOWN]) + (", …" if len(unread) > _SHOWN else "")
            notes.note(
                f"{folder.name}: {counted(len(unread), 'data file')} of the folder not read, since the "
                f"{'name says' if len(unread) == 1 else 'names say'} no split that is used: {shown}"
            )


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


def find_sources(
    named: Mapping[str, Where], dataset: str | None = None, configuration: str | None = None
) -> Sources:
    """Return where the splits of a task are: those that are named, and others with usual names in the same place.

    Args:
        named: The file, files, folder or name of a split, by split; one of them is `train`.
        dataset: The hub id or the local folder of a data set, whose splits are named; None for files.
        configuration: The name of the data set's configuration.

    Raises:
        InvalidInputError: A folder has no data files, or a data set cannot be read.
    """
    if dataset is None:
        sources = _by_split({name: partial(_local_source, where, name) for name, where in named.items()})
        train = named["train"]
        if isinstance(train, str) and (folder := _absolute(train)).is_dir():
            sources = _in_folder("task.train", folder) | sources
        return {name: sources[name] for name in SPLITS if name in sources}
    wanted = {name: str(named.get(name, name)) for name in SPLITS}
    folder = _absolute(dataset)
    if folder.is_dir() and not (
        configuration or is_hub_copy(folder) or any(map(_is_sliced, wanted.values()))
    ):
        existing = _in_folder("task.dataset", folder)
        found = {name: where for name, where in wanted.items() if name in named or where in existing}
        return _by_split(
            {name: partial(_existing, existing, where, dataset) for name, where in found.items()}
        )
    hub = {"path": dataset, "name": configuration}
    try:
        names = split_names(hub)
    except DataError as error:
        raise InvalidInputError(Problem("task.dataset", error.what, error.fix)) from error
    return {
        name: {**hub, "split": where} for name, where in wanted.items() if name in named or where in names
    }


def _is_sliced(split: str) -> bool:
    """Return whether a split is a slice or a sum, such as `train[:90%]`, which only datasets can read."""
    return "[" in split or "+" in split


def _existing(sources: Sources, split: str, folder: str) -> dict[str, Any]:
    if split not in sources:
        raise DataError(f"{folder!r} has no split {split!r}", f"Use one of: {', '.join(sources)}.")
    return sources[split]


def _local_source(where: Where, split: str) -> dict[str, Any]:
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
    if not data_files(folder) and (images := image_folders(folder)):
        return {split: {"images": str(path)} for split, path in images.items()}
    return {split: _files(paths) for split, paths in split_files(folder).items()}


def _absolute(name: str) -> Path:
    return expand_home(name).resolve()


def _files(paths: Sequence[Path]) -> dict[str, Any]:
    return {"file": str(paths[0])} if len(paths) == 1 else {"files": [*map(str, paths)]}
