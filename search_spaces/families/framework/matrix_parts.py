"""Parts that change a layer's own matrices and normalizations: LoRA, (IA)³, SSF, biases and trained copies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from search_spaces.families.framework.composite_family import LayerState, PartCost, PlannedPart
from search_spaces.model.shape import Matrix, ModelShape, Norm


@dataclass(frozen=True)
class LowRankPart(PlannedPart):
    """LoRA of rank `size`; `scale` multiplies B A."""

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
        """As `lora.Lora`: r(i+o) parameters and 2r(i+o) FLOPs forward a matrix."""
        parameters, forward, backward, step, forward_step = 0, 0.0, 0.0, 0.0, 0.0
        for matrix in shape.in_layer(layer, self.matrices):
            inputs, outputs = matrix.inputs, matrix.outputs
            parameters += self.size * (inputs + outputs)
            forward += 2.0 * self.size * (inputs + outputs)
            differentiated = state.gradients.reads(matrix.site)
            backward += 2.0 * self.size * (inputs + 2 * outputs + differentiated * inputs)
            # Relative positions, where they run through the matrix, need no gradient.
            forward_step += 2.0 * self.size * (inputs + outputs) * matrix.positions
            step += 2.0 * self.size * (2 * inputs + 3 * outputs) * matrix.positions
        return PartCost(parameters, forward, backward, step, forward_step)

    def targets(self, shape: ModelShape) -> str:
        return shape.modules(self.layers, shape.select(self.matrices))

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        return {"size": self.size, "scale": self.scale}


@dataclass(frozen=True)
class RescalePart(PlannedPart):
    """(IA)³ on the outputs of `matrices`, or on their inputs."""

    matrices: str
    side: str
    kind: ClassVar[str] = "rescale"
    mergeable: ClassVar[bool] = True

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        if self.side == "input":
            assert self.matrices == "down", "only the input of down has a site of its own"
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


class _Layer(NamedTuple):
    sites: frozenset[str]
    changed: frozenset[str]
    cost: PartCost


@dataclass(frozen=True)
class _OnModules(PlannedPart):
    """A part on some matrices and some normalizations of each layer, and on the last normalization.

    Its cost hangs on no gradient but its own.

    Args:
        matrix: whether a matrix of a layer carries the part, given its number in the layer plus the layer's.
        norm: whether a normalization does. Both functions are constants of their family: what they chose is
            kept with the shape.
    """

    matrix: Callable[[Matrix, int], bool]
    norm: Callable[[Norm], bool]
    mergeable: ClassVar[bool] = True
    by_layer: ClassVar[bool] = True

    def _matrices(self, shape: ModelShape, layer: int) -> list[Matrix]:
        return [m for i, m in enumerate(shape.in_layer(layer)) if self.matrix(m, i + layer)]

    def _norms(self, shape: ModelShape, layer: int) -> list[Norm]:
        return [norm for norm in shape.norms if norm.layer == layer and self.norm(norm)]

    def _layer(self, shape: ModelShape, layer: int) -> _Layer:
        """What is in a layer, or with `layer` the depth above the last; looked up once for each shape."""
        key = type(self), self.matrix, self.norm, layer
        if key not in shape.memo:
            matrices = self._matrices(shape, layer) if layer < shape.depth else []
            norms = self._norms(shape, layer)
            changed = frozenset([matrix.site for matrix in matrices])
            cost = PartCost(
                sum(map(self.matrix_parameters, matrices)) + sum(map(self.norm_parameters, norms)),
                backward=sum(map(self.matrix_flops, matrices)),
                step=sum(self.matrix_flops(matrix) * matrix.positions for matrix in matrices),
            )
            shape.memo[key] = _Layer(changed | {norm.place for norm in norms}, changed, cost)
        return shape.memo[key]

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return self._layer(shape, layer).sites

    def changed(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return self._layer(shape, layer).changed

    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        return self._layer(shape, layer).cost

    def beyond(self, shape: ModelShape) -> int:
        return self._layer(shape, shape.depth).cost.parameters

    def targets(self, shape: ModelShape) -> str:
        norms = [norm for layer in (*self.layers, shape.depth) for norm in self._norms(shape, layer)]
        names = [norm.name for norm in norms]
        names += [
            f"{shape.layer_path(layer)}.{matrix.name}"
            for layer in self.layers
            for matrix in self._matrices(shape, layer)
        ]
        return "|".join(re.escape(name) for name in names)

    def matrix_parameters(self, matrix: Matrix) -> int:
        raise NotImplementedError

    def norm_parameters(self, norm: Norm) -> int:
        raise NotImplementedError

    def matrix_flops(self, matrix: Matrix) -> float:
        """Backward FLOPs per token; elementwise work is none."""
        return 0.0


@dataclass(frozen=True)
class ScaleShiftPart(_OnModules):
    """SSF: a scale and a shift of every output."""

    kind: ClassVar[str] = "scale_shift"

    def matrix_parameters(self, matrix: Matrix) -> int:
        return 2 * matrix.outputs

    def norm_parameters(self, norm: Norm) -> int:
        return 2 * norm.size


@dataclass(frozen=True)
class BiasPart(_OnModules):
    """Changes of biases."""

    kind: ClassVar[str] = "bias"

    def matrix_parameters(self, matrix: Matrix) -> int:
        return matrix.outputs

    def norm_parameters(self, norm: Norm) -> int:
        return norm.size


@dataclass(frozen=True)
class CopyPart(_OnModules):
    """Matrices and normalizations trained in full: the gradient of a weight is a product as large as the
    matrix's own."""

    kind: ClassVar[str] = "copy"

    def matrix_parameters(self, matrix: Matrix) -> int:
        return matrix.inputs * matrix.outputs + matrix.bias * matrix.outputs

    def norm_parameters(self, norm: Norm) -> int:
        return norm.parameters

    def matrix_flops(self, matrix: Matrix) -> float:
        return 2.0 * matrix.inputs * matrix.outputs


def every_matrix(matrix: Matrix, number: int) -> bool:
    return True


def every_second(matrix: Matrix, number: int) -> bool:
    return number % 2 == 0


def biased_matrix(matrix: Matrix, number: int) -> bool:
    return matrix.bias


def every_norm(norm: Norm) -> bool:
    return True


def no_norm(norm: Norm) -> bool:
    return False


def biased_norm(norm: Norm) -> bool:
    return norm.bias
