"""The rows of a task's splits: from local files, a data set of the hub, or the embedded data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError, Problem, first_line
from trials.data.notes import Notes
from trials.reading.errors import DataError
from trials.reading.rows import Rows
from trials.reading.splits import read_source
from trials.tasks.specs import DOCSTRINGS, TaskSpec

SPLITS = ("train", "validation", "test")


def read_splits(task: TaskSpec, notes: Notes) -> tuple[dict[str, Rows], dict[str, dict[str, Any]]]:
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
    sources = {name: _source(task, where) for name in SPLITS if (where := getattr(task, name)) is not None}
    if task.dataset is not None:
        sources |= _usual_splits(task, sources)
    splits, problems = {}, []
    for name, source in sources.items():
        try:
            splits[name] = read_source(source)
        except DataError as error:
            problems.append(Problem(f"task.{name}", error.what, error.fix))
    if problems:
        raise InvalidInputError(problems)
    return splits, sources


def _source(task: TaskSpec, where: str) -> dict[str, Any]:
    if task.dataset is not None:
        return {"path": task.dataset, "name": task.dataset_config, "split": where}
    return {"file": str(Path(where).expanduser().resolve())}


def _usual_splits(task: TaskSpec, named: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the splits of a hub data set that have the usual names and were not named in the sweep."""
    from datasets import get_dataset_split_names
    from datasets.exceptions import DatasetsError

    assert task.dataset is not None
    try:
        existing = get_dataset_split_names(task.dataset, task.dataset_config)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise InvalidInputError(
            Problem(
                "task.dataset",
                f"cannot read {task.dataset!r} ({first_line(error, 200)})",
                "Give a hub id, or a folder of data files.",
            )
        ) from error
    return {name: _source(task, name) for name in SPLITS if name in existing and name not in named}
