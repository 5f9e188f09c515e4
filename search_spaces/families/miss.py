"""MiSS: one small matrix that is repeated along the inputs."""

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

_DEFAULT_RANK = 16


@register
class Miss(FittedFamily):
    """Trains D in W x + D s(x), s the sum of the input's segments of length r (Kang and Yin, 2024, arXiv 2409.15371).

    D has shape [outputs, r] and is zero at the start. The rank r is at most the smallest number of adapted inputs.
    """

    name = "miss"
    title = "MiSS (Kang and Yin, 2024)"
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=1, high=128, log=True, default=_DEFAULT_RANK),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Float(name="learning_rate", low=5e-5, high=2e-3, log=True, default=3e-4),
    )

    def fit_to_model(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        inputs = min(matrix.inputs for matrix in self.matrices(config, shape))
        return {**config, "rank": min(int(config.get("rank", _DEFAULT_RANK)), inputs)}

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r·o parameters; 2ro FLOPs per token forward, and as many for each of the two gradients."""
        product = 2.0 * int(config["rank"]) * matrix.outputs
        return MatrixCost(int(config["rank"]) * matrix.outputs, product, product * (1 + differentiated))

    def saved_sides(self, matrix: Matrix) -> frozenset[str]:
        return frozenset()

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import MissConfig

        return MissConfig(
            **self.common_arguments(config, shape, task),
            r=int(self.fit_to_model(config, shape)["rank"]),
            miss_dropout=float(config.get("dropout", 0.0)),
        )
