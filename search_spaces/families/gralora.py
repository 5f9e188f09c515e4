"""GraLoRA: a matrix divided into blocks, each with its own LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK, _DEFAULT_BLOCKS = 32, 2
_BLOCKS = (2, 4)


@register
class GraLora(MatrixFamily):
    """Trains a LoRA of rank `rank`/k on each of k² blocks of a matrix (Jung et al., 2025, arXiv 2505.20355).

    k is `blocks`. Parameters and FLOPs are those of a LoRA of rank `rank`, and the rank of the update is up to k
    times higher. The paper uses k = 2 up to rank 32 and k = 4 from rank 64, and a multiplier of 2 at every rank,
    which is `scale` here. A rank that is not divisible by k is rounded up.
    """

    name = "gralora"
    title = "GraLoRA (Jung et al., 2025)"
    parameters = (
        TARGETS,
        LAYERS,
        Categorical(name="rank", choices=(4, 8, 16, 32, 64, 128), default=_DEFAULT_RANK, ordered=True),
        Categorical(name="blocks", choices=_BLOCKS, default=_DEFAULT_BLOCKS, ordered=True),
        Float(name="scale", low=0.25, high=8.0, log=True, default=2.0),
        Float(name="learning_rate", low=5e-5, high=2e-3, log=True, default=3e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        most = max(_BLOCKS)
        for matrix in shape.matrices:
            if matrix.inputs % most or matrix.outputs % most:
                return (
                    f"GraLoRA divides matrices into up to {most} by {most} blocks; {matrix.name} of "
                    f"{shape.model_type} is {matrix.outputs} by {matrix.inputs}, which is not divisible by {most}"
                )
        return None

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r(i+o) parameters; 2r(i+o) FLOPs per token forward and twice as many backward, as for LoRA."""
        inputs, outputs, rank = matrix.inputs, matrix.outputs, _rank(config)
        return MatrixCost(
            parameters=rank * (inputs + outputs),
            forward=2.0 * rank * (inputs + outputs),
            backward=2.0 * rank * (inputs + 2 * outputs + differentiated * inputs),
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import GraloraConfig

        rank = _rank(config)
        return GraloraConfig(
            **self.common_arguments(config, shape, task),
            r=rank,
            alpha=rank * float(config.get("scale", 2.0)),
            gralora_k=int(config.get("blocks", _DEFAULT_BLOCKS)),
            fan_in_fan_out=shape.conv1d,
        )


def _rank(config: Mapping[str, Value]) -> int:
    blocks = int(config.get("blocks", _DEFAULT_BLOCKS))
    return -(-int(config.get("rank", _DEFAULT_RANK)) // blocks) * blocks
