"""BOFT with one butterfly factor: exact block rotations and a scale per output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import BlockFamily
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.families.oft import no_common_block
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_BLOCK = 8


@register
class Boft(BlockFamily):
    """Trains s and R in s ⊙ W R x, with R block-diagonal and orthogonal (Liu et al., 2024, arXiv 2311.06243).

    R is an exact Cayley transform. The paper multiplies m sparse rotations (its butterfly factors); peft silently
    uses m = 1 wherever its CUDA extension is not built. For the same result on every machine, m is 1 here.
    """

    name = "boft"
    title = "BOFT, one factor (Liu et al., 2024)"
    saved_copies = 7.0
    parameters = (
        TARGETS,
        LAYERS,
        Categorical(name="block_size", choices=(2, 4, 8, 16, 32), default=_DEFAULT_BLOCK, ordered=True),
        Float(name="learning_rate", low=5e-5, high=5e-3, log=True, default=5e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return super().unsupported(shape, task) or no_common_block(shape)

    def sizes(self, matrix: Matrix) -> tuple[int, ...]:
        return (matrix.inputs,)

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """b² parameters per block, of which b(b-1)/2 affect the rotation, and o scales.

        peft multiplies by the full i × i rotation: 2i² FLOPs per token. A step multiplies the rotation by two
        permutations and an identity, 6i³ FLOPs forward and 6i³ backward, and the gradient of the Cayley transform is
        one product of two blocks.
        """
        inputs, block = matrix.inputs, int(config["block_size"])
        rotation = 2.0 * inputs**2
        backward = rotation * (1 + differentiated)
        backward += (not differentiated) * 2.0 * inputs * matrix.outputs
        step = 12.0 * inputs**3 + 2.0 * inputs * block**2
        return MatrixCost(inputs * block + matrix.outputs, rotation, backward, step)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import BOFTConfig

        return BOFTConfig(
            **self.common_arguments(config, shape, task),
            boft_block_size=int(self.fit_to_model(config, shape)["block_size"]),
            boft_block_num=0,
            boft_n_butterfly_factor=1,
        )
