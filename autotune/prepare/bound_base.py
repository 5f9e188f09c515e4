"""A sweep bound to one base model: its data, its space and the costs of its configurations, before any training."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from autotune.prepare.partial_runs import rung_lengths
from autotune.sweep.schema import Sweep
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.errors import InvalidInputError, Problem, first_line
from search_spaces.language.loader import LoadedSpace, load_space
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from search_spaces.model.task_heads import MissingHeadError
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from search_spaces.parameters.centered import Centered
from search_spaces.parameters.training import SEQUENCE_LENGTH
from search_spaces.parameters.types import Categorical, Configuration, Int
from search_spaces.space import SearchSpace
from trials.base.pretrained import check_weights, complete_shape
from trials.data.lengths import cut_note
from trials.data.prompts import longest_generation
from trials.data.task_data import TaskData, load_task
from trials.data.tokens import check_tokens
from trials.kinds.registry import find_kind
from trials.tasks.specs import TaskSpec, resolve_model
from trials.training.length_batching import padded_lengths
from trials.training.subsets import subset

_TYPICAL_BATCH = 32
"""The batch size for which padding is measured; other batch sizes pad slightly more or less."""


@dataclass(frozen=True)
class BoundBase:
    """A sweep bound to one base model.

    Args:
        data: the tokenized task.
        shape: of the model.
        loaded: the sweep's space restricted to what the model supports, with what was left out and why.
        space: the same, with virtual tokens limited to the positions that the longest example leaves free.
        costs: returns the known costs of a configuration.
        notes: what the searched sequence lengths and the rungs of the ladder cut, in sentences for the user.
    """

    data: TaskData
    shape: ModelShape
    loaded: LoadedSpace
    space: SearchSpace
    costs: CostModel
    notes: tuple[str, ...] = ()


def bind_base(sweep: Sweep) -> BoundBase:
    """Load the data, read the shape of the sweep's base model, and bind the space to it.

    Raises:
        InvalidInputError: the model, data or space makes the sweep impossible.
    """
    sweep, data, shape = read_base(sweep)
    _check_length(data, sweep.task, shape)
    loaded = _bound_space(sweep, data, shape)
    space = _with_room_for_virtual_tokens(loaded.space, data, sweep.task, shape)
    lengths = _sequence_lengths(sweep, space)
    rungs = rung_lengths(sweep, data, lengths)
    workload = _workload(sweep, data, {*lengths, *rungs})
    costs = CostModel(shape, sweep.task.shape_task, workload, sweep.model.gradient_checkpointing)
    cut = data.cuts["train"]
    kind = find_kind(sweep.task.type)
    reads_batch = kind.can_pack and not kind.packs(data.fields)
    notes = (
        cut_note(SEQUENCE_LENGTH.name, cut, lengths),
        cut_note("the ladder", cut, rungs),
        f"loss: {sweep.task.loss} reads all pairs of a batch, so trials do not share forward passes in packs"
        if reads_batch
        else "",
    )
    return BoundBase(data, shape, loaded, space, costs, tuple(filter(None, notes)))


def read_base(sweep: Sweep, model: str | None = None) -> tuple[Sweep, TaskData, ModelShape]:
    """Load the data of a sweep for a base model, and read the model's shape.

    Args:
        sweep: whose task it is.
        model: name of the base model; by default the sweep's own.

    Returns:
        The sweep with that model, its data tokenized for the model, and the model's shape.

    Raises:
        InvalidInputError: the base model cannot be used, has no head for the task, or cannot read the encoded texts.
    """
    if model is not None:
        sweep = sweep.model_copy(update={"model": sweep.model.other(model)})
    check_weights(sweep.model)
    data = load_task(sweep.task, sweep.model)
    shape = model_shape(sweep, data)
    check_tokens(data, shape)
    return sweep, data, shape


def model_shape(sweep: Sweep, data: TaskData) -> ModelShape:
    """Read the shape of the sweep's base model.

    Raises:
        InvalidInputError: the model cannot be read, or has no head for the task.
    """
    try:
        shape = read_shape(
            resolve_model(sweep.model.name),
            sweep.task.shape_task,
            labels=data.outputs,
            trust_remote_code=sweep.model.trust_remote_code,
            quantized=sweep.model.quantized,
            layers=sweep.model.share_of_layers,
        )
        shape = dataclasses.replace(shape, attention=sweep.model.attn_implementation)
        return complete_shape(shape, sweep.model, sweep.task, data.outputs)
    except InvalidInputError:
        raise
    except MissingHeadError as error:
        raise InvalidInputError(
            Problem(
                "task.type",
                f"{sweep.model.name!r} cannot do {sweep.task.type}",
                "Choose a model with a head for the task, or another task.",
            )
        ) from error
    except (ValueError, OSError) as error:
        raise InvalidInputError(
            Problem(
                "model",
                f"{sweep.model.name!r} cannot be read ({first_line(error)})",
                "Give a hub id or a local folder of a transformers model.",
            )
        ) from error


def _bound_space(sweep: Sweep, data: TaskData, shape: ModelShape) -> LoadedSpace:
    """Bind the space of a sweep to its base model and its training split.

    Raises:
        InvalidInputError: with paths in the sweep file.
    """
    examples = len(data.splits["train"])
    try:
        return load_space(sweep.space, shape=shape, task=sweep.task.shape_task, examples=examples)
    except InvalidInputError as error:
        problems = [dataclasses.replace(each, where=f"space.{each.where}") for each in error.problems]
        raise InvalidInputError(problems) from error


def _longest(data: TaskData, task: TaskSpec) -> int:
    longest = max(int(data.lengths(split).max()) for split in data.splits)
    return max(longest, longest_generation(task, data.splits))


def _check_length(data: TaskData, task: TaskSpec, shape: ModelShape) -> None:
    longest = longest_generation(task, data.splits)
    if shape.max_positions is not None and longest > shape.max_positions:
        what = (
            f"the longest prompt and the text generated after it have {longest} tokens, the model has "
            f"{shape.max_positions} positions"
        )
        raise InvalidInputError(Problem("task.generation.max_new_tokens", what, "Lower it, or max_length."))
    longest = max(int(data.lengths(split).max()) for split in data.splits)
    if shape.max_positions is not None and longest > shape.max_positions:
        raise InvalidInputError(
            Problem(
                "task.max_length",
                f"the longest example has {longest} tokens, the model has {shape.max_positions} positions",
                f"Set max_length to {shape.max_positions} or less.",
            )
        )


def _with_room_for_virtual_tokens(
    space: SearchSpace, data: TaskData, task: TaskSpec, shape: ModelShape
) -> SearchSpace:
    """Limit the virtual tokens (`FAMILY.tokens`) to the positions that the longest example leaves free."""
    if shape.max_positions is None:
        return space
    room = shape.max_positions - _longest(data, task)
    parameters = []
    for parameter in space.parameters:
        tokens = parameter.name.endswith(".tokens")
        if tokens and isinstance(parameter, Int | Centered) and parameter.high > room:
            if parameter.low > room:
                raise InvalidInputError(
                    Problem(
                        "task.max_length",
                        f"the longest example leaves {room} of the model's {shape.max_positions} positions "
                        f"for {parameter.name}, which takes {parameter.low:g} or more",
                        f"Set max_length to {shape.max_positions - parameter.low:g} or less, or leave it out.",
                    )
                )
            changes: dict[str, Any] = {"high": room, "default": min(parameter.default, room)}
            if isinstance(parameter, Centered):
                changes["center"] = min(parameter.center, room)
            parameter = dataclasses.replace(parameter, **changes)
        parameters.append(parameter)
    return dataclasses.replace(space, parameters=tuple(parameters))


def flops_per_example(sweep: Sweep, data: TaskData, shape: ModelShape, config: Configuration) -> float:
    """Return the training FLOPs of a configuration per example seen, on a sweep's base model and data."""
    lengths = [int(config[SEQUENCE_LENGTH.name])] if SEQUENCE_LENGTH.name in config else []
    workload = _workload(sweep, data, lengths)
    costs = CostModel(shape, sweep.task.shape_task, workload, sweep.model.gradient_checkpointing)
    one_pass = {name: value for name, value in config.items() if name != TRAIN_SAMPLES.name} | {"epochs": 1}
    return costs(one_pass).train_flops / workload.train_samples


