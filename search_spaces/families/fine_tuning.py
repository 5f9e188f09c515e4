"""Fine-tuning of the base model: all of it, half of it, or its top layers, as baselines for adapters.

The trained weights are copies in the adapter's file, so that other trials can share the unchanged base model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import AdapterCost, Family, register
from search_spaces.families.framework.composite_family import CompositeFamily, PlannedPart
from search_spaces.families.framework.matrix_parts import (
    CopyPart,
    every_matrix,
    every_norm,
    every_second,
    no_norm,
)
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, TopLayers, Value, adapted_layers

if TYPE_CHECKING:
    from peft import PeftConfig

_LEARNING_RATE = Float(name="learning_rate", low=5e-6, high=2e-4, log=True, default=2e-5)


@register
class FullFineTuning(Family):
    """Trains every parameter, including embeddings and language head; tied embeddings remain one tensor."""

    name = "full"
    title = "full fine-tuning"
    formula = "Every parameter of the base model"
    trains = frozenset({"matrices", "norms"})
    parameters = (_LEARNING_RATE,)

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if shape.experts:
            return f"the weights of the {shape.experts} experts of {shape.model_type} stay frozen"
        if shape.decoder_path and not shape.decoder_path.startswith(shape.layers_path.partition(".")[0]):
            return f"encoder and decoder of {shape.model_type} share embeddings that belong to neither"
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """Return the cost of a gradient for each weight, which is a product as large as that with the matrix.

        The gradient of an embedding is a sum and not counted. Matrices that only patches or relative positions pass
        through are below the layers.
        """
        shares = shape.target_shares
        layers = sum(
            shares.of_matrix(matrix) * matrix.inputs * matrix.outputs
            for layer in range(shape.depth)
            for matrix in shape.in_layer(layer)
        )
        others = sum(part.weights for part in shape.frozen_parts)
        below = sum(inputs * outputs for inputs, outputs in shape.input_matrices)
        frozen = [matrix for matrix in shape.head if not matrix.trained]
        share = shares.of_stack(shape.decoder_depth)
        per_token = share * sum(matrix.inputs * matrix.outputs for matrix in frozen if matrix.per_token)
        once = sum(matrix.inputs * matrix.outputs for matrix in frozen if not matrix.per_token)
        terms = shape.depth * len(shape.position_terms)
        position_products = 2.0 * terms * shape.attention_width * shape.positions
        return AdapterCost(
            parameters=shape.base_parameters - shape.unused_parameters,
            lowest_layer=-1,
            backward_flops=2.0 * (layers + below + per_token) + others + position_products,
            step_flops=2 * shape.position_flops,
            sequence_flops=2.0 * once
            + shape.patch_flops
            + sum(p.sequence for p in shape.frozen_parts if p.weights),
            mergeable=True,
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from search_spaces.tuners import CompositeConfig

        base = re.escape(shape.layers_path.partition(".")[0])
        heads = [re.escape(matrix.name) for matrix in shape.head if not matrix.trained]
        new = "|".join(re.escape(name) for name in shape.new_head_parts)
        inside = rf"(?!(?:{new})$){base}\..*" if new else rf"{base}\..*"
        targets = "|".join((inside, *heads))
        return CompositeConfig(
            task_type=peft_task(task),
            parts=[{"kind": "copy", "targets": targets}],
            modules_to_save=trained_modules(shape),
        )


@register
class HalfFineTuning(CompositeFamily):
    """Trains every second matrix of each layer, alternating by layer (after Hui et al., 2024, arXiv 2404.18466).

    Embeddings and normalizations are frozen. Hui et al. select another half in each round of training; here there is
    one round with a fixed half.
    """

    name = "half"
    title = "half fine-tuning (after Hui et al., 2024)"
    formula = "Half of the matrices"
    parameters = (_LEARNING_RATE,)

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = tuple(range(shape.depth))
        return [CopyPart(layers, every_second, no_norm)]


@register
class TopLayersFineTuning(CompositeFamily):
    """Trains every parameter of the top layers and of the last normalization."""

    name = "top-layers"
    title = "fine-tuning of the top layers"
    formula = "Every parameter of the adapted layers"
    parameters = (TopLayers(name="layers", default=2), _LEARNING_RATE)

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        return [CopyPart(layers, every_matrix, every_norm)]
