"""The mode of an adapted model in training."""

from __future__ import annotations

from torch import nn


def training_mode(model: nn.Module) -> None:
    """Switch the base model's dropout off and the adapter's on.

    A trial is short and most of its model is frozen, so dropout in the base model adds more noise than
    regularization. Without it, the layers below the lowest adapter compute the same in every epoch and for every
    configuration. An exported run uses the dropout of the base model's own configuration.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    model.eval()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.train()
