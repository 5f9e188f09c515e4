"""Configurations of a finished sweep on the base models that they choose, without binding the sweep again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autotune.sweep.schema import Sweep
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Configuration, Value
from search_spaces.transfer import transfer_configuration
from trials.tasks.model_spec import CHOSEN


def as_trained(
    sweep: Sweep, config: Mapping[str, Value], shape_of: Callable[[Sweep], ModelShape]
) -> tuple[Sweep, Configuration]:
    """Return a sweep on the base model that a configuration chooses, and the configuration as that model has it.

    Args:
        sweep: the sweep, with or without choices of the base model.
        config: one of its configurations.
        shape_of: returns the shape of a sweep's own base model.

    Raises:
        InvalidInputError: the model cannot be read.
    """
    if sweep.model.choices is None:
        return sweep, dict(config)
    own = {name: value for name, value in config.items() if name != CHOSEN}
    chosen = sweep.model_copy(update={"model": sweep.model.chosen_by(config)})
    if sweep.model.choice_of(config) is None:
        return chosen, own
    return chosen, transfer_configuration(own, sweep.space, shape_of(sweep), shape_of(chosen))
