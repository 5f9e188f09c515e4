"""Gates around a model's layers: begin above the layers whose outcome is known, end early, and compute in the
last layer only what the head reads.

A gate leaves the layer's computation alone. It hands on the hidden states that `LayerSchedule` brings instead of
running the layers below, so whatever else the model does around its layers (embeddings, masks, head) is done
by the model itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass
class LayerSchedule:
    """How the next forward pass goes.

    Args:
        start: layers from the input on that are not run; then `hidden` is what they make of the batch.
        hidden: shape [rows, tokens, width].
        stop: layers after which the pass ends with `EarlyExit`, the outcome in `hidden`; None runs to the end.
    """

    start: int = 0
    hidden: torch.Tensor | None = None
    stop: int | None = None


class EarlyExit(Exception):  # noqa: N818 - no error: the pass has come where it was to end
    """Ends a forward pass at `LayerSchedule.stop`."""


class Gate(nn.Module):
    """One layer of the model, its number from the input, and what it may leave out."""

    def __init__(
        self, layer: nn.Module, number: int, passage: LayerSchedule, first_token: bool = False
    ) -> None:
        super().__init__()
        self.layer = layer
        self._number, self._layer_schedule = number, passage
        self._first_token = first_token_of(layer) if first_token else None

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        way = self._layer_schedule
        if self._number < way.start:
            assert way.hidden is not None
            return way.hidden
        last = way.stop == self._number + 1
        run = self.layer if last or self._first_token is None else self._first_token
        out = run(hidden, *args, **kwargs)
        if last:
            way.hidden = out
            raise EarlyExit
        return out

    def __getattr__(self, name: str) -> Any:
        """Everything else is the layer's: some models ask it for the kind of its attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


_POOLED = {
    "bert": "BertLayer",
    "electra": "ElectraLayer",
    "roberta": "RobertaLayer",
    "xlm-roberta": "XLMRobertaLayer",
}
"""Encoders of transformers whose head for classes reads the first token alone, by `model_type`, with the
class of their layers; the layers are built alike."""


def reads_first_token(model: nn.Module) -> bool:
    """Whether the model's output depends on the last layer through its first token alone."""
    config = getattr(model, "config", None)
    return getattr(config, "model_type", "") in _POOLED and type(model).__name__.endswith(
        "ForSequenceClassification"
    )


def first_token_of(layer: Any) -> Callable[..., torch.Tensor] | None:
    """The layer's forward for its first token only, shape [rows, 1, width]; None for a layer that is built
    otherwise, or whose attention an adapter has changed.

    Keys and values are computed for all tokens; queries, the output projection and the feed-forward part for
    one. Adapters on the matrices work on each token apart, so that theirs is the same saving.
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
