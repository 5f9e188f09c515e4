"""LayerNorm tuning: trained scales and shifts of the normalizations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import AdapterCost, Family, register
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules
from search_spaces.model.parts import Norm
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, TopLayers, Value, adapted_layers

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class NormTuning(Family):
    """Trains the normalizations of the adapted layers and the last one (Zhao et al., 2023, arXiv 2312.11420).

    Both LayerNorm and RMSNorm are supported. The normalization of the embeddings is frozen, because training it costs
    a full backward pass.
    """

    name = "norm"
    title = "LayerNorm tuning (Zhao et al., 2023)"
    quantized = True
    trains = frozenset({"norms"})
    parameters = (
        TopLayers(name="layers"),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if {norm.layer for norm in shape.norms} >= set(range(shape.depth)):
            return None
        return f"the normalizations of {shape.model_type} have no parameters to train"

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """2d parameters per LayerNorm, d per RMSNorm; elementwise, so no matrix FLOPs."""
        norms = _chosen(config, shape)
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        sites = {layer: frozenset(norm.place for norm in norms if norm.layer == layer) for layer in layers}
        return AdapterCost(
            parameters=sum(norm.parameters for norm in norms),
            lowest_layer=layers[0],
            lowest_sites=sites[layers[0]],
            mergeable=True,
            layer_sites=tuple(sites.items()) if shape.decoder_depth else (),
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LNTuningConfig

        names = [norm.name for norm in _chosen(config, shape)]
        # See `ModelShape.targets`; elsewhere an expression, because "norm" as a name would also match "q_norm".
        targets = names if shape.experts else f"({'|'.join(map(re.escape, names))})"
        return LNTuningConfig(
            task_type=peft_task(task), target_modules=targets, modules_to_save=trained_modules(shape)
        )


def _chosen(config: Mapping[str, Value], shape: ModelShape) -> list[Norm]:
    layers = {*adapted_layers(config, "layers", shape.depth, shape.decoder_depth), shape.depth}
    return [norm for norm in shape.norms if norm.layer in layers]
