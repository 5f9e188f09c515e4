"""A model's shape from whatever names it, without its weights: for commands that only want to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autotune.scaffold.inspection import inspect_model
from autotune.sweep.paths import looks_like_path
from search_spaces.errors import InvalidInputError, Problem, first_line
from search_spaces.families.framework.base import TaskType
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from search_spaces.model.task_heads import MissingHeadError

_FIX = "Give a folder with a config.json, a hub id, or a model type such as bert or gpt2."


def shape_of_model(name: str, task: TaskType, labels: int = 2) -> ModelShape:
    """The shape of a model that is not loaded.

    Args:
        name: a folder with a config.json, a hub id, `builtin:pocket`, or transformers' name of an
            architecture (bert, gpt2, llama), which stands for its default configuration.

    Raises:
        InvalidInputError: nothing is found under the name, or it cannot be read or cannot do the task.
    """
    config = read_config(name)
    try:
        return read_shape(config, task, labels)
    except MissingHeadError as error:
        fix = "Choose another task, or a model with a head for it."
        raise InvalidInputError(
            Problem("--task", f"{name!r} ({config.model_type}) cannot do {task}", fix)
        ) from error
    except ValueError as error:
        text = first_line(error)
        where, _, what = text.partition(": ")
        field, fix = "--model", "Choose a model whose layers are alike and of a known architecture."
        if where == "task":
            field, fix = "--task", "Choose another task, or another model."
        raise InvalidInputError(Problem(field, f"{name!r} cannot be used: {what or text}", fix)) from error


def usual_task(name: str) -> TaskType:
    """To classify: texts, or images where the model has a head for them and none for texts.

    Raises:
        InvalidInputError: as `shape_of_model`.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as IMAGES,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as TEXTS,
    )

    kind = read_config(name).model_type
    return "image-classification" if kind in IMAGES and kind not in TEXTS else "sequence-classification"


def read_config(name: str) -> Any:
    """A transformers configuration; InvalidInputError as `shape_of_model` says."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    path = Path(name).expanduser()
    if name == "builtin:pocket":
        from trials.tasks.pocket import base_folder

        path = Path(base_folder())
    if not path.is_dir():
        if name in CONFIG_MAPPING:
            return CONFIG_MAPPING[name]()
        if path.is_file():
            raise InvalidInputError(Problem("--model", f"{name!r} is a file", "Give the model's folder."))
        if looks_like_path(name):
            raise InvalidInputError(Problem("--model", f"there is no folder {name!r}", _FIX))
    about = inspect_model(name)  # soon says so where there is no network
    if isinstance(about, str):
        raise InvalidInputError(Problem("--model", about.removeprefix("model: "), _FIX))
    try:
        return AutoConfig.from_pretrained(str(path) if path.is_dir() else name)
    except (ValueError, OSError) as error:
        raise InvalidInputError(
            Problem("--model", f"{name!r} cannot be read ({first_line(error)})", _FIX)
        ) from error
