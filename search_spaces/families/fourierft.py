"""FourierFT: a weight change with few frequencies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import FittedFamily
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.shape import Matrix, ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_FREQUENCIES = 1000
_DEFAULT_SCALE = 300.0


@register
class FourierFt(FittedFamily):
    """W x + α · Re F⁻¹(E) x, E zero but for n trained entries at random places (Gao et al., 2024,
    arXiv 2405.03003).

    The transform divides by the size of the matrix, hence a large `scale` α. A step of Adam moves the weight
    by about α times the learning rate, so the two ranges cover what the paper's α of 150 reaches with learning
    rates up to 0.1, which a head trained beside the adapter would not bear.
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

    def fitted(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        size = min(matrix.inputs * matrix.outputs for matrix in self.matrices(config, shape))
        return {**config, "frequencies": min(int(config.get("frequencies", _DEFAULT_FREQUENCIES)), size)}

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """n parameters; the change is multiplied apart from W, 2io FLOPs a token for each pass.

        The fast Fourier transform of each step, of order io·log(io), is no matrix product and not counted.
        """
        product = 2.0 * matrix.inputs * matrix.outputs
        return MatrixCost(int(config["frequencies"]), product, product * (1 + differentiated))

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import FourierFTConfig

        return FourierFTConfig(
            **self.common_arguments(config, shape, task),
            n_frequency=int(self.fitted(config, shape)["frequencies"]),
            scaling=float(config.get("scale", _DEFAULT_SCALE)),
            init_weights=True,  # zeros: training starts from the base's own function
            fan_in_fan_out=shape.conv1d,
        )
