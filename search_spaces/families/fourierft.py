"""FourierFT: a weight update with few frequencies."""

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

_DEFAULT_FREQUENCIES = 1000
_DEFAULT_SCALE = 300.0


@register
class FourierFt(FittedFamily):
    """Trains n random entries of E in W x + α · Re F⁻¹(E) x (Gao et al., 2024, arXiv 2405.03003).

    The transform divides by the size of the matrix, hence the large `scale` α. A step of Adam changes the weight by
    about α times the learning rate, so the two ranges cover the steps of the paper, which has an α of 150 and
    learning rates up to 0.1. With such a learning rate the head, which is trained with the adapter, would diverge.
    """

    name = "fourierft"
    title = "FourierFT (Gao et al., 2024)"
    linear_only = False
    saved_copies = 2.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="frequencies", low=50, high=10_000, log=True, default=_DEFAULT_FREQUENCIES),
        Float(name="scale", low=30.0, high=3000.0, log=True, default=_DEFAULT_SCALE),
        Float(name="learning_rate", low=1e-3, high=5e-2, log=True, default=1e-2),
    )

    def fit_to_model(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        size = min(matrix.inputs * matrix.outputs for matrix in self.matrices(config, shape))
        return {**config, "frequencies": min(int(config.get("frequencies", _DEFAULT_FREQUENCIES)), size)}

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """n parameters; the update is a second matrix, with 2io FLOPs per token for each product.

        The fast Fourier transform of each step, of order io·log(io), is not a matrix product and not counted.
        """
        product = 2.0 * matrix.inputs * matrix.outputs
        return MatrixCost(int(config["frequencies"]), product, product * (1 + differentiated))

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import FourierFTConfig

        return FourierFTConfig(
            **self.common_arguments(config, shape, task),
            n_frequency=int(self.fit_to_model(config, shape)["frequencies"]),
            scaling=float(config.get("scale", _DEFAULT_SCALE)),
            init_weights=True,  # zeros, so that training starts at the base model
            fan_in_fan_out=shape.conv1d,
        )
