"""Learning-rate schedules, for the search and in terms of `transformers.TrainingArguments`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from search_spaces.parameters.training import CONSTANT_COOLDOWN, COOLDOWN
from search_spaces.parameters.types import Value


def lr_schedule(config: Mapping[str, Value], steps: int) -> Callable[[int], float]:
    """Return the learning-rate factor as a function of the step: a linear warm-up, then the schedule's shape.

    The shapes are linear or cosine decay to zero, constant, and constant with a linear cool-down to zero at the end,
    where the middle of the run is the same as that of a longer run (Hägele et al., 2024, arXiv 2405.18392).

    Args:
        config: The active parameters.
        steps: The number of steps of the run.

    Raises:
        ValueError: The configuration's schedule is unknown.
    """
    warmup, cooldown = warmup_steps(config, steps), cooldown_steps(config, steps)
    shape = str(config["schedule"])
    if shape not in _TRANSFORMERS:
        raise ValueError(f"schedule: {shape!r} is unknown; use one of {', '.join(_TRANSFORMERS)}")

    def factor(step: int) -> float:
        if step < warmup:
            return step / max(warmup, 1)
        done = (step - warmup) / max(steps - warmup, 1)
        match shape:
            case "linear":
                return max(0.0, 1.0 - done)
            case "cosine":
                return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
            case "constant":
                return 1.0
            case _:
                return min(1.0, max(0.0, (steps - step) / max(cooldown, 1)))

    return factor


_TRANSFORMERS = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant_with_warmup",
    CONSTANT_COOLDOWN: "warmup_stable_decay",
}


def transformers_schedule(config: Mapping[str, Value], steps: int) -> dict[str, Any]:
    """Return the fields of `transformers.TrainingArguments` that give the factors of `lr_schedule`."""
    shape = str(config["schedule"])
    fields: dict[str, Any] = {
        "lr_scheduler_type": _TRANSFORMERS[shape],
        "warmup_steps": warmup_steps(config, steps),
    }
    if shape == CONSTANT_COOLDOWN:
        decay = {"num_decay_steps": cooldown_steps(config, steps), "decay_type": "linear"}
        fields["lr_scheduler_kwargs"] = decay
    return fields


def warmup_steps(config: Mapping[str, Value], steps: int) -> int:
    """Return the number of warm-up steps, rounded up as in transformers."""
    return math.ceil(float(config["warmup"]) * steps)


def cooldown_steps(config: Mapping[str, Value], steps: int) -> int:
    """Return the number of cool-down steps, rounded up, at most those after the warm-up."""
    share = float(config.get(COOLDOWN.name, COOLDOWN.default))
    return min(math.ceil(share * steps), steps - warmup_steps(config, steps))
