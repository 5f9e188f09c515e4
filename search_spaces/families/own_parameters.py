"""SSF and BitFit: scales and shifts of what the layers compute, or their biases alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_spaces.families.base import register
from search_spaces.families.matrix_parts import BiasPart, ScaleShiftPart
from search_spaces.families.parts import CompositeFamily, PlannedPart
from search_spaces.parameters import Float, TopLayers, Value, adapted_layers
from search_spaces.shapes import ModelShape, TaskType

_KNOBS = (
    TopLayers(name="layers"),
    Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
)


@register
class ScaleAndShift(CompositeFamily):
    """Every matrix of the chosen layers, and every normalisation that has a bias to merge the shift into."""

    name = "ssf"
    title = "SSF (Lian et al., 2022)"
    formula = "2o parameters a matrix, 2d a normalisation"
    knobs = _KNOBS

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth)
        return [ScaleShiftPart(layers, lambda matrix, _: True, lambda norm: norm.bias)]


@register
class BitFit(CompositeFamily):
    """The biases of the matrices and normalisations of the chosen layers, and of the last normalisation."""

    name = "bitfit"
    title = "BitFit (Ben Zaken et al., 2022)"
    formula = "o parameters a matrix, d a normalisation, where they have a bias"
    knobs = _KNOBS

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if any(matrix.bias for matrix in shape.matrices):
            return None
        return f"the matrices of {shape.model_type} have no biases to train"

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth)
        return [BiasPart(layers, lambda matrix, _: matrix.bias, lambda norm: norm.bias)]
