"""What a search starts from: configurations to try first, and the folders of earlier sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError, Problem

TRY, START_FROM = "try", "start_from"
"""The keys of a sweep file."""
FRONT_SHARE = 4
"""At most one in so many trials of the budget trains a configuration of an earlier front first."""
_EXAMPLE = "Write try: [{family: lora, lora.rank: 8}], with parameters as in space.parameters."


def read_tries(value: object) -> object:
    """Check the form of `try`; names and values are checked against the space when the sweep is prepared.

    Args:
        value: one configuration or a list of them, each a mapping of parameters to values.

    Returns:
        A list of mappings, or the value itself where its type is for the schema to refuse.

    Raises:
        InvalidInputError: an entry is no mapping of names to values, or holds nothing.

    Example:
        >>> read_tries({"family": "lora", "lora.rank": 8})
        [{'family': 'lora', 'lora.rank': 8}]
    """
    if value is None:
        return []
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple):
        raise InvalidInputError(Problem(TRY, f"{value!r} is not a list of configurations", _EXAMPLE))
    problems = []
    for place, entry in enumerate(value):
        where = f"{TRY}[{place}]"
        if not isinstance(entry, Mapping):
            problems.append(Problem(where, f"{entry!r} is not a configuration", _EXAMPLE))
        elif not entry:
            problems.append(Problem(where, "is empty", "Write at least the family, or remove the entry."))
        else:
            problems += [
                Problem(where, f"{name!r} is not the name of a parameter", _EXAMPLE)
                for name in entry
                if not isinstance(name, str)
            ]
    if problems:
        raise InvalidInputError(problems)
    return [dict(entry) for entry in value]


def read_start_from(value: object) -> object:
    """Return the folders of `start_from` as a list; a single text is a list of one.

    Raises:
        InvalidInputError: a folder is named twice.

    Example:
        >>> read_start_from("sweeps/sst2")
        ['sweeps/sst2']
    """
    if value is None:
        return []
    folders = [value] if isinstance(value, str) else value
    if isinstance(folders, list | tuple):
        repeated = [
            Problem(f"{START_FROM}[{place}]", f"{folder!r} is named twice", "Remove one.")
            for place, folder in enumerate(folders)
            if folder in folders[:place]
        ]
        if repeated:
            raise InvalidInputError(repeated)
    return folders


def absolute_folders(value: object, folder: Path) -> object:
    """Return the folders of `start_from` relative to the folder of the sweep file, as absolute paths.

    Whether they exist is checked when a sweep starts: one that resumes has stored what it needs of them.

    Args:
        value: a folder or a list of folders; other values are returned as they are.
        folder: of the sweep file.
    """
    if isinstance(value, str):
        return str((folder / Path(value).expanduser()).resolve()) if value else value
    if isinstance(value, list | tuple):
        return [absolute_folders(each, folder) if isinstance(each, str) else each for each in value]
    return value


def comparable_folders(folders: list[str], *, compare_paths: bool) -> list[str]:
    """Return the folders as two sweeps compare them: by their names alone where paths may have moved."""
    return folders if compare_paths else [Path(folder).name for folder in folders]


def start_fields(fields: Mapping[str, Any]) -> list[str]:
    """Return the keys of a sweep file, by the fields of the model that reads it: some have another name in Python."""
    return [field.alias or name for name, field in fields.items()]
