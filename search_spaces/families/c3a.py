"""C³A: a weight update of circulant blocks."""

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

_DEFAULT_BLOCK = 128


@register
class C3a(BlockFamily):
    """Trains C in W x + C x, whose b × b blocks are circulant (Chen et al., 2024, arXiv 2407.19342).

    A block has b parameters and full rank. The block size is the largest divisor of all adapted inputs and outputs at
    or below `block_size`; a larger block means fewer parameters. peft divides C by the number of inputs, so learning
    rates are large.
    """

    name = "c3a"
    title = "C³A (Chen et al., 2024)"
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Categorical(
            name="block_size", choices=(8, 16, 32, 64, 128, 256, 512), default=_DEFAULT_BLOCK, ordered=True
        ),
        Float(name="learning_rate", low=3e-3, high=3e-1, log=True, default=3e-2),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        sizes = {size for matrix in shape.matrices for size in self.sizes(matrix)}
        if largest_divisor(8, sizes) == 1:
            return (
                f"the sizes of {shape.model_type}'s matrices, {sorted(sizes)}, have no common divisor up to 8: "
                "circulant blocks would be single numbers, as many as the base model has"
            )
        return super().unsupported(shape, task)

    def sizes(self, matrix: Matrix) -> tuple[int, ...]:
        return matrix.inputs, matrix.outputs

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """io/b parameters; 2io/b FLOPs per token forward and for each of the two gradients.

        peft computes both gradients even if the input needs none. As in torch, a product of complex numbers counts
        as one, and Fourier transforms are not counted. If one block spans the inputs, the forward pass has no sum,
        and if one block spans the outputs, neither has the gradient of the inputs: they are elementwise and not
        counted.
        """
        inputs, outputs, block = matrix.inputs, matrix.outputs, int(config["block_size"])
        parameters = inputs * outputs // block
        product = 2.0 * parameters
        return MatrixCost(parameters, (inputs > block) * product, (1 + (outputs > block)) * product)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import C3AConfig

        return C3AConfig(
            **self.common_arguments(config, shape, task),
            block_size=int(self.fit_to_model(config, shape)["block_size"]),
            init_weights=True,  # zeros, so that training starts at the base model
        )
