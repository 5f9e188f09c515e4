"""OFT: blockwise rotations of the inputs of a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import BlockFamily, largest_divisor
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_BLOCK = 32
_NEUMANN_TERMS = 5
_BLOCK_PRODUCTS = 3
"""Products of two blocks in a Neumann series of five terms: Q², Q³ and Q⁴."""


@register
class Oft(BlockFamily):
    """Trains a block-diagonal orthogonal R in W R x (Qiu et al., 2023, arXiv 2306.07280).

    R is the identity at the start. Each b × b block is (I + Q)(I - Q)⁻¹ of a skew-symmetric Q, with a Neumann
    series for the inverse (Qiu et al., 2025, arXiv 2506.19847). The block size is the largest divisor of all
    adapted inputs at or below `block_size`; with `share`, the blocks of a matrix are the same.
    """

    name = "oft"
    title = "OFT (Qiu et al., 2023)"
    saved_copies = 2.0
    parameters = (
        TARGETS,
        LAYERS,
        Categorical(
            name="block_size", choices=(2, 4, 8, 16, 32, 64, 128), default=_DEFAULT_BLOCK, ordered=True
        ),
        Categorical(name="share", choices=(False, True)),
        Float(name="learning_rate", low=5e-5, high=5e-3, log=True, default=5e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if any(matrix.role == "kv" for matrix in shape.matrices):
            return f"peft cannot divide the compressed keys and values of {shape.model_type} into blocks"
        return super().unsupported(shape, task) or no_common_block(shape)

    def sizes(self, matrix: Matrix) -> tuple[int, ...]:
        return (matrix.inputs,)

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """b(b-1)/2 parameters per block, i/b blocks or one.

        A rotation costs 2ib FLOPs per token, and twice as many backward if the input needs a gradient. The frozen
        matrix reads the rotated input, which always needs a gradient. A step forms the blocks: three products
        forward, and two gradients of each backward.
        """
        inputs, block = matrix.inputs, int(config["block_size"])
        blocks = 1 if config.get("share", False) else inputs // block
        rotation = 2.0 * inputs * block
        backward = rotation * (1 + differentiated)
        backward += (not differentiated) * 2.0 * inputs * matrix.outputs
        step = 3 * _BLOCK_PRODUCTS * 2.0 * blocks * block**3
        return MatrixCost(blocks * (block * (block - 1) // 2), rotation, backward, step)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import OFTConfig

        return OFTConfig(
            **self.common_arguments(config, shape, task),
            r=0,
            oft_block_size=int(self.fit_to_model(config, shape)["block_size"]),
            block_share=bool(config.get("share", False)),
            use_cayley_neumann=True,
            num_cayley_neumann_terms=_NEUMANN_TERMS,
        )


def no_common_block(shape: ModelShape) -> str | None:
    """Return why the matrices' inputs cannot be divided into equal blocks of two or more, or None if they can."""
    sizes = {matrix.inputs for matrix in shape.matrices}
    if largest_divisor(2, sizes) == 2:
        return None
    return (
        f"the inputs of {shape.model_type}'s matrices, {sorted(sizes)}, are not all even, so no block size divides "
        "them"
    )
