"""Fine-tuning of the base itself: all of it, half of it, or its top layers. The baselines of every adapter.

The trained weights are copies in the adapter's file, so that the base stays as it is for the other trials.
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
    """Every parameter, embeddings and language head included; tied embeddings stay one tensor."""

    name = "full"
    title = "full fine-tuning"
    formula = "Every parameter of the base"
    trains = frozenset({"matrices", "norms"})
    parameters = (_LEARNING_RATE,)

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """Each matrix's weight has a gradient, a product as large as the matrix's own; that of an embedding
        is a sum and no product. What only patches or relative positions run through is below the layers."""
        layers = sum(
            matrix.inputs * matrix.outputs for layer in range(shape.depth) for matrix in shape.in_layer(layer)
        )
        below = sum(inputs * outputs for inputs, outputs in shape.input_matrices)
        frozen = [matrix for matrix in shape.head if not matrix.trained]
        per_token = sum(matrix.inputs * matrix.outputs for matrix in frozen if matrix.per_token)
        once = sum(matrix.inputs * matrix.outputs for matrix in frozen if not matrix.per_token)
        terms = shape.depth * len(shape.position_terms)
        position_products = 2.0 * terms * shape.attention_width * shape.positions
        return AdapterCost(
            parameters=shape.base_parameters,
            lowest_layer=-1,
            backward_flops=2.0 * (layers + below + per_token) + position_products,
            step_flops=2 * shape.position_flops,
            sequence_flops=2.0 * once + shape.patch_flops,
            mergeable=True,
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from search_spaces.tuners import CompositeConfig

        base = re.escape(shape.layers_path.partition(".")[0])
        heads = [re.escape(matrix.name) for matrix in shape.head if not matrix.trained]
        targets = "|".join((rf"{base}\..*", *heads))
        return CompositeConfig(
            task_type=peft_task(task),
            parts=[{"kind": "copy", "targets": targets}],
            modules_to_save=trained_modules(shape),
        )


@register
class HalfFineTuning(CompositeFamily):
    """Every second matrix of each layer, as on a chequerboard: those that are frozen in one layer are trained
    in the next. Embeddings and normalizations stay frozen.

    Hui et al. draw the half anew in each round of training; here there is one round, and the half is fixed.
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
    """Every parameter of the top layers, and the last normalization."""

    name = "top-layers"
    title = "fine-tuning of the top layers"
    formula = "Every parameter of the chosen layers"
    parameters = (TopLayers(name="layers", default=2), _LEARNING_RATE)

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        return [CopyPart(layers, every_matrix, every_norm)]
