"""OSF: the smaller singular values and vectors of the weight, trained orthogonally to the larger ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.families.framework.peft_helpers import unadaptable
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_SHARE = 0.1


@register
class Osf(MatrixFamily):
    """Trains U, s and V of the r smallest singular values of W = U₀ S₀ V₀ + U diag(s) V (Nayak et al., 2025).

    The gradients of U and V are projected to be orthogonal to the singular vectors in U₀ and V₀, which stay as they
    are, so that an update changes little of what the model can do (arXiv 2504.07097). `share` is the trained share of
    the singular values. peft adds U diag(s) V and subtracts its initial value, so the work is that of a LoRA of rank
    2r. Every trial, and every loading, computes the singular value decomposition of W.
    """

    name = "osf"
    title = "OSF (Nayak et al., 2025)"
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Float(name="share", low=0.01, high=0.5, log=True, default=_DEFAULT_SHARE),
        Float(name="learning_rate", low=1e-5, high=1e-3, log=True, default=1e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return unadaptable(shape, "OSF")

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o+1) parameters; r = min(i, o) - ⌊(1 - share) · min(i, o)⌋.

        Both factors have 2r columns: 4r(i+o) FLOPs per token forward, and twice as many backward, minus 4ri if the
        matrix's input needs no gradient. A step projects the gradients of U and V with two products each: with the
        initial factor itself, 4r² per row of the shorter side, or with the kept vectors, 4r(min(i, o) - r) per row of
        the longer side.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        side = min(inputs, outputs)
        rank = _trained(config, side)
        sides = [(size, rank if size == side else side - rank) for size in (inputs, outputs)]
        return MatrixCost(
            parameters=rank * (inputs + outputs + 1),
            forward=4.0 * rank * (inputs + outputs),
            backward=4.0 * rank * (inputs + 2 * outputs + differentiated * inputs),
            penalty=sum(4.0 * rank * size * inner for size, inner in sides),
        )

    def saved_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> tuple[float, float]:
        """Return the numbers between the two factors, and those of the factors."""
        rank = _trained(config, min(matrix.inputs, matrix.outputs))
        return 2.0 * rank, 2.0 * rank * (matrix.inputs + matrix.outputs)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import OSFConfig

        return OSFConfig(**self.common_arguments(config, shape, task), effective_rank=_kept_share(config))


def _kept_share(config: Mapping[str, Value]) -> float:
    return 1.0 - float(config.get("share", _DEFAULT_SHARE))


def _trained(config: Mapping[str, Value], side: int) -> int:
    """Return the number of trained singular values of a matrix whose shorter side is `side`; peft rounds the rest."""
    return side - int(side * _kept_share(config))
