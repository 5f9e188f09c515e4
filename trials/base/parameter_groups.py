"""Weight decay and learning rate of each parameter: the same in the search and in an exported run.

This file needs only torch, and an exported run carries a copy of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


def has_decay(parameter: nn.Parameter) -> bool:
    """Return whether a parameter decays: matrices do, vectors (biases, the scales of normalizations) do not."""
    return parameter.ndim > 1


def decay_groups(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups, one with weight decay and one without."""
    return [
        {"params": [p for p in parameters if has_decay(p)], "weight_decay": weight_decay},
        {"params": [p for p in parameters if not has_decay(p)], "weight_decay": 0.0},
    ]


def scale_learning_rates(
    optimizer: torch.optim.Optimizer, model: nn.Module, factors: Mapping[str, float]
) -> None:
    """Multiply the learning rate of the parameters whose dotted name contains a key of `factors` as a component.

    These parameters move to new groups with the other settings of their old ones. Call it before a schedule is built,
    because schedules start from the current learning rates.

    Args:
        optimizer: The optimizer of the model's parameters.
        model: The model with the named parameters.
        factors: The factor of each name component, such as {"lora_B": 8.0}.
    """
    named = list(model.named_parameters())
    for component, factor in factors.items():
        chosen = {id(parameter) for name, parameter in named if component in name.split(".")}
        for group in list(optimizer.param_groups):
            moved = [parameter for parameter in group["params"] if id(parameter) in chosen]
            if moved:
                group["params"] = [p for p in group["params"] if id(p) not in chosen]
                optimizer.add_param_group({**group, "params": moved, "lr": factor * group["lr"]})


def freeze(model: nn.Module, factors: Mapping[str, float]) -> None:
    """Freeze the parameters whose learning-rate factor is 0; `factors` as in `scale_learning_rates`."""
    frozen = {component for component, factor in factors.items() if factor == 0}
    for name, parameter in model.named_parameters():
        if frozen.intersection(name.split(".")):
            parameter.requires_grad_(False)
