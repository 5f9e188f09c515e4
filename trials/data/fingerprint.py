"""Fingerprints of a task's data and of a base model: whether a sweep still has what it started with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError, Problem
from trials.reading.base_model import fingerprint as reading
from trials.reading.fingerprint import Fingerprint, split_changes, split_fingerprint
from trials.reading.tables.errors import DataError
from trials.reading.tables.rows import Rows
from trials.tasks.specs import ModelSpec, TaskSpec, resolve_model


def file_stamps(task: TaskSpec, model: ModelSpec) -> tuple[tuple[str, int, int], ...]:
    """Return the path, size and time of each local file of the data and of the model's configuration and tokenizer.

    They change when a file is written, and are read at once, so that a cache can tell that it is out of date.
    """
    named = [task.dataset, task.train, task.validation, task.test]
    paths = [Path(each) for name in named for each in ([name] if isinstance(name, str) else name or ())]
    folder = Path(resolve_model(model.name)).expanduser()
    files = [path for path in paths if path.is_file()]
    files += [file for path in paths if path.is_dir() for file in path.rglob("*")]
    files += [file for pattern in ("*.json", "*.txt", "*.jinja", "*.model") for file in folder.glob(pattern)]
    stats = [(str(file), file.stat()) for file in sorted(set(files)) if file.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def data_fingerprint(splits: Mapping[str, Rows], task: TaskSpec) -> dict[str, Fingerprint]:
    """Return the fingerprint of each split of a task, as it was read and carved."""
    fields = task.model_dump()
    return {name: split_fingerprint(rows, task.columns, fields) for name, rows in splits.items()}


def model_fingerprint(model: ModelSpec, tokenizer: Any, task: TaskSpec) -> Fingerprint:
    """Return the fingerprint of a base model and its tokenizer.

    Args:
        model: The base model, which has been read on this machine.
        tokenizer: The model's tokenizer.
        task: The task; the chat template counts for a language model only.

    Raises:
        InvalidInputError: The folder's files cannot be read.
    """
    name = resolve_model(model.name)
    try:
        return reading.model_fingerprint(
            name, tokenizer, task.type, revision=model.revision, has_code=model.trust_remote_code
        )
    except DataError as error:
        raise InvalidInputError(Problem("model", error.what, error.fix)) from error


def hub_commit(model: ModelSpec) -> str | None:
    """Return the commit of a hub model that this machine has read; None for a folder, or if it is not known."""
    return reading.hub_commit(resolve_model(model.name), model.revision)


def data_changes(before: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]) -> list[str]:
    """Return what changed in the data, in clauses."""
    return [
        change
        for name, split in before.items()
        if name in now
        for change in split_changes(name, split, now[name])
    ]
