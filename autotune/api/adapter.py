"""The adapter of a configuration as a `PeftConfig`, for training scripts outside this project."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, cast, get_args

from search_spaces.errors import InvalidInputError, Problem, did_you_mean, first_line
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import Family, local_config, unsupported_reason
from search_spaces.language.loader import load_space
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.training import ON_REQUEST, TRAINING, learning_rate_factor, learning_rate_name
from search_spaces.parameters.types import Configuration, Value
from trials.tasks.model_spec import CHOSEN
from trials.tasks.specs import resolve_model

if TYPE_CHECKING:
    from peft import PeftConfig

_HEADS: dict[str, TaskType] = {
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForImageClassification": "image-classification",
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
}
"""The task of a model by the end of its class's name."""

_PLACEHOLDERS = {
    "frequent_tokens": "trainable_token_indices are placeholders; set them to the ids of the tokens to train",
    "context_tokens": "cpt_token_ids and cpt_tokens_type_mask are placeholders; set them to the tokens of examples",
}
"""What a configuration of peft lacks that a search takes from its data, by the method of the preparation."""


def peft_config(
    configuration: Mapping[str, Value],
    model: object,
    *,
    task: str | None = None,
    trust_remote_code: bool = False,
) -> PeftConfig:
    """Return the adapter of a configuration as a configuration of peft.

    The result does not depend on the training parameters of the configuration (learning rate, batch size, epochs).
    Parameters of the family that are not given take their defaults. Initial values that a search computes from
    training data are not part of the result, which a warning says.

    Args:
        configuration: `family` and its parameters as in results and search spaces, for example
            `{"family": "lora", "lora.rank": 8, "lora.targets": "all"}`.
        model: a hub id, a folder, a transformers configuration, or a transformers model.
        task: `sequence-classification`, `token-classification`, `regression`, `causal-lm`, `seq2seq` or
            `image-classification`; by default the task of the model's class or of the `architectures` in its
            configuration, and `sequence-classification` where these name none of them.
        trust_remote_code: whether code that comes with the model may run.

    Returns:
        a new configuration for `peft.get_peft_model`.

    Raises:
        InvalidInputError: the family, a parameter or the task is unknown, a value is impossible, or the model cannot
            have the adapter.

    Example:
        >>> config = autotune.peft_config({"family": "lora", "lora.rank": 16}, "roberta-base")
        >>> model = peft.get_peft_model(AutoModelForSequenceClassification.from_pretrained("roberta-base"), config)
    """
    family = _family(configuration)
    kind = _task(task, model, trust_remote_code)
    shape = _shape(model, kind, trust_remote_code)
    if reason := unsupported_reason(family, shape, kind):
        problem = Problem(
            "family", f"{family.name} cannot work on this model: {reason}", "Choose another family."
        )
        raise InvalidInputError(problem)
    values = local_config(family.name, _with_defaults(family, configuration, shape, kind))
    if (preparation := family.preparation(values)) is not None:
        what = _PLACEHOLDERS.get(
            preparation.method,
            f"lora.init: {preparation.method} is computed from more than a configuration, so the adapter starts "
            "with peft's default values; a run that autotune exports computes it",
        )
        warnings.warn(what, stacklevel=2)
    try:
        return family.peft_config(values, shape, kind)
    except (KeyError, ValueError) as error:
        fix = "Give values that the family takes; see autotune spaces."
        raise InvalidInputError(Problem("configuration", first_line(error), fix)) from error


def model_task_and_shape(model: object, task: str | None = None) -> tuple[TaskType, ModelShape]:
    """Return the task of a model and its shape; the arguments are those of `peft_config`."""
    kind = _task(task, model, False)
    return kind, _shape(model, kind, False)


def learning_rates(configuration: Mapping[str, Value]) -> dict[str, float]:
    """Return the learning rates of a configuration by component of the parameters' names.

    Args:
        configuration: with `family` and the family's `learning_rate`; an optimizer's own factor is applied.

    Returns:
        the peak learning rate of all parameters under `""`, then that of the parameters whose dotted name has a
        component, such as `lora_B` of LoRA+; 0 for parameters that stay frozen.

    Raises:
        InvalidInputError: the family is unknown, or the configuration has no learning rate.

    Example:
        >>> learning_rates({"family": "lora", "lora.learning_rate": 1e-4, "lora.lr_ratio": 4.0})
        {'': 0.0001, 'lora_B': 0.0004}
    """
    family = _family(configuration)
    name = learning_rate_name(configuration)
    if name not in configuration:
        fix = f"Give it, such as {name}: 3e-4."
        raise InvalidInputError(Problem(name, "missing", fix))
    rate = float(configuration[name]) * learning_rate_factor(configuration)
    factors = family.learning_rate_factors(local_config(family.name, configuration))
    return {"": rate, **{component: rate * factor for component, factor in factors.items()}}


