"""WaveFT: a weight update with few wavelet coefficients."""

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

_DEFAULT_COEFFICIENTS = 2592
_DEFAULT_SCALE = 25.0


@register
class WaveFt(FittedFamily):
    """Trains n random entries of E in W x + λ · w⁻¹(E) x (Bilican et al., 2025, arXiv 2505.12532).

    w⁻¹ is the inverse Haar transform of one level.
    """

    name = "waveft"
    title = "WaveFT (Bilican et al., 2025)"
    linear_only = False
    saved_copies = 4.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="coefficients", low=50, high=20_000, log=True, default=_DEFAULT_COEFFICIENTS),
        Float(name="scale", low=2.5, high=250.0, log=True, default=_DEFAULT_SCALE),
        Float(name="learning_rate", low=1e-5, high=1e-3, log=True, default=1e-4),
    )

    def fit_to_model(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        size = min(matrix.inputs * matrix.outputs for matrix in self.matrices(config, shape))
        return {**config, "coefficients": min(int(config.get("coefficients", _DEFAULT_COEFFICIENTS)), size)}

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """n parameters; the update is a second matrix, with 2io FLOPs per token for each product.

        The transform of a step is a convolution from four bands to one, with 8 FLOPs per number of the matrix, padded
        to even sizes, and as many backward.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        product = 2.0 * inputs * outputs
        padded = (inputs + inputs % 2) * (outputs + outputs % 2)
        return MatrixCost(
            int(config["coefficients"]), product, product * (1 + differentiated), step=16.0 * padded
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import WaveFTConfig

        return WaveFTConfig(
            **self.common_arguments(config, shape, task),
            n_frequency=int(self.fit_to_model(config, shape)["coefficients"]),
            scaling=float(config.get("scale", _DEFAULT_SCALE)),
            wavelet_family="db1",
            fan_in_fan_out=shape.conv1d,
        )
