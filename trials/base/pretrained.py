"""Reading of a pre-trained model with a head for the task, and of what its checkpoint lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError, Problem, first_line
from search_spaces.model.shape import ModelShape
from search_spaces.model.task_heads import MissingHeadError, missing_heads
from search_spaces.truncation import truncated_config, truncated_settings
from trials.kinds.registry import find_kind
from trials.tasks.specs import AUTO, ModelSpec, TaskSpec, resolve_model

_ATTENTION = re.compile(r"attention implementation|attn_implementation|FlashAttention|FlexAttention")
"""What transformers says where a model lacks an implementation of attention."""


def read_pretrained(spec: ModelSpec, task: TaskSpec, outputs: int, **options: Any) -> tuple[Any, set[str]]:
    """Return the model with a head for the task, and the names of the weights that its checkpoint lacks.

    Args:
        spec: The base model.
        task: The task.
        outputs: The number of outputs of a classification head.
        options: Further arguments of `from_pretrained`.

    Raises:
        InvalidInputError: There is no such model, it has no weights in safetensors, or it has no head for the task.
    """
    import transformers
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    check_weights(spec)
    kind = find_kind(task.type)
    auto = getattr(transformers, kind.auto_model)
    options |= kind.model_options(outputs)
    if spec.attn_implementation != AUTO:
        options["attn_implementation"] = spec.attn_implementation
    with loading_errors(spec, task):
        options |= layer_settings(spec)
        model, loaded = auto.from_pretrained(
            resolve_model(spec.name),
            revision=spec.revision,
            trust_remote_code=spec.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    return model, {*loaded["missing_keys"], *(key[0] for key in loaded["mismatched_keys"])}


def layer_settings(spec: ModelSpec) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that leave a model its lowest layers; empty if it keeps all.

    Raises:
        ValueError: The model's layers cannot be cut.
    """
    if spec.share_of_layers is None:
        return {}
    return truncated_settings(_whole_config(spec), spec.share_of_layers)


def model_config(spec: ModelSpec) -> Any:
    """Return the configuration of a base model, with the layers that it keeps.

    Raises:
        ValueError: The model's layers cannot be cut.
    """
    config = _whole_config(spec)
    return config if spec.share_of_layers is None else truncated_config(config, spec.share_of_layers)


def _whole_config(spec: ModelSpec) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(
        resolve_model(spec.name), revision=spec.revision, trust_remote_code=spec.trust_remote_code
    )


def check_weights(spec: ModelSpec) -> None:
    """Reject a folder that is not a model before anything is read from it.

    Raises:
        InvalidInputError: The folder has no configuration or no weights in safetensors.
    """
    folder = Path(resolve_model(spec.name)).expanduser()
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise InvalidInputError(
            Problem(
                "model",
                f"the folder {spec.name!r} has no config.json",
                "Give a folder that save_pretrained has written.",
            )
        )
    if not any(folder.glob("*.safetensors")):
        other = ", ".join(sorted(path.name for path in folder.glob("*.bin")))
        raise InvalidInputError(
            Problem(
                "model",
                f"the folder {spec.name!r} has no weights in safetensors"
                + (f" (only {other}, which is not read because loading it can run code)" if other else ""),
                "Save the model with save_pretrained(folder), which writes model.safetensors.",
            )
        )


def complete_shape(shape: ModelShape, spec: ModelSpec, task: TaskSpec, outputs: int) -> ModelShape:
    """Return the shape of a base model with the parts of the head that its checkpoint lacks.

    The weights are not loaded; only their names are read, and only of a model with a part that can be absent.

    Raises:
        InvalidInputError: As in `read_pretrained`.
    """
    if all(matrix.trained or matrix.per_token for matrix in shape.head):
        return shape
    _, missing = read_pretrained(spec, task, outputs, device_map="meta")
    return shape.with_new_head_parts(missing)


def check_complete(spec: ModelSpec, task: TaskSpec, fresh: set[str], heads: tuple[str, ...]) -> None:
    """Reject a checkpoint that lacks weights below the head, because it is of another model.

    A frozen random layer would also be lost on saving: an adapter's file does not contain the base model.

    Raises:
        InvalidInputError: Weights are missing.
    """
    missing = sorted(key for key in fresh if not key.startswith(tuple(f"{name}." for name in heads)))
    if missing:
        raise InvalidInputError(
            Problem(
                "model",
                f"{spec.name!r} lacks the weights {', '.join(missing[:3])}"
                + (f" and {len(missing) - 3} more" if len(missing) > 3 else ""),
                f"Give a complete checkpoint of a model that supports {task.type}.",
            )
        )


@contextmanager
def loading_errors(spec: ModelSpec, task: TaskSpec) -> Iterator[None]:
    """Turn the errors of reading a model into InvalidInputError."""
    from safetensors import SafetensorError

    try:
        with missing_heads():
            yield
    except InvalidInputError:
        raise
    except MissingHeadError as error:
        raise InvalidInputError(
            Problem(
                "task.type",
                f"{spec.name!r} has no head for {task.type}",
                "Choose a model that supports the task, or another task.",
            )
        ) from error
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        if spec.attn_implementation != AUTO and _ATTENTION.search(str(error)):
            what = f"{spec.name!r} has no {spec.attn_implementation} attention ({first_line(error, 120)})"
            raise InvalidInputError(
                Problem("model.attn_implementation", what, "Write attn_implementation: auto.")
            ) from error
        raise InvalidInputError(
            Problem(
                "model",
                f"{spec.name!r} cannot be loaded ({first_line(error)})",
                "Give a hub id or a local folder with config.json and safetensors weights.",
            )
        ) from error
