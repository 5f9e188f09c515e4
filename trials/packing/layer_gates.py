"""Gates around a model's layers: skip the layers whose output is known, exit early, and compute in the last layer
only what the head reads.

A gate does not change the layer's computation. It returns the hidden states of `LayerSchedule` in place of the
layers that are skipped, so the model itself still does everything around its layers (embeddings, masks, head).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from search_spaces.model.shape import ModelShape


@dataclass
class LayerSchedule:
    """The layers that the next forward pass runs.

    Args:
        start: The number of lowest layers to skip; `hidden` then holds their output for the batch.
        hidden: The hidden states at `start`, and after an early exit those at `stop`; shape [rows, tokens, width].
        stop: The number of layers after which the pass ends with `EarlyExit`; None runs all layers.
    """

    start: int = 0
    hidden: torch.Tensor | None = None
    stop: int | None = None


class EarlyExit(Exception):  # noqa: N818 - control flow, not an error
    """Ends a forward pass at `LayerSchedule.stop`."""


class Gate(nn.Module):
    """A wrapper of one layer that runs it, skips it, or runs it for the first token only.

    Args:
        layer: The layer.
        number: Its index, counted from the input.
        schedule: What the next forward pass runs; the caller changes it between passes.
        first_token: Whether the head reads only the first token of the layer's output.
    """

    def __init__(
        self, layer: nn.Module, number: int, schedule: LayerSchedule, first_token: bool = False
    ) -> None:
        super().__init__()
        self.layer = layer
        self._number, self._schedule = number, schedule
        self._first_token = first_token_of(layer) if first_token else None

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the layer as the schedule requires.

        Raises:
            EarlyExit: The layer is the last one of the pass; its output is in the schedule.
        """
        schedule = self._schedule
        if self._number < schedule.start:
            assert schedule.hidden is not None
            return schedule.hidden
        last = schedule.stop == self._number + 1
        run = self.layer if last or self._first_token is None else self._first_token
        out = run(hidden, *args, **kwargs)
        if last:
            schedule.hidden = out
            raise EarlyExit
        return out

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the layer: some models read the kind of its attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class _FirstLayerDoneError(Exception):
    """Ends the probe of `layer_interface` before the second layer."""


@dataclass(frozen=True)
class LayerInterface:
    """What a layer receives and returns.

    Args:
        rows_first: Whether the first dimension of its hidden states is that of the rows; in XLNet it is the tokens.
        can_be_skipped: Whether it hands nothing but hidden states to the next layer. The layers of T5, for example,
            also return the position bias that the first of them computes.
    """

    rows_first: bool
    can_be_skipped: bool


def layer_interface(model: nn.Module, shape: ModelShape) -> LayerInterface:
    """Return what the layers receive and return, from a pass of two tokens or one image through the first one."""
    found: list[LayerInterface] = []

    def stop(layer: nn.Module, inputs: Any, output: Any) -> None:
        rows_first = not inputs or inputs[0].shape[0] == 1
        alone = isinstance(output, torch.Tensor) and shape.repeats == 1
        found.append(LayerInterface(rows_first, rows_first and alone))
        raise _FirstLayerDoneError

    handle = next(model.get_submodule(shape.layers_path).children()).register_forward_hook(stop)
    device, config = next(model.parameters()).device, getattr(model, "config", None)
    inputs: dict[str, torch.Tensor] = {}
    if shape.patches and config is not None:
        side = config.image_size
        height, width = (side, side) if isinstance(side, int) else side
        inputs["pixel_values"] = torch.zeros((1, config.num_channels, height, width), device=device)
    else:
        inputs["input_ids"] = torch.ones((1, 2), dtype=torch.long, device=device)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    try:
        with torch.no_grad(), contextlib.suppress(_FirstLayerDoneError):
            model(**inputs)
    finally:
        handle.remove()
    return found[0]


_POOLED = {
    "bert": "BertLayer",
    "electra": "ElectraLayer",
    "roberta": "RobertaLayer",
    "xlm-roberta": "XLMRobertaLayer",
}
"""Encoders whose classification head reads only the first token: the class of their layers, by `model_type`. The
layers of all of them have the same structure."""


def reads_first_token(model: nn.Module) -> bool:
    """Return whether the model's output depends on the last layer through its first token only."""
    config = getattr(model, "config", None)
    return getattr(config, "model_type", "") in _POOLED and type(model).__name__.endswith(
        "ForSequenceClassification"
    )


def first_token_of(layer: Any) -> Callable[..., torch.Tensor] | None:
    """Return a forward pass of the layer for its first token only, with an output of shape [rows, 1, width].

    Keys and values are computed for all tokens; queries, the output projection and the feed-forward block for one.
    Adapters on the matrices process each token independently, so they compute one token as well.

    Returns:
        None for a layer with another structure, or whose attention an adapter has changed.
    """
    if type(layer).__name__ not in _POOLED.values() or layer.is_decoder or layer.chunk_size_feed_forward:
        return None
    attention = layer.attention
    kinds = (attention, attention.self, attention.output, layer.intermediate, layer.output)
    if any(not type(module).__module__.startswith("transformers.models.") for module in kinds):
        return None
    inner = attention.self
    if inner.config._attn_implementation != "sdpa":
        return None

    def forward(hidden: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any) -> Any:
        first = hidden[:, :1]

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.view(*x.shape[:2], -1, inner.attention_head_size).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            heads(inner.query(first)),
            heads(inner.key(hidden)),
            heads(inner.value(hidden)),
            attn_mask=None if attention_mask is None else attention_mask[..., :1, :],
            scale=inner.scaling,
        )
        mixed = mixed.transpose(1, 2).reshape(*first.shape[:2], -1)
        return layer.feed_forward_chunk(attention.output(mixed, first))

    return forward
