"""The trial that is exported: as it was searched, or scaled to other data and another base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotune.prepare.bound_base import model_shape, read_base
from autotune.prepare.fingerprint import load_unchanged
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.schema import Sweep
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Configuration
from search_spaces.transfer import transfer_configuration
from trials.data.task_data import TaskData
from trials.reading.encoding import Encoded
from trials.training.run import count_tokens, sequence_length
from trials.training.subsets import subset

if TYPE_CHECKING:
    from autotune.export.scaling import Change, RateLaw, Target


@dataclass(frozen=True)
class ExportedTrial:
    """What is exported: a configuration, possibly scaled, on a base model and all of the data.

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
    """Return the trial with its own configuration and base model, on all of the data."""
    sweep, config = results.sweep, results.config(trial)
    data = load_unchanged(results.folder, sweep)
    steps = int(config["epochs"]) * -(-len(train_split(sweep, data, config)) // int(config["batch_size"]))
    return ExportedTrial(results, trial, sweep, data, model_shape(sweep, data), config, steps)


def scaled_trial(export: ExportedTrial, target: Target, law: RateLaw) -> ExportedTrial:
    """Return the trial scaled to the target's base model and tokens by a law."""
    from autotune.export.scaling import Change, Scale, scaled

    sweep, config, changes = export.sweep, export.config, list[Change]()
    searched = subset(train_split(sweep, export.data, config), sweep.fidelity.train_samples, seed=0)
    searched_tokens = count_tokens(searched)
    here = Scale(int(config["epochs"]) * searched_tokens, export.shape.base_parameters)
    data, shape = export.data, export.shape
    if target.model is not None and target.model != sweep.model.name:
        changes.append(Change("base", sweep.model.name, target.model, "requested"))
        sweep, data, shape = read_base(sweep, target.model)
        config = transfer_configuration(config, sweep.space, export.shape, shape)
        changes += [
            Change(
                name,
                str(export.config.get(name, "–")),
                str(config.get(name, "–")),
                "the same relative depth",
            )
            for name in sorted({*export.config, *config})
            if export.config.get(name) != config.get(name)
        ]
    train = train_split(sweep, data, config)
    one_pass = count_tokens(train)
    passes = int(config["epochs"]) * one_pass
    tokens = float(passes) if target.tokens is None else target.tokens
    config, moved = scaled(config, law, here, Scale(tokens, shape.base_parameters))
    batch_tokens = int(config["batch_size"]) * one_pass / len(train)
    steps = max(1, round(tokens / batch_tokens))
    why = "requested" if target.tokens is not None else "all epochs of all the data"
    if tokens > 1.01 * passes:
        why += f"; {tokens / one_pass:.1f} passes over the data, against {config['epochs']} in the search"
    changes += [*moved, Change("training tokens", f"{here.tokens:,.0f}", f"{tokens:,.0f}", why)]
    before = round(here.tokens / (int(export.config["batch_size"]) * searched_tokens / len(searched)))
    changes.append(
        Change("steps", f"{before:,}", f"{steps:,}", "training tokens divided by the tokens per batch")
    )
    return ExportedTrial(
        export.results, export.trial, sweep, data, shape, config, steps, tokens, tuple(changes)
    )


def train_split(sweep: Sweep, data: TaskData, config: Configuration) -> Sequence[Encoded]:
    """Return the training examples at the length of a configuration."""
    return data.at_length(sweep.task, sequence_length(config)).splits["train"]
