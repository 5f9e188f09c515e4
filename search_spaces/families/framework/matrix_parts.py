"""Parts that change the matrices and normalizations of a layer: LoRA, (IA)³, SSF, biases and trained copies."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from search_spaces.families.framework.composite_family import LayerState, PartCost, PlannedPart
from search_spaces.families.framework.saved_activations import SavedActivations, input_of, output_of
from search_spaces.model.parts import Matrix, Norm
from search_spaces.model.shape import ModelShape


@dataclass(frozen=True)
class LowRankPart(PlannedPart):
    """LoRA on some matrices of each layer.

    Args:
        size: the rank.
        matrices: targets in the notation of `ModelShape.select`.
        scale: factor on B A.
    """

    size: int
    matrices: str
    scale: float
    kind: ClassVar[str] = "low_rank"
    mergeable: ClassVar[bool] = True

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return frozenset(matrix.site for matrix in shape.in_layer(layer, self.matrices))

    def changed(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return self.sites(shape, layer)

    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        """Return r(i+o) parameters and 2r(i+o) forward FLOPs per token and matrix, as in `lora.Lora`."""
        parameters, forward, backward, step, forward_step = 0, 0.0, 0.0, 0.0, 0.0
        for matrix in shape.in_layer(layer, self.matrices):
            inputs, outputs = matrix.inputs, matrix.outputs
            parameters += self.size * (inputs + outputs)
            share = shape.target_shares.in_layer(matrix)
            forward += share * 2.0 * self.size * (inputs + outputs)
            differentiated = state.gradients.reads(matrix.site)
            backward += share * 2.0 * self.size * (inputs + 2 * outputs + differentiated * inputs)
            # Relative positions that pass through the matrix need no gradient.
            forward_step += 2.0 * self.size * (inputs + outputs) * matrix.positions
            step += 2.0 * self.size * (2 * inputs + 3 * outputs) * matrix.positions
        return PartCost(parameters, forward, backward, step, forward_step)

    def targets(self, shape: ModelShape) -> str:
        return shape.modules(self.layers, shape.select(self.matrices))

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        return {"size": self.size, "scale": self.scale}

    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return the inputs of the matrices, and the `size` numbers between A and B of each."""
        matrices = shape.in_layer(layer, self.matrices)
        return SavedActivations(frozenset(map(input_of, matrices)), self.size * len(matrices))