def _family(configuration: Mapping[str, Value]) -> Family:
    """Return the family of a configuration, after a check that it has the configuration's parameters."""
    if not isinstance(configuration, Mapping) or not all(isinstance(name, str) for name in configuration):
        what = f"{configuration!r} is not a mapping of parameter names to values"
        raise InvalidInputError(Problem("configuration", what, 'Write {"family": "lora", "lora.rank": 8}.'))
    name = str(configuration.get("family", ""))
    if name not in REGISTRY:
        what = f"{name!r} is no family" if name else "missing"
        raise InvalidInputError(Problem("family", what, did_you_mean(name, REGISTRY)))
    family = REGISTRY[name]
    known = {f"{name}.{each.name}" for each in family.parameters}
    groups = tuple(f"{each}." for each in known)
    others = {"family", CHOSEN, *ON_REQUEST, *(parameter.name for parameter in TRAINING)}
    unknown = [
        given
        for given in configuration
        if given not in known and given not in others and not given.startswith(groups)
    ]
    if unknown:
        problems = [
            Problem(given, f"{name} has no such parameter", did_you_mean(given, [*known, *others]))
            for given in unknown
        ]
        raise InvalidInputError(problems)
    return family


def _with_defaults(
    family: Family, configuration: Mapping[str, Value], shape: ModelShape, task: TaskType
) -> Configuration:
    """Return the configuration with the defaults of the parameters that it does not mention in any form."""
    stems = {f"{family.name}.{each.name}" for each in family.parameters}
    # The given values as a space file fixes them, so that they meet the same checks as there.
    fixed = {name: value for name, value in configuration.items() if name in stems}
    spec = {"families": [family.name], "parameters": fixed}
    try:
        loaded = load_space(spec, shape=shape, task=task)
    except InvalidInputError as error:
        problems = [replace(p, where=p.where.removeprefix("parameters.")) for p in error.problems]
        raise InvalidInputError(problems) from None
    defaults = loaded.space.default(family=family.name)
    given = {stem for stem in stems if any(f"{name}.".startswith(f"{stem}.") for name in configuration)}
    missing = {
        name: value
        for name, value in defaults.items()
        if not any(f"{name}.".startswith(f"{stem}.") for stem in given)
    }
    return {**missing, **configuration}


def _task(task: str | None, model: object, trust_remote_code: bool) -> TaskType:
    known = get_args(TaskType)
    if task is not None:
        if task not in known:
            raise InvalidInputError(Problem("task", f"{task!r} is no task", did_you_mean(str(task), known)))
        return cast(TaskType, task)
    config = _transformers_config(model, trust_remote_code)
    classes = [type(model).__name__, *(getattr(config, "architectures", None) or [])]
    for name in classes:
        for ending, kind in _HEADS.items():
            if name.endswith(ending):
                regression = kind == "sequence-classification" and _is_regression(config)
                return "regression" if regression else kind
    return "sequence-classification"


def _is_regression(config: Any) -> bool:
    return getattr(config, "problem_type", None) == "regression" or getattr(config, "num_labels", 2) == 1


def _transformers_config(model: object, trust_remote_code: bool) -> Any:
    """Return the configuration of a model that is given as any of the four kinds."""
    if isinstance(model, str | PathLike):
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(_place(model), trust_remote_code=trust_remote_code)
        except (OSError, ValueError) as error:
            raise unreadable(model, error) from error
    config = getattr(model, "config", model)
    if getattr(model, "peft_config", None) is not None:
        fix = "Give the model before get_peft_model, or model.get_base_model()."
        raise InvalidInputError(Problem("model", "it already has an adapter", fix))
    if not hasattr(config, "model_type"):
        fix = "Give a hub id, a folder, a transformers configuration or a transformers model."
        raise InvalidInputError(Problem("model", f"a {type(model).__name__} is no transformers model", fix))
    return config


def _shape(model: object, task: TaskType, trust_remote_code: bool) -> ModelShape:
    config = _transformers_config(model, trust_remote_code)
    quantized = getattr(config, "quantization_config", None) is not None
    labels = max(2, int(getattr(config, "num_labels", None) or 2))
    try:
        return read_shape(
            config, task, labels=labels, trust_remote_code=trust_remote_code, quantized=quantized
        )
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise unreadable(model, error) from error


def unreadable(model: object, error: Exception) -> InvalidInputError:
    name = repr(str(model)) if isinstance(model, str | PathLike) else type(model).__name__
    fix = (
        "Give a hub id, a folder, a transformers configuration or a transformers model that can do the task."
    )
    return InvalidInputError(Problem("model", f"{name} cannot be read ({first_line(error)})", fix))


def _place(model: str | PathLike[str]) -> str:
    return resolve_model(str(model))
