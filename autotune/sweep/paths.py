"""Paths in a sweep file: resolved relative to the folder of the file, and checked when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autotune.sweep.start_spec import START_FROM, absolute_folders
from search_spaces.errors import Problem
from search_spaces.language.loader import is_preset
from trials.reading.chat_templates import CHOICES
from trials.reading.tables.files import data_format, expand_home, unknown_ending

_SPLITS = ("train", "validation", "test")


def resolve_paths(data: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Make the paths of a sweep file absolute.

    A model or data set that does not exist as a path and does not look like one is kept as a Hugging Face id.

    Args:
        data: the content of the file.
        folder: the folder of the file.

    Returns:
        A copy of the content with absolute paths, and one problem per path that does not exist.
    """
    resolved, problems = dict(data), list[Problem]()
    model = data.get("model")
    if isinstance(model, str):
        resolved["model"] = _model(model, "model", folder, problems)
    elif isinstance(model, Mapping):
        resolved["model"] = _model_section(model, folder, problems)
    ladder = data.get("ladder")
    if isinstance(ladder, Mapping) and isinstance(ladder.get("bases"), list | tuple):
        resolved["ladder"] = {**ladder, "bases": _bases(ladder["bases"], "ladder.bases", folder, problems)}
    if isinstance(data.get("task"), Mapping):
        resolved["task"] = _task(data["task"], folder, problems)
    if START_FROM in data:
        resolved[START_FROM] = absolute_folders(data[START_FROM], folder)
    space = data.get("space")
    if isinstance(space, str) and not is_preset(space):
        resolved["space"] = str(_absolute(space, folder))
    elif isinstance(space, Mapping) and "include" in space:
        resolved["space"] = {**space, "include": _inclusions(space["include"], folder)}
    return resolved, problems


def _absolute(name: str, folder: Path) -> Path:
    return (folder / expand_home(name)).resolve()


def _inclusions(given: object, folder: Path) -> object:
    if isinstance(given, list | tuple):
        return [_inclusions(name, folder) for name in given]
    return str(_absolute(given, folder)) if isinstance(given, str) and not is_preset(given) else given


def looks_like_path(name: str) -> bool:
    """Return whether a name is a path and not a Hugging Face id such as `owner/model`."""
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1


def model_name(name: str, where: str, folder: Path) -> tuple[str, list[Problem]]:
    """Resolve the name of a model on the command line.

    Args:
        name: a folder or a Hugging Face model id.
        where: the option, for problems.
        folder: relative paths are relative to this folder.

    Returns:
        The absolute path of a folder or the unchanged id, and the problems.
    """
    problems: list[Problem] = []
    found = _model(name, where, folder, problems)
    if not Path(found).exists():
        fix = "Give the folder of a model, or a Hugging Face model id."
        problems = [Problem(problem.where, problem.what, fix) for problem in problems]
    return found, problems


def _model(name: str, where: str, folder: Path, problems: list[Problem]) -> str:
    path = _absolute(name, folder)
    if name.startswith("builtin:") or not name:
        return name
    if path.is_dir():
        if not (path / "config.json").is_file():
            fix = "Give the folder that holds the model's config.json and its safetensors."
            problems.append(Problem(where, f"{str(path)!r} has no config.json", fix))
        return str(path)
    if path.is_file():
        problems.append(Problem(where, f"{name!r} is a file", "Give the folder of the model."))
    elif looks_like_path(name):
        problems.append(Problem(where, f"there is no folder {str(path)!r}", _relative_to(folder, name)))
    return name


def _model_section(model: Mapping[str, Any], folder: Path, problems: list[Problem]) -> dict[str, Any]:
    found = dict(model)
    if isinstance(model.get("name"), str):
        found["name"] = _model(model["name"], "model.name", folder, problems)
    if isinstance(model.get("choices"), list | tuple):
        found["choices"] = _bases(model["choices"], "model.choices", folder, problems)
    return found


def _bases(given: Sequence[object], where: str, folder: Path, problems: list[Problem]) -> list[object]:
    return [
        _model(name, f"{where}[{place}]", folder, problems) if isinstance(name, str) else name
        for place, name in enumerate(given)
    ]


def _task(task: Mapping[str, Any], folder: Path, problems: list[Problem]) -> dict[str, Any]:
    resolved = dict(task)
    template = task.get("chat_template")
    if isinstance(template, str) and template not in CHOICES and "{" not in template:
        resolved["chat_template"] = str(_absolute(template, folder))
    if isinstance(also := task.get("also"), list | tuple):
        resolved["also"] = [
            _further_set(each, f"task.also[{place}]", folder, problems) for place, each in enumerate(also)
        ]
    dataset = task.get("dataset")
    if isinstance(dataset, str):
        path = _absolute(dataset, folder)
        if dataset.startswith("builtin:"):
            return resolved
        if path.exists():
            resolved["dataset"] = str(path)
        elif looks_like_path(dataset):
            problems.append(
                Problem("task.dataset", f"there is no {str(path)!r}", _relative_to(folder, dataset))
            )
        return resolved
    if "train" not in task:
        fix = "Write train: with the path of a data file or folder, or dataset: with a Hugging Face data set id."
        problems.append(Problem("task.train", "missing", fix))
    for split in _SPLITS:
        given = task.get(split)
        if isinstance(given, str):
            resolved[split] = _data_path(given, f"task.{split}", folder, problems)
        elif isinstance(given, list | tuple) and all(isinstance(name, str) for name in given):
            resolved[split] = [
                _data_path(name, f"task.{split}[{place}]", folder, problems, is_in_list=True)
                for place, name in enumerate(given)
            ]
    return resolved


def _further_set(given: object, where: str, folder: Path, problems: list[Problem]) -> object:
    if not isinstance(given, Mapping):
        return given
    data, dataset = given.get("data"), given.get("dataset")
    if isinstance(dataset, str):
        path = _absolute(dataset, folder)
        return {**given, "dataset": str(path)} if path.exists() else given
    if isinstance(data, str):
        return {**given, "data": _data_path(data, f"{where}.data", folder, problems)}
    if isinstance(data, list | tuple) and all(isinstance(name, str) for name in data):
        paths = [
            _data_path(n, f"{where}.data[{i}]", folder, problems, is_in_list=True) for i, n in enumerate(data)
        ]
        return {**given, "data": paths}
    return given


def _data_path(
    name: str, where: str, folder: Path, problems: list[Problem], *, is_in_list: bool = False
) -> str:
    path = _absolute(name, folder)
    if path.is_dir() and not is_in_list:
        return str(path)
    if not path.is_file():
        what = f"{str(path)!r} is a folder" if path.is_dir() else f"there is no file {str(path)!r}"
        problems.append(Problem(where, what, _relative_to(folder, name)))
    elif data_format(path) is None:
        error = unknown_ending(path)
        problems.append(Problem(where, error.what, error.fix))
    return str(path)


def _relative_to(folder: Path, name: str) -> str:
    path = expand_home(name)
    if path.is_absolute():
        return "Check the path."
    here = path.resolve()
    if here.exists():
        return f"Paths are relative to the folder of the sweep file. Did you mean {str(here)!r}?"
    return f"Check the path. It is relative to the folder of the sweep file, {str(folder.resolve())!r}."
