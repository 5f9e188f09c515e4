"""Reading and writing sweep files.

All problems of a file are reported at once, each with its path in the file, the value and the fix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autotune.sweep.sampler_spec import sampler_problems
from autotune.sweep.schema import EXAMPLES, FIELDS, Sweep, task_type_of
from autotune.sweep.validation_errors import problems_of
from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.language.yaml_io import load_yaml, write_yaml

BUILTIN = Path(__file__).parent.parent / "builtin"


def builtin_names() -> list[str]:
    """Return the names of the sweeps that come with the package."""
    return sorted(path.stem for path in BUILTIN.glob("*.yaml"))


def load_sweep(source: str | Path, *, check_files: bool = True, data_version: int | None = None) -> Sweep:
    """Read a sweep file or a built-in sweep.

    Args:
        source: the path of a YAML file, or the name of a built-in sweep. Paths in a file are relative to its folder.
        check_files: whether the files that the sweep names must exist and its sampler must be installed.
        data_version: of a file that does not name one; by default the newest.

    Raises:
        InvalidInputError: the file has problems; the error lists all of them.

    Example:
        >>> load_sweep("quickstart").budget.trials
        26
    """
    path = _find(source)
    data = load_yaml(path)
    if not isinstance(data, Mapping):
        raise InvalidInputError(
            Problem(str(source), "is not a mapping of keys to values", f"Start with: {EXAMPLES['model']}")
        )
    named = {"name": _folder_name(path.stem), **data}
    if data_version is not None and isinstance(named.get("task"), Mapping):
        named["task"] = {"data_version": data_version, **named["task"]}
    return parse_sweep(named, path.parent, check_files=check_files)


def parse_sweep(data: Mapping[str, Any], folder: Path = Path(), *, check_files: bool = True) -> Sweep:
    """Build a sweep from the content of a sweep file.

    Args:
        data: the content of the file, with a `name`.
        folder: relative paths are relative to this folder.
        check_files: whether the files that the sweep names must exist and its sampler must be installed.

    Raises:
        InvalidInputError: the content has problems; the error lists all of them.
    """
    from autotune.sweep.paths import resolve_paths  # here, so that the models do not need the file system

    resolved, problems = resolve_paths(data, folder)
    problems = problems + sampler_problems(resolved.get("sampler")) if check_files else []
    try:
        sweep = Sweep.model_validate(resolved, context={"task_type": task_type_of(resolved.get("task"))})
    except ValidationError as error:
        problems = problems_of(error, resolved, FIELDS, EXAMPLES) + problems
    if problems:
        raise InvalidInputError(problems)
    return sweep


def dump_sweep(sweep: Sweep, path: str | Path, header: str = "") -> None:
    """Write a sweep file with every default, from which `load_sweep` reads an equal sweep.

    Args:
        sweep: the sweep.
        path: the file to write.
        header: a comment at the top of the file.
    """
    write_yaml(as_mapping(sweep), path, header)


def changed_confirm(sweep: Sweep, changes: Mapping[str, Any]) -> Sweep:
    """Return the sweep with other options of its confirmation, checked as those of a file.

    Raises:
        InvalidInputError: an option is out of its range.
    """
    mapping = as_mapping(sweep)
    checked = parse_sweep({**mapping, "confirm": {**mapping["confirm"], **changes}}, check_files=False)
    return sweep.model_copy(update={"confirm": checked.confirm})


def as_mapping(sweep: Sweep) -> dict[str, Any]:
    """Return a sweep as lists and mappings, without fields that are None, or open as fidelity and executor may be."""
    given = {"fidelity": sweep.is_fidelity_open, "executor": sweep.is_executor_open}
    return sweep.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        exclude={name for name, is_open in given.items() if is_open},
    )


def _find(source: str | Path) -> Path:
    if (path := Path(source).expanduser()).is_file():
        return path
    if path.is_dir():
        fix = f"Give a sweep file. To continue a sweep that was started: autotune resume {source}"
        raise InvalidInputError(Problem(str(source), "is a folder, not a sweep file", fix))
    builtin = BUILTIN / f"{source}.yaml"
    if str(source) in builtin_names():
        return builtin
    fix = did_you_mean(str(source), builtin_names()) + " Or give the path of a sweep file."
    raise InvalidInputError(Problem(str(source), "there is no such file and no such built-in sweep", fix))


def _folder_name(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-_") or "sweep"