def _workload(sweep: Sweep, data: TaskData, lengths: Collection[int]) -> Workload:
    """Return the size of one epoch, untruncated and truncated to each sequence length of space and ladder."""
    whole = _measured(sweep, data)
    cuts = {}
    for length in lengths:
        cut = _measured(sweep, data.at_length(sweep.task, length))
        # A language model is scored and used on untruncated examples, whatever length it was trained on.
        inference = whole.tokens if find_kind(sweep.task.type).scores_whole_texts else None
        cuts[length] = dataclasses.replace(cut, inference_tokens=inference)
    return dataclasses.replace(whole, cuts=cuts)


def _measured(sweep: Sweep, data: TaskData) -> Workload:
    examples = subset(data.splits["train"], sweep.fidelity.train_samples, seed=0)
    kind = find_kind(sweep.task.type)
    above: tuple[float | None, float | None] = None, None
    if kind.has_decoder:
        mean, mean_square = padded_lengths(examples, _TYPICAL_BATCH, count=lambda e: len(e["input_ids"]))
        above = padded_lengths(examples, _TYPICAL_BATCH, count=kind.target_count)
    else:
        mean, mean_square = padded_lengths(examples, _TYPICAL_BATCH)
    rows = kind.rows_per_example
    return Workload(
        tokens=mean / rows,
        tokens_square=mean_square / rows**2,
        train_samples=len(examples),
        rows=rows,
        has_reference=kind.needs_reference(data.fields),
        target_tokens=above[0],
        target_square=above[1],
    )


def _sequence_lengths(sweep: Sweep, space: SearchSpace) -> list[int]:
    """Return the choices of `sequence_length`.

    Raises:
        InvalidInputError: the task truncates its examples to fewer tokens.
    """
    if SEQUENCE_LENGTH.name not in space:
        return []
    parameter = space[SEQUENCE_LENGTH.name]
    assert isinstance(parameter, Categorical)
    lengths = [int(length) for length in parameter.choices]
    longest = max(lengths)
    if longest > sweep.task.max_length:
        raise InvalidInputError(
            Problem(
                f"space.parameters.{SEQUENCE_LENGTH.name}",
                f"{longest} is above task.max_length, {sweep.task.max_length}",
                f"Set max_length to {longest}, or drop the choice.",
            )
        )
    return lengths
