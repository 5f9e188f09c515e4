"""An adapter family from another package: rank-one updates u·vᵀ on weight matrices.

Install this folder (`pip install examples/own_family`) and `rank-one` is a family like the built-in ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class RankOne(MatrixFamily):
    """W x + u vᵀ x, v random and u zero at the start: LoRA (Hu et al., 2021) at rank 1 and scale 1."""

    name = "rank-one"
    title = "rank-one updates"
    parameters = (TARGETS, LAYERS, Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3))

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """i + o parameters a matrix of i inputs and o outputs.

        Per token 2(i + o) FLOPs forward and twice that backward, less 2i where no gradient flows on below.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        backward = 2.0 * (inputs + 2 * outputs + differentiated * inputs)
        return MatrixCost(inputs + outputs, 2.0 * (inputs + outputs), backward)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LoraConfig

        arguments = self.common_arguments(config, shape, task)
        return LoraConfig(**arguments, r=1, lora_alpha=1, fan_in_fan_out=shape.conv1d)
