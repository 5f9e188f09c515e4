"""The course of the learning rate over a run, here and by the names that transformers has for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from search_spaces.parameters.training import CONSTANT_COOLDOWN, COOLDOWN
from search_spaces.parameters.types import Value


def lr_schedule(config: Mapping[str, Value], steps: int) -> Callable[[int], float]:
    """The factor on the learning rate at each step: a linear warm-up, then what the schedule says.

    Linear or cosine decay to zero; constant; or constant with a linear cool-down to zero at the end, which
    leaves the middle of the run as it would be in a longer one (Hägele et al., 2024, arXiv 2405.18392).

    Raises:
        ValueError: the configuration's schedule has another name.
    """
    warmup, cooldown = warmup_steps(config, steps), cooldown_steps(config, steps)
    shape = str(config["schedule"])
    if shape not in _TRANSFORMERS:
        raise ValueError(f"schedule: {shape!r} is none of {', '.join(_TRANSFORMERS)}; use one of them")

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
    """The fields of `transformers.TrainingArguments` that give the factors of `lr_schedule`."""
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
    """Steps of warm-up, rounded up as transformers does."""
    return math.ceil(float(config["warmup"]) * steps)


def cooldown_steps(config: Mapping[str, Value], steps: int) -> int:
    """Steps of the cool-down, rounded up, at most those that the warm-up leaves."""
    share = float(config.get(COOLDOWN.name, COOLDOWN.default))
    return min(math.ceil(share * steps), steps - warmup_steps(config, steps))
