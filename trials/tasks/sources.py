"""Reading of a task's rows from local files, a data set of the hub, or the embedded data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.exceptions import DatasetsError

from search_spaces.errors import InvalidInputError, Problem, first_line
from trials.tasks.specs import DOCSTRINGS, TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")
_READ_ERRORS = (OSError, ValueError, RuntimeError, DatasetsError)
"""The exceptions of `datasets` and its readers for unreadable files and repositories."""
_READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"delimiter": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}


def read_splits(task: TaskSpec) -> tuple[dict[str, Dataset], dict[str, dict[str, Any]], list[str]]:
    """Read the splits of a task.

    Returns:
        The rows by split, the arguments of `datasets.load_dataset` by split, and messages for the user.

    Raises:
        InvalidInputError: A file or a data set cannot be read.
    """
    if task.dataset == DOCSTRINGS:
        from datasets import Dataset

        from trials.tasks.pocket import load_corpus

        corpus = load_corpus()
        return {name: Dataset.from_list(corpus.splits[name]) for name in SPLITS}, {}, [corpus.summary()]
    sources = {name: _source(task, where) for name in SPLITS if (where := getattr(task, name)) is not None}
    if task.dataset is not None:
        sources |= _usual_splits(task, sources)
    raw, problems = {}, []
    for name, source in sources.items():
        try:
            raw[name] = _load(source)
        except _READ_ERRORS as error:
            problems.append(
                Problem(
                    f"task.{name}",
                    f"cannot read {source.get('data_files', source['path'])!r} ({first_line(error, 200)})",
                    "Check that the file's format is that of its ending.",
                )
            )
    if problems:
        raise InvalidInputError(problems)
    return raw, sources, []


def _source(task: TaskSpec, where: str) -> dict[str, Any]:
    if task.dataset is not None:
        return {"path": task.dataset, "name": task.dataset_config, "split": where}
    path = Path(where).expanduser()
    if path.suffix not in _READERS:
        raise InvalidInputError(
            Problem("task", f"{where!r} ends in {path.suffix!r}", f"Use one of {', '.join(_READERS)}.")
        )
    if not path.is_file():
        raise InvalidInputError(Problem("task", f"there is no file {where!r}", "Give the path of a file."))
    reader, options = _READERS[path.suffix]
    return {"path": reader, "data_files": str(path.resolve()), "split": "train", **options}


def _usual_splits(task: TaskSpec, named: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the splits of a hub data set that have the usual names and were not named in the sweep."""
    from datasets import get_dataset_split_names

    assert task.dataset is not None
    try:
        existing = get_dataset_split_names(task.dataset, task.dataset_config)
    except _READ_ERRORS as error:
        raise InvalidInputError(
            Problem(
                "task.dataset",
                f"cannot read {task.dataset!r} ({first_line(error, 200)})",
                "Give a hub id, or a folder of data files.",
            )
        ) from error
    return {name: _source(task, name) for name in SPLITS if name in existing and name not in named}


def _load(source: Mapping[str, Any]) -> Dataset:
    from datasets import load_dataset

    return load_dataset(**source)
