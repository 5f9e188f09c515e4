"""Prefix tuning in selected layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from search_spaces.families.framework.base import register
from search_spaces.families.framework.composite_family import (
    CompositeFamily,
    LayerState,
    PartCost,
    PlannedPart,
    no_attention_interface,
)
from search_spaces.families.framework.saved_activations import SavedActivations
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, TopLayers, Value, adapted_layers

_DEFAULT_TOKENS = 8


@dataclass(frozen=True)
class PrefixPart(PlannedPart):
    """Trained keys and values before those of each layer.

    Args:
        size: number of keys and values.
    """

    size: int
    kind: ClassVar[str] = "prefix"

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return frozenset({"prefix"})

    def is_possible(self, shape: ModelShape, layer: int) -> bool:
        return shape.attends(layer) and bool(shape.in_layer(layer, "k"))

    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        """Return the cost: 2 · size · d_kv parameters, and products of each query with `size` more keys.

        There are two products forward and up to four backward, and as many in cross-attention.
        """
        product = 2.0 * shape.attention_width * self.size
        attentions = len(shape.in_layer(layer, "k"))
        products = state.gradients.attention_products + state.gradients.cross_products
        return PartCost(
            attentions * 2 * self.size * shape.kv_width, attentions * 2 * product, products * product
        )

    def targets(self, shape: ModelShape) -> str:
        return shape.modules(self.layers, shape.select("k"))

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        return {"size": self.size, "heads": shape.kv_heads, "width": shape.head_width}

    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return nothing: the layer keeps its keys and values anyway, of which the prefix is a small share."""
        return SavedActivations()


@register
class LayerPrefix(CompositeFamily):
    """Trains keys and values before those of the adapted layers, after any rotation (after Li and Liang, 2021)."""

    name = "layer-prefix"
    title = "prefix tuning by layer (after Li and Liang, 2021)"
    quantized = True
    formula = "tokens · 2 · d_kv parameters per layer"
    parameters = (
        TopLayers(name="layers"),
        Int(name="tokens", low=1, high=64, log=True, default=_DEFAULT_TOKENS),
        Float(name="learning_rate", low=1e-3, high=3e-2, log=True, default=5e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return no_attention_interface(shape)

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        return [PrefixPart(layers, int(config.get("tokens", _DEFAULT_TOKENS)))]
