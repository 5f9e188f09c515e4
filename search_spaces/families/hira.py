"""HiRA: the elementwise product of the weight and a low-rank matrix."""

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

_DEFAULT_RANK = 32


@register
class Hira(FittedFamily):
    """Trains A and B in (W + W ⊙ B A) x, an update of high rank with the parameters of LoRA (Huang et al., 2025).

    The paper is "HiRA: Parameter-Efficient Hadamard High-Rank Adaptation" (ICLR 2025). B is zero at the start. The
    update is proportional to the weight, so learning rates are larger than those of LoRA.
    """

    name = "hira"
    title = "HiRA (Huang et al., 2025)"
    quantized = True
    linear_only = False
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=4, high=128, log=True, default=_DEFAULT_RANK),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Float(name="learning_rate", low=2e-4, high=2e-2, log=True, default=3e-3),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o) parameters; the update is a second matrix, with 2io FLOPs per token for each product.

        A step forms B·A, 2rio FLOPs forward and twice as many backward.
        """
        inputs, outputs, rank = matrix.inputs, matrix.outputs, int(config.get("rank", _DEFAULT_RANK))
        product = 2.0 * inputs * outputs
        return MatrixCost(
            rank * (inputs + outputs), product, product * (1 + differentiated), step=3 * rank * product
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import HiraConfig

        return HiraConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", _DEFAULT_RANK)),
            hira_dropout=float(config.get("dropout", 0.0)),
            fan_in_fan_out=shape.conv1d,
        )
