"""DeLoRA: a low-rank update of bounded norm, with separate direction and norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import FittedFamily
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 8
_DEFAULT_BOUND = 15.0


@register
class Delora(FittedFamily):
    """Trains â, b̂ and λ in W x + (λ/r) Σ b̂ₖ âₖᵀ (w ⊙ x) (Bini et al., 2025, arXiv 2503.18225).

    âₖ and b̂ₖ are unit vectors, and w has the norms of the columns of W. λ bounds the update; `bound` is its initial
    value.
    """

    name = "delora"
    title = "DeLoRA (Bini et al., 2025)"
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=64, log=True, default=_DEFAULT_RANK),
        Float(name="bound", low=1.0, high=50.0, log=True, default=_DEFAULT_BOUND),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o) + 1 parameters; the FLOPs of LoRA."""
        inputs, outputs, rank = matrix.inputs, matrix.outputs, int(config.get("rank", _DEFAULT_RANK))
        forward = 2.0 * rank * (inputs + outputs)
        backward = 2.0 * rank * (inputs + 2 * outputs + differentiated * inputs)
        return MatrixCost(rank * (inputs + outputs) + 1, forward, backward)

    def frozen_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> int:
        """Return the number of column norms of the frozen weight, which peft saves."""
        return matrix.inputs

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import DeloraConfig

        return DeloraConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", _DEFAULT_RANK)),
            delora_lambda=float(config.get("bound", _DEFAULT_BOUND)),
            module_dropout=float(config.get("dropout", 0.0)),
        )
