"""RandLoRA: full-rank updates from trained combinations of frozen random low-rank matrices."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 32


@register
class RandLora(MatrixFamily):
    """Trains diagonal Λ and Γ in W + scale · Σₙ Bₙ Λₙ A Γₙ (Albert et al., 2025, arXiv 2502.00987).

    The sum has n = ⌈min(i, o)/rank⌉ random bases, so a smaller rank means more parameters. A and B are random, frozen
    and the same for all matrices, truncated to their size. They are not saved, because peft would write a copy per
    matrix, as large as the base model. peft draws them again from a fixed key in bf16, so an adapter that was trained
    on hardware with bf16 does not load on hardware without it. The default multiplier of peft is 20 at every rank.
    """

    name = "randlora"
    title = "RandLoRA (Albert et al., 2025)"
    quantized = True
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=4, high=128, log=True, default=_DEFAULT_RANK),
        Float(name="scale", low=2.0, high=40.0, log=True, default=20.0),
        Float(name="learning_rate", low=3e-5, high=3e-3, log=True, default=3e-4),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """n(r + min(i, o)) parameters.

        The concatenated bases are two matrices of inner size k = nr: 2k(i+o) FLOPs per token forward. The factor on
        the shorter side is trained and has a gradient, and the other one only propagates it. A step also sums the
        gradient of the trained factor over the bases and over its shorter side, 4k·min(i, o).
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank = int(config.get("rank", _DEFAULT_RANK))
        bases = -(-min(inputs, outputs) // rank)
        inner = bases * rank
        if inputs <= outputs:  # the trained factor comes first
            backward = 2.0 * inner * (inputs + outputs + differentiated * inputs)
        else:
            backward = 2.0 * inner * (outputs + differentiated * (inputs + outputs))
        return MatrixCost(
            parameters=bases * (rank + min(inputs, outputs)),
            forward=2.0 * inner * (inputs + outputs),
            backward=backward,
            step=4.0 * inner * min(inputs, outputs),
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import RandLoraConfig

        rank = int(config.get("rank", _DEFAULT_RANK))
        with warnings.catch_warnings(action="ignore"):  # a warning about bases that are not saved
            return RandLoraConfig(
                **self.common_arguments(config, shape, task),
                r=rank,
                randlora_alpha=rank * float(config.get("scale", 20.0)),
                save_projection=False,
                fan_in_fan_out=shape.conv1d,
            )
