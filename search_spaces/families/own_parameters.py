"""SSF and BitFit: trained scales and shifts of the layers' outputs, or only their biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_spaces.families.framework.base import register
from search_spaces.families.framework.composite_family import CompositeFamily, PlannedPart
from search_spaces.families.framework.matrix_parts import (
    BiasPart,
    ScaleShiftPart,
    biased_matrix,
    biased_norm,
    every_matrix,
)
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, TopLayers, Value, adapted_layers

_PARAMETERS = (
    TopLayers(name="layers"),
    Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
)


@register
class ScaleAndShift(CompositeFamily):
    """Trains a scale and a shift on every matrix of the adapted layers (Lian et al., 2022, arXiv 2210.08823).

    Normalizations have them too if they have a bias into which the shift can be merged.
    """

    name = "ssf"
    title = "SSF (Lian et al., 2022)"
    formula = "2o parameters per matrix, 2d per normalization"
    parameters = _PARAMETERS

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        return [ScaleShiftPart(layers, every_matrix, biased_norm)]


@register
class BitFit(CompositeFamily):
    """Trains the biases of the matrices and normalizations (Ben Zaken et al., 2022, arXiv 2106.10199).

    These are the biases of the adapted layers and of the last normalization.
    """

    name = "bitfit"
    title = "BitFit (Ben Zaken et al., 2022)"
    formula = "o parameters per matrix, d per normalization, if it has a bias"
    parameters = _PARAMETERS

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if any(matrix.bias for matrix in shape.matrices):
            return None
        return f"the matrices of {shape.model_type} have no biases to train"

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        return [BiasPart(layers, biased_matrix, biased_norm)]