@dataclass(frozen=True)
class RescalePart(PlannedPart):
    """(IA)³ on some matrices of each layer.

    Args:
        matrices: targets in the notation of `ModelShape.select`.
        side: whether the `output` or the `input` of the matrices is rescaled.
    """

    matrices: str
    side: str
    kind: ClassVar[str] = "rescale"
    mergeable: ClassVar[bool] = True

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        if self.side == "input":
            assert self.matrices == "down", "only the input of down has its own site"
            return frozenset({"down-input"})
        return frozenset(matrix.site for matrix in shape.in_layer(layer, self.matrices))

    def changed(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return frozenset(matrix.site for matrix in shape.in_layer(layer, self.matrices))

    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        matrices = shape.in_layer(layer, self.matrices)
        return PartCost(sum(m.inputs if self.side == "input" else m.outputs for m in matrices))

    def targets(self, shape: ModelShape) -> str:
        return shape.modules(self.layers, shape.select(self.matrices))

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        return {"side": self.side}

    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return what the scale multiplies: the inputs or the outputs of the matrices."""
        name = input_of if self.side == "input" else output_of
        return SavedActivations(frozenset(map(name, shape.in_layer(layer, self.matrices))))


MatrixFilter = Callable[[Matrix, int], bool]
"""Whether a matrix carries a part, given the matrix and its position in the layer plus the layer's index."""
NormFilter = Callable[[Norm], bool]
"""Whether a normalization carries a part."""


@dataclass(frozen=True)
class _ModulesPart(PlannedPart):
    """A part on some matrices and some normalizations of each layer, and on the last normalization.

    Its cost depends on no gradient but its own.

    Args:
        matrix: selects the matrices that carry the part; a module-level function, because it is a cache key.
        norm: selects the normalizations that carry the part; likewise.
    """

    matrix: MatrixFilter
    norm: NormFilter
    mergeable: ClassVar[bool] = True
    by_layer: ClassVar[bool] = True

    def _layer(self, shape: ModelShape, layer: int) -> _LayerPart:
        return _layer_part(type(self), self.matrix, self.norm, shape, layer)

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return self._layer(shape, layer).sites

    def changed(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return self._layer(shape, layer).changed

    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        return self._layer(shape, layer).cost

    def shared_parameters(self, shape: ModelShape) -> int:
        return self._layer(shape, shape.depth).cost.parameters

    def targets(self, shape: ModelShape) -> str:
        norms = [norm for layer in (*self.layers, shape.depth) for norm in _norms(self.norm, shape, layer)]
        names = [norm.name for norm in norms]
        names += [
            f"{shape.layer_path(layer)}.{matrix.name}"
            for layer in self.layers
            for matrix in _matrices(self.matrix, shape, layer)
        ]
        return "|".join(re.escape(name) for name in names)

    @staticmethod
    @abstractmethod
    def matrix_parameters(matrix: Matrix) -> int:
        """Return the trainable parameters on one matrix."""

    @staticmethod
    @abstractmethod
    def norm_parameters(norm: Norm) -> int:
        """Return the trainable parameters on one normalization."""

    @staticmethod
    def matrix_flops(matrix: Matrix) -> float:
        """Return the backward FLOPs per token on one matrix; elementwise work counts 0."""
        return 0.0


class _LayerPart(NamedTuple):
    """What a part is in one layer: the sites where gradients arise, the sites it changes, and its cost."""

    sites: frozenset[str]
    changed: frozenset[str]
    cost: PartCost


@lru_cache(maxsize=4096)
def _layer_part(
    kind: type[_ModulesPart], matrix: MatrixFilter, norm: NormFilter, shape: ModelShape, layer: int
) -> _LayerPart:
    """Return a part in one layer, or its share above the last layer where `layer` is the depth."""
    matrices = _matrices(matrix, shape, layer) if layer < shape.depth else []
    norms = _norms(norm, shape, layer)
    changed = frozenset([matrix.site for matrix in matrices])
    cost = PartCost(
        sum(map(kind.matrix_parameters, matrices)) + sum(map(kind.norm_parameters, norms)),
        backward=sum(shape.target_shares.in_layer(m) * kind.matrix_flops(m) for m in matrices),
        step=sum(kind.matrix_flops(matrix) * matrix.positions for matrix in matrices),
    )
    return _LayerPart(changed | {norm.place for norm in norms}, changed, cost)


def _matrices(carries: MatrixFilter, shape: ModelShape, layer: int) -> list[Matrix]:
    return [matrix for i, matrix in enumerate(shape.in_layer(layer)) if carries(matrix, i + layer)]


def _norms(carries: NormFilter, shape: ModelShape, layer: int) -> list[Norm]:
    return [norm for norm in shape.norms if norm.layer == layer and carries(norm)]


@dataclass(frozen=True)
class ScaleShiftPart(_ModulesPart):
    """SSF: a scale and a shift per output."""

    kind: ClassVar[str] = "scale_shift"

    @staticmethod
    def matrix_parameters(matrix: Matrix) -> int:
        return 2 * matrix.outputs

    @staticmethod
    def norm_parameters(norm: Norm) -> int:
        return 2 * norm.size

    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return the outputs of the matrices, which the scale multiplies."""
        return SavedActivations(frozenset(map(output_of, _matrices(self.matrix, shape, layer))))


@dataclass(frozen=True)
class BiasPart(_ModulesPart):
    """Trained changes of the biases."""

    kind: ClassVar[str] = "bias"

    @staticmethod
    def matrix_parameters(matrix: Matrix) -> int:
        return matrix.outputs

    @staticmethod
    def norm_parameters(norm: Norm) -> int:
        return norm.size

    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return nothing: the gradient of a sum needs no activations."""
        return SavedActivations()


@dataclass(frozen=True)
class CopyPart(_ModulesPart):
    """Matrices and normalizations that are trained in full.

    The gradient of a weight costs as many FLOPs as the product with the matrix.
    """

    kind: ClassVar[str] = "copy"

    @staticmethod
    def matrix_parameters(matrix: Matrix) -> int:
        return matrix.inputs * matrix.outputs + matrix.bias * matrix.outputs

    @staticmethod
    def norm_parameters(norm: Norm) -> int:
        return norm.parameters

    @staticmethod
    def matrix_flops(matrix: Matrix) -> float:
        return 2.0 * matrix.inputs * matrix.outputs

    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return the inputs of the trained matrices."""
        return SavedActivations(frozenset(map(input_of, _matrices(self.matrix, shape, layer))))


def every_matrix(matrix: Matrix, number: int) -> bool:
    """Select all matrices."""
    return True


def every_second(matrix: Matrix, number: int) -> bool:
    """Select every second matrix, alternating between layers."""
    return number % 2 == 0


def biased_matrix(matrix: Matrix, number: int) -> bool:
    """Select the matrices with a bias."""
    return matrix.bias


def every_norm(norm: Norm) -> bool:
    """Select all normalizations."""
    return True


def no_norm(norm: Norm) -> bool:
    """Select no normalization."""
    return False


def biased_norm(norm: Norm) -> bool:
    """Select the normalizations with a bias."""
    return norm.bias
