"""C³A: a weight change made of circulant blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import BlockFamily, largest_divisor
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.shape import Matrix, ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_BLOCK = 128


@register
class C3a(BlockFamily):
    """W x + C x, each block of b × b of C circulant: b parameters, and yet of full rank (Chen et al., 2024,
    arXiv 2407.19342).

    `block_size` is the largest divisor of all adapted inputs and outputs at or below the knob's value; a
    larger block means fewer parameters. peft divides C by the number of inputs, so learning rates are large.
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
                "circulant blocks would be single numbers, as many as the base has"
            )
        return super().unsupported(shape, task)

    def sizes(self, matrix: Matrix) -> tuple[int, ...]:
        return matrix.inputs, matrix.outputs

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """io/b parameters; 2io/b FLOPs a token forward and for each gradient, both of which peft computes
        whether the input needs one or not.

        One product of complex numbers counts as one, and the Fourier transforms as nothing, as torch does. Where
        one block spans the inputs there is nothing to sum in the forward pass, and where one spans the outputs
        nothing in the gradient of the inputs: elementwise work, not counted.
        """
        inputs, outputs, block = matrix.inputs, matrix.outputs, int(config["block_size"])
        parameters = inputs * outputs // block
        product = 2.0 * parameters
        return MatrixCost(parameters, (inputs > block) * product, (1 + (outputs > block)) * product)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import C3AConfig

        return C3AConfig(
            **self.common_arguments(config, shape, task),
            block_size=int(self.fitted(config, shape)["block_size"]),
            init_weights=True,  # zeros: training starts from the base's own function
        )
