"""DEFT: a low-rank subspace of the outputs that is removed from the weight and replaced."""

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


@register
class Deft(FittedFamily):
    """Trains P and R in (I - P relu(P)ᵀ) W x + P R x (Kumar et al., 2025, arXiv 2509.22793).

    P has shape [outputs, rank] and small random values at the start; R starts such that the output does not change.
    """

    name = "deft"
    title = "DEFT (Kumar et al., 2025)"
    linear_only = False
    saved_copies = 2.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=64, log=True, default=_DEFAULT_RANK),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Float(name="learning_rate", low=5e-5, high=2e-3, log=True, default=3e-4),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o) parameters, r at most the number of outputs.

        Forward FLOPs per token: 2ro to project W x, 2ri for R and twice 2ro for P; backward twice as many, without
        the gradients of x and of W x if the input needs none.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank = min(int(config.get("rank", _DEFAULT_RANK)), outputs)
        return MatrixCost(
            rank * (inputs + outputs),
            forward=2.0 * rank * (inputs + 3 * outputs),
            backward=2.0 * rank * ((inputs + outputs) * (1 + differentiated) + 4 * outputs),
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import DeftConfig

        return DeftConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", _DEFAULT_RANK)),
            decomposition_method="relu",
            deft_dropout=float(config.get("dropout", 0.0)),
            fan_in_fan_out=shape.conv1d,
        )
