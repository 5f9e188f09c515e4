"""GLoRA: weights and biases scaled and shifted by low-rank matrices, vectors or scalars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import FittedFamily
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 4


@register
class Glora(FittedFamily):
    """Trains A to E in (W + W ⊙ A + B) x + (b + b ⊙ D + E + W C) (Chavan et al., 2023, arXiv 2306.07967).

    All five are zero at the start. `weight` is the kind of A and B, `prompt` that of C, and `bias` that of D and E.
    C, D and E exist only if the matrix has a bias.
    """

    name = "glora"
    title = "GLoRA (Chavan et al., 2023)"
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=32, log=True, default=_DEFAULT_RANK),
        Categorical(name="weight", choices=("lora", "vector", "constant"), default="lora"),
        Categorical(name="prompt", choices=("lora", "vector", "none"), default="lora"),
        Categorical(name="bias", choices=("vector", "constant", "none"), default="constant"),
        Float(name="learning_rate", low=5e-5, high=5e-3, log=True, default=5e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if shape.plain_linear or shape.conv1d:
            return super().unsupported(shape, task)
        return f"peft supports GLoRA for nn.Linear only, and {shape.model_type} has its own subclass of it"

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """A and B: r(i+o), o or 1 parameters each; C: r(i+1), i or none; D and E: o, 1 or none each.

        The updated W is a second matrix, with 2io FLOPs per token for each product. A step forms the low-rank
        matrices, 2rio FLOPs each, and W C, 2io; backward twice as many where they are trained, without the gradient
        of W.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank, weight, prompt, bias = _parts(config)
        product = 2.0 * inputs * outputs
        sizes = {"lora": rank * (inputs + outputs), "vector": outputs, "constant": 1, "none": 0}
        parameters, step = 2 * sizes[weight], 6 * rank * product if weight == "lora" else 0.0
        if matrix.bias:
            parameters += 2 * sizes[bias] + {"lora": rank * (inputs + 1), "vector": inputs, "none": 0}[prompt]
            step += product * (1 if prompt == "none" else 2) + (6.0 * rank * inputs) * (prompt == "lora")
        return MatrixCost(parameters, product, product * (1 + differentiated), step)

    def frozen_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> int:
        """Return the number of zeros that peft saves for the parts that do not exist."""
        _, _, prompt, bias = _parts(config)
        no_prompt = prompt == "none" or not matrix.bias
        no_bias = bias == "none" or not matrix.bias
        return no_prompt * matrix.inputs + no_bias * 2 * matrix.outputs

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import GloraConfig

        rank, weight, prompt, bias = _parts(config)
        return GloraConfig(
            **self.common_arguments(config, shape, task),
            r=rank,
            config_A_B=weight,
            config_C=prompt,
            config_D_E=bias,
        )


def _parts(config: Mapping[str, Value]) -> tuple[int, str, str, str]:
    """Return the rank and the kinds of the weight, prompt and bias parts."""
    return (
        int(config.get("rank", _DEFAULT_RANK)),
        str(config.get("weight", "lora")),
        str(config.get("prompt", "lora")),
        str(config.get("bias", "constant")),
    )
