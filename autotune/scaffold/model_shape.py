"""The shape of a model from its name, without its weights, for commands that train nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autotune.scaffold.inspection import inspect_model
from autotune.sweep.paths import looks_like_path
from search_spaces.errors import InvalidInputError, Problem, did_you_mean, first_line
from search_spaces.families.framework.base import TaskType
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from search_spaces.model.task_heads import MissingHeadError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_FIX = "Give a folder with a config.json, a Hugging Face model id, or a model type such as bert or gpt2."


def shape_of_model(name: str, task: TaskType, labels: int = 2) -> ModelShape:
    """Read the shape of a model without loading its weights.

    Args:
        name: a folder with a config.json, a Hugging Face model id, `builtin:pocket`, or a model type of transformers
            (bert, gpt2, llama), which stands for its default configuration.
        task: decides the head.
        labels: the number of outputs of the head.

    Raises:
        InvalidInputError: there is no such model, its configuration cannot be read, or it does not support the task.
    """
    config = read_config(name)
    try:
        return read_shape(config, task, labels)
    except MissingHeadError as error:
        fix = "Choose another task, or a model with a head for it."
        raise InvalidInputError(
            Problem("--task", f"{name!r} ({config.model_type}) does not support {task}", fix)
        ) from error
    except ValueError as error:
        text = first_line(error)
        where, _, what = text.partition(": ")
        field, fix = "--model", "Choose another model; docs/reference/architectures.md lists types that work."
        if where == "task":
            field, fix = "--task", "Choose another task, or another model."
        raise InvalidInputError(Problem(field, f"{name!r} cannot be used: {what or text}", fix)) from error


def usual_task(name: str) -> TaskType:
    """Return the usual task of a model: image classification if it has a head for images but none for texts, and
    sequence classification otherwise.

    Raises:
        InvalidInputError: there is no such model, or its configuration cannot be read.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as IMAGES,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as TEXTS,
    )

    kind = read_config(name).model_type
    return "image-classification" if kind in IMAGES and kind not in TEXTS else "sequence-classification"


def read_config(name: str) -> PretrainedConfig:
    """Read the transformers configuration of a model.

    Args:
        name: as in `shape_of_model`.

    Raises:
        InvalidInputError: there is no such model, or its configuration cannot be read.
    """
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
    about = inspect_model(name)  # fails fast without a network
    if isinstance(about, str):
        close = did_you_mean(name, CONFIG_MAPPING)
        fix = close if close.startswith("Did you mean") else _FIX
        raise InvalidInputError(Problem("--model", about.removeprefix("model: "), fix))
    try:
        return AutoConfig.from_pretrained(str(path) if path.is_dir() else name)
    except (ValueError, OSError) as error:
        raise InvalidInputError(
            Problem("--model", f"{name!r} cannot be read ({first_line(error)})", _FIX)
        ) from error
