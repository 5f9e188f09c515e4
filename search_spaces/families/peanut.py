"""PEANuT: a weight update that a small network computes from the weight."""

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
_DEFAULT_DEPTH = 0
_DEFAULT_SCALE = 2.0


@register
class Peanut(FittedFamily):
    """Trains a perceptron f over the outputs in W x + s · f(W) x (Zhong et al., 2024, arXiv 2410.01870).

    Its layer sizes are o → r → ... → r → o, and it is zero at the start. `depth` is the number of pairs of r × r
    layers, with residual connections; the activation is ReLU.
    """

    name = "peanut"
    title = "PEANuT (Zhong et al., 2024)"
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=64, log=True, default=_DEFAULT_RANK),
        Int(name="depth", low=0, high=4, default=_DEFAULT_DEPTH),
        Float(name="scale", low=0.25, high=32.0, log=True, default=_DEFAULT_SCALE),
        Float(name="learning_rate", low=5e-5, high=2e-3, log=True, default=3e-4),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """2or + 2Dr² parameters at depth D.

        The update is a second matrix, with 2io FLOPs per token for each product. A step runs the network on the i
        columns of W: 4ior + 4Dir² FLOPs forward, and twice as many backward without the gradient of W.
        """
        inputs, outputs, rank = matrix.inputs, matrix.outputs, int(config.get("rank", _DEFAULT_RANK))
        inner = 2 * int(config.get("depth", _DEFAULT_DEPTH)) * rank**2
        product = 2.0 * inputs * outputs
        return MatrixCost(
            2 * outputs * rank + inner,
            forward=product,
            backward=product * (1 + differentiated),
            step=5 * rank * product + 6.0 * inputs * inner,
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import PeanutConfig

        return PeanutConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", _DEFAULT_RANK)),
            depth=int(config.get("depth", _DEFAULT_DEPTH)),
            scaling=float(config.get("scale", _DEFAULT_SCALE)),
            act_fn="relu",
        )
