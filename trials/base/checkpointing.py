"""Gradient checkpointing: a layer keeps its input alone and runs again in the backward pass (Chen et al., 2016).

transformers checkpoints the layers of a model in training mode only, where the base model's dropout is on, and a
trial trains in evaluation mode. Here a layer is checkpointed wherever gradients are recorded, without reentry into
autograd: neither the embeddings' output nor the layers below the lowest adapter need a gradient, and they are not run
again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from search_spaces.errors import InvalidInputError, Problem
from search_spaces.model.shape import ModelShape

Context = Callable[[], AbstractContextManager[object]]
"""Returns a context in which a layer computes beside autocast, which torch restores by itself."""


def checkpoint_layers(model: Any, shape: ModelShape, context: Context = nullcontext) -> None:
    """Let the layers of a model run again in the backward pass.

    Args:
        model: The base model. It no longer caches keys and values: a second run would add them again.
        shape: Its shape.
        context: The context of a second run.

    Raises:
        InvalidInputError: transformers does not support it for the architecture, so an exported run could not do it.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        what = f"transformers has no gradient checkpointing for {shape.model_type}"
        raise InvalidInputError(Problem("model.gradient_checkpointing", what, "Remove it."))
    model.config.use_cache = False
    paths = (shape.layers_path, *([shape.decoder_path] if shape.decoder_path is not None else []))
    for path in paths:
        for layer in model.get_submodule(path).children():
            layer.forward = Checkpointed(layer, context)


class Checkpointed:
    """The forward pass of a layer, checkpointed where something that it reads or has needs a gradient.

    Args:
        layer: The layer.
        context: The context of its second run.
    """

    def __init__(self, layer: nn.Module, context: Context) -> None:
        self._layer, self._forward, self._context = layer, layer.forward, context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer."""
        if not torch.is_grad_enabled() or not self._needs_gradient(*args, *kwargs.values()):
            return self._forward(*args, **kwargs)
        return checkpoint(
            self._forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), self._context()),
            **kwargs,
        )

    def _needs_gradient(self, *inputs: Any) -> bool:
        tensors = (*(x for x in inputs if isinstance(x, torch.Tensor)), *self._layer.parameters())
        return any(tensor.requires_grad for tensor in tensors)


def is_checkpointed(model: nn.Module) -> bool:
    """Return whether a model's layers are checkpointed."""
    return any(isinstance(vars(module).get("forward"), Checkpointed) for module in model.modules())
