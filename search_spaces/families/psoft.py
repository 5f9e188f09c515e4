"""PSOFT: a rotation in the principal subspace of the weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import FittedFamily, smallest_side
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 32


@register
class Psoft(FittedFamily):
    """Trains R, α and β in W x + B (diag(β) R diag(α) - I) A x (Wu et al., 2025, arXiv 2505.11235).

    B A is the best approximation of W of rank r and is frozen. R is orthogonal, an exact Cayley transform; α and β
    are one at the start. Every trial, and every loading, computes the singular value decomposition of W. The rank
    is at most the smaller side of each adapted matrix.
    """

    name = "psoft"
    title = "PSOFT (Wu et al., 2025)"
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=8, high=256, log=True, default=_DEFAULT_RANK),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),
    )

    def fit_to_model(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        rank = min(int(config.get("rank", _DEFAULT_RANK)), smallest_side(self.matrices(config, shape)))
        return {**config, "rank": rank}

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(r-1)/2 + 2r parameters.

        2r(i + r + o) FLOPs per token forward. Backward: the gradients of R and of its output always, and those of the
        input and output of A if the input needs one. The gradient of a step's Cayley transform costs 2r³.
        """
        inputs, outputs, rank = matrix.inputs, matrix.outputs, int(config["rank"])
        forward = 2.0 * rank * (inputs + rank + outputs)
        backward = 2.0 * rank * (rank + outputs + differentiated * (inputs + rank))
        return MatrixCost(rank * (rank - 1) // 2 + 2 * rank, forward, backward, step=2.0 * rank**3)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import PsoftConfig

        rank = int(self.fit_to_model(config, shape)["rank"])
        return PsoftConfig(
            **self.common_arguments(config, shape, task),
            r=rank,
            psoft_alpha=rank,  # B is divided by alpha / r, so its value has no effect
            psoft_dropout=float(config.get("dropout", 0.0)),
        )
