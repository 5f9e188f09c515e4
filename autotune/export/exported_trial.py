"""The trial that is exported: as it was searched, or scaled to other data and another base model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotune.prepare.bound_base import flops_per_example, model_shape, read_base
from autotune.prepare.chosen_model import as_trained
from autotune.prepare.fingerprint import load_unchanged
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.amounts import TRAIN_SAMPLES, examples_of, optimizer_steps
from search_spaces.parameters.types import Configuration
from search_spaces.transfer import transfer_configuration
from trials.data.task_data import TaskData
from trials.reading.encoding import Encoded
from trials.records import TrialSpec
from trials.training.run import count_tokens, sequence_length, training_examples
from trials.training.subsets import subset

if TYPE_CHECKING:
    from autotune.export.scaling import Change, RateLaw, Target


@dataclass(frozen=True)
class ExportedTrial:
    """What is exported: a configuration, possibly scaled, on a base model and its data.

    Args:
        results: The sweep.
        trial: The number of the exported trial.
        sweep: The sweep with the target's base model.
        data: The task's data, encoded for that model.
        shape: The shape of that model.
        config: The configuration for that model.
        steps: The number of optimizer steps.
        tokens: The number of training tokens, if the target sets it.
        changes: The settings that differ from the search, with reasons.
    """

    results: SweepTables
    trial: int
    sweep: Sweep
    data: TaskData
    shape: ModelShape
    config: Configuration
    steps: int
    tokens: float | None = None
    changes: tuple[Change, ...] = ()


def as_searched(results: SweepTables, trial: int) -> ExportedTrial:
    """Return the trial with its own configuration and the base model that it chose.

    It trains on the configuration's own `train_samples`, and otherwise on all of the data.
    """
    searched, chosen = results.sweep, results.config(trial)
    data = load_unchanged(results.folder, searched, chosen)
    sweep, config = as_trained(searched, chosen, lambda each: model_shape(each, data))
    steps = _steps(config, len(exported_examples(sweep, data, config)))
    return ExportedTrial(results, trial, sweep, data, model_shape(sweep, data), config, steps)


def scaled_trial(export: ExportedTrial, target: Target, law: RateLaw) -> ExportedTrial:
    """Return the trial scaled to the target's base model and tokens.

    The given law scales learning rate and batch size as far as it can, and the laws of the sweep's own trials every
    other hyperparameter. With a number of tokens it trains on all of the data; the configuration's `train_samples`
    are dropped.
    """
    from autotune.export.law_scaling import scaled_by_trials
    from autotune.export.scaling import Change, Scale, joined_changes, scaled, settings_of

    sweep, config, changes = export.sweep, dict(export.config), list[Change]()
    transferred = list[Change]()
    searched = training_examples(
        train_split(sweep, export.data, config), TrialSpec(config, fidelity=sweep.fidelity)
    )
    searched_tokens = count_tokens(searched)
    here = Scale(round(float(config["epochs"]) * searched_tokens), export.shape.base_parameters)
    data, shape = export.data, export.shape
    entire = sweep.model.model_copy(update={"layers": None})
    if target.model is not None and entire.other(target.model) != sweep.model:
        changes.append(Change("base", sweep.model.title, target.model, "requested"))
        model = entire.other(target.model)
        sweep, data, shape = read_base(sweep.model_copy(update={"model": model}))
        config = transfer_configuration(config, sweep.space, export.shape, shape)
        transferred = [
            Change(
                name,
                str(export.config.get(name, "–")),
                str(config.get(name, "–")),
                "the same relative depth",
            )
            for name in sorted({*export.config, *config})
            if export.config.get(name) != config.get(name)
        ]
    if target.tokens is not None and TRAIN_SAMPLES.name in config:
        whole = f"all {len(data.splits['train']):,}"
        own = f"{config.pop(TRAIN_SAMPLES.name):,}"
        changes.append(Change("training examples", own, whole, "the number of tokens is requested"))
    train = exported_examples(sweep, data, config)
    one_pass = count_tokens(train)
    passes = float(config["epochs"]) * one_pass
    tokens = passes if target.tokens is None else target.tokens
    of_one, of_target = searched_tokens / len(searched), one_pass / len(train)
    growth = flops_per_example(sweep, data, shape, config) * tokens / of_target
    growth /= flops_per_example(export.sweep, export.data, export.shape, export.config) * here.tokens / of_one
    config, moved = scaled(config, law, here, Scale(tokens, shape.base_parameters))
    config, moved = scaled_by_trials(
        export.results, export.trial, config, growth, moved, settings_of(law, config)
    )
    changes += joined_changes(transferred, moved)
    before = _steps(export.config, len(searched))
    # Without a number of tokens the epochs stand, whose last batches may be smaller.
    steps = _steps(config, len(train))
    if target.tokens is not None:
        steps = _steps_of_tokens(target.tokens, int(config["batch_size"]), of_target)
        config["epochs"] = round(tokens / one_pass, 4)
    own_data = "its own examples" if TRAIN_SAMPLES.name in config else "all the data"
    why = "requested" if target.tokens is not None else f"all epochs of {own_data}"
    if tokens > 1.01 * passes:
        why += (
            f"; {tokens / one_pass:.1f} passes over the data, against {export.config['epochs']} in the search"
        )
    changes.append(Change("training tokens", f"{here.tokens:,.0f}", f"{tokens:,.0f}", why))
    why = "batches of the epochs" if target.tokens is None else "training tokens divided by those of a batch"
    changes.append(Change("steps", f"{before:,}", f"{steps:,}", why))
    return ExportedTrial(
        export.results, export.trial, sweep, data, shape, config, steps, tokens, tuple(changes)
    )


def _steps(config: Configuration, examples: int) -> int:
    """Return the number of optimizer steps of a configuration on so many examples."""
    return optimizer_steps(float(config["epochs"]), examples, int(config["batch_size"]))


def _steps_of_tokens(tokens: float, batch_size: int, length: float) -> int:
    """Return the optimizer steps of a number of training tokens.

    Args:
        tokens: The training tokens, repetitions included.
        batch_size: Examples per step.
        length: Mean number of tokens per example.

    Raises:
        InvalidInputError: They are fewer than those of one batch.
    """
    per_batch = batch_size * length
    if tokens < per_batch:
        what = (
            f"{tokens:,.0f} tokens are fewer than the {per_batch:,.0f} of one batch of {batch_size} examples"
        )
        fix = f"Write tokens={math.ceil(per_batch)} or more."
        raise InvalidInputError(Problem("--scale-to", what, fix))
    return round(tokens / per_batch)


def exported_examples(sweep: Sweep, data: TaskData, config: Configuration) -> Sequence[Encoded]:
    """Return the examples that an exported run trains on: the configuration's own `train_samples`, or all."""
    examples = train_split(sweep, data, config)
    return subset(examples, examples_of(config, len(examples)), seed=0)


def train_split(sweep: Sweep, data: TaskData, config: Configuration) -> Sequence[Encoded]:
    """Return the training examples at the length of a configuration."""
    return data.at_length(sweep.task, sequence_length(config)).splits["train"]
