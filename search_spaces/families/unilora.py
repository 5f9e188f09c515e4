"""Uni-LoRA: a LoRA whose parameters are all entries of one short vector."""

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

_DEFAULT_RANK = 4
_DEFAULT_LENGTH = 8192


@register
class UniLora(FittedFamily):
    """Trains one vector that has the entries of all A and B in W x + B A x (Li et al., 2025, arXiv 2506.00799).

    The vector has `length` entries. A fixed seed assigns them to A and B, scaled such that the map is an isometry.
    """

    name = "unilora"
    title = "Uni-LoRA (Li et al., 2025)"
    linear_only = False
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=32, log=True, default=_DEFAULT_RANK),
        Int(name="length", low=128, high=65_536, log=True, default=_DEFAULT_LENGTH),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Float(name="learning_rate", low=3e-4, high=3e-2, log=True, default=3e-3),
    )

    def shared_parameters(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> int:
        return int(config.get("length", _DEFAULT_LENGTH))

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """No parameters per matrix; the FLOPs of LoRA."""
        inputs, outputs, rank = matrix.inputs, matrix.outputs, int(config.get("rank", _DEFAULT_RANK))
        forward = 2.0 * rank * (inputs + outputs)
        return MatrixCost(0, forward, 2.0 * rank * (inputs + 2 * outputs + differentiated * inputs))

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import UniLoraConfig

        return UniLoraConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", _DEFAULT_RANK)),
            theta_d_length=int(config.get("length", _DEFAULT_LENGTH)),
            unilora_dropout=float(config.get("dropout", 0.0)),
            fan_in_fan_out=shape.conv1d,
        )
