"""What the routers of a model share in one forward pass, and how their balance loss becomes part of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


class Routing:
    """The state of all routers of one model.

    It hooks the forward pass of the base model. Before it, it takes the attention mask, by which padding is left out
    of the balance; after it, it adds the balance loss to the `loss` of the output if the model computed one. Layers
    in evaluation mode add nothing, so a loss in evaluation is that of the task alone.

    Non-reentrant gradient checkpointing runs layers again in the backward pass. The mask and the mode stay until the
    next forward pass, so that the second run computes what the first did; its balance is not added again.
    """

    def __init__(self) -> None:
        self.is_training = False
        """Whether a layer of the current forward pass is in training mode."""
        self._masks: tuple[torch.Tensor, ...] = ()
        self._terms: list[torch.Tensor] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Routing:
        """Return a new state for a copy of the model: terms belong to the graph of one forward pass."""
        return memo.setdefault(id(self), Routing())

    def attach(self, model: nn.Module) -> None:
        """Hook the forward pass of a base model."""
        model.register_forward_pre_hook(self._begin, with_kwargs=True)
        model.register_forward_hook(self._end, with_kwargs=True)

    def mask_of(self, x: torch.Tensor) -> torch.Tensor | None:
        """Return which rows of a matrix's input are tokens and not padding, shape [tokens], or None for all.

        Args:
            x: the input, shape [..., inputs]. A mask of another shape than `[...]` is for other rows, so all of
                these count.
        """
        return next((mask.flatten() != 0 for mask in self._masks if mask.shape == x.shape[:-1]), None)

    def add(self, term: torch.Tensor) -> None:
        """Add a term to the balance loss of the current forward pass."""
        if self._terms is not None:
            self._terms.append(term)

    def take(self) -> torch.Tensor | None:
        """Return the balance loss of the last forward pass that no loss includes yet, or None if there is none."""
        terms, self._terms = self._terms, None
        return torch.stack(terms).sum() if terms else None

    def _begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        layers = (module for module in model.modules() if isinstance(module, BaseTunerLayer))
        self.is_training = torch.is_grad_enabled() and any(layer.training for layer in layers)
        names = ("attention_mask", "decoder_attention_mask")
        masks = [mask for name in names if isinstance(mask := kwargs.get(name), torch.Tensor)]
        self._masks = tuple(mask for mask in masks if mask.ndim == 2)
        if self.is_training:
            self._terms = []

    def _end(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        loss = getattr(output, "loss", None)
        if self.is_training and isinstance(loss, torch.Tensor) and (balance := self.take()) is not None:
            output.loss = loss + _share(kwargs) * balance.to(loss.device)


def routing_of(model: nn.Module) -> Routing | None:
    """Return the routing that is attached to a base model, or None."""
    return next((owner for _, owner in _hooks(model)), None)


def detach_routing(model: nn.Module) -> None:
    """Remove the hooks of a routing from a base model."""
    for key, _ in _hooks(model):
        for hooks in (
            model._forward_pre_hooks,
            model._forward_hooks,
            model._forward_pre_hooks_with_kwargs,
            model._forward_hooks_with_kwargs,
        ):
            hooks.pop(key, None)


def _hooks(model: nn.Module) -> list[tuple[int, Routing]]:
    """Return the key and the owner of each hook of a routing."""
    hooks = (*model._forward_pre_hooks.items(), *model._forward_hooks.items())
    return [
        (key, owner) for key, hook in hooks if isinstance(owner := getattr(hook, "__self__", None), Routing)
    ]


def _share(kwargs: Mapping[str, Any]) -> float | torch.Tensor:
    """Return the share of the batch in the loss: below one where the Trainer accumulates gradients.

    It then passes the number of target tokens of all micro-batches, by which the model divides its own loss.
    """
    items, labels = kwargs.get("num_items_in_batch"), kwargs.get("labels")
    if items is None or not isinstance(labels, torch.Tensor):
        return 1.0
    return (labels != -100).sum() / items
