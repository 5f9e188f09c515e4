"""HRA: a chain of Householder reflections of the inputs of a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import FittedFamily
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 8


@register
class Hra(FittedFamily):
    """Trains u₁ ... u_r in W H₁ ... H_r x, with Hₖ = I - 2 uₖuₖᵀ / |uₖ|² (Yuan et al., 2024, arXiv 2405.17484).

    r is even, so that the reflections start in equal pairs, which cancel. peft forms the i × i product in every
    forward pass and keeps r such matrices for the backward pass, which takes much memory for wide matrices.
    """

    name = "hra"
    title = "HRA (Yuan et al., 2024)"
    saved_copies = 0.0
    saved_copies_of_rank = 2.0
    parameters = (
        TARGETS,
        LAYERS,
        Categorical(name="rank", choices=(2, 4, 8, 16, 32), default=_DEFAULT_RANK, ordered=True),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r·i parameters.

        A step forms the weight: 4i² FLOPs per reflection, 2i³ for the chain and 2oi² for its product with W; backward
        twice as many, except for the first reflection, which multiplies the identity, and for the two products with
        frozen matrices. The gradient of the weight costs 2io per token.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank = int(config.get("rank", _DEFAULT_RANK))
        products = 2.0 * inputs**3 + 2.0 * outputs * inputs**2
        reflections = 12.0 * rank * inputs**2 - 2.0 * inputs**2
        return MatrixCost(rank * inputs, backward=2.0 * inputs * outputs, step=2 * products + reflections)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import HRAConfig

        return HRAConfig(
            **self.common_arguments(config, shape, task), r=int(config.get("rank", _DEFAULT_RANK))
        )
