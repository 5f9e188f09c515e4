"""LoHa: the elementwise product of two low-rank matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.families.framework.peft_helpers import unadaptable
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 8


@register
class LoHa(MatrixFamily):
    """Trains A₁, B₁, A₂ and B₂ in W + scale · (B₁ A₁) ⊙ (B₂ A₂) (Yeh et al., 2023, arXiv 2309.14859).

    It has twice the parameters of a LoRA of the same rank r, and the rank of the update is up to r². The product is
    from federated learning (FedPara, Hyeon-Woo et al., 2021, arXiv 2108.06098, Proposition 1). The size of its
    entries does not depend on the rank, so `scale` is the multiplier at every rank. peft forms the full matrix in
    every forward pass, so it is slow for its number of parameters.
    """

    name = "loha"
    title = "LoHa (Yeh et al., 2023)"
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=32, log=True, default=_DEFAULT_RANK),
        Float(name="scale", low=0.25, high=8.0, log=True, default=1.0),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return unadaptable(shape, "LoHa")

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """2r(i+o) parameters.

        Each forward pass forms both products, 4rio FLOPs; a backward pass forms them again and computes four
        gradients, 12rio. The update is a second matrix: per token 2io forward, 2io for its gradient and 2io for
        that of its input.
        """
        whole = 2.0 * matrix.inputs * matrix.outputs
        rank = int(config.get("rank", _DEFAULT_RANK))
        return MatrixCost(
            parameters=2 * rank * (matrix.inputs + matrix.outputs),
            forward=whole,
            backward=(1 + differentiated) * whole,
            step=8 * rank * whole,
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LoHaConfig

        rank = int(config.get("rank", _DEFAULT_RANK))
        return LoHaConfig(
            **self.common_arguments(config, shape, task), r=rank, alpha=rank * float(config.get("scale", 1.0))
        )
