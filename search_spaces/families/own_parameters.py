"""SSF and BitFit: scales and shifts of what the layers compute, or their biases alone."""

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
    """Every matrix of the chosen layers, and every normalization that has a bias to merge the shift into."""

    name = "ssf"
    title = "SSF (Lian et al., 2022)"
    formula = "2o parameters a matrix, 2d a normalization"
    parameters = _PARAMETERS

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        return [ScaleShiftPart(layers, every_matrix, biased_norm)]


@register
class BitFit(CompositeFamily):
    """The biases of the matrices and normalizations of the chosen layers, and of the last normalization."""

    name = "bitfit"
    title = "BitFit (Ben Zaken et al., 2022)"
    formula = "o parameters a matrix, d a normalization, where they have a bias"
    parameters = _PARAMETERS

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if any(matrix.bias for matrix in shape.matrices):
            return None
        return f"the matrices of {shape.model_type} have no biases to train"

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        return [BiasPart(layers, biased_matrix, biased_norm)]
