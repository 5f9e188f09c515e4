"""PVeRA: VeRA with trained means and variances of its low-rank activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 256


@register
class Pvera(MatrixFamily):
    """Trains b and d in W x + b ⊙ B z, where z is normal with mean and log-variance d ⊙ A x (arXiv 2512.07703).

    Training draws z, which regularizes; evaluation and the merged model have its mean. A and B are random, frozen and
    the same for all matrices, as in VeRA, and A has twice as many rows: half for the means, half for the variances.
    A and B are saved with the adapter, the default of peft. A batch is never divided, so that its noise, which is
    drawn for the whole batch, does not depend on the other configurations of a pack.
    """

    name = "pvera"
    title = "PVeRA (2025)"
    mixes_rows = True
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=16, high=1024, log=True, default=_DEFAULT_RANK),
        Float(name="d_initial", low=1e-3, high=1.0, log=True, default=0.1),
        Float(name="learning_rate", low=1e-3, high=3e-2, log=True, default=5e-3),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """2r + o parameters; no gradients of A and B, which are frozen.

        Per token there are 4ri + 2ro FLOPs forward, 2ro backward to d, and 4ri to the matrix's input.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank = int(config.get("rank", _DEFAULT_RANK))
        return MatrixCost(
            parameters=2 * rank + outputs,
            forward=2.0 * rank * (2 * inputs + outputs),
            backward=2.0 * rank * (outputs + 2 * differentiated * inputs),
        )

    def saved_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> tuple[float, float]:
        """Return A x, and the noise and the standard deviation of z."""
        return 4.0 * int(config.get("rank", _DEFAULT_RANK)), 0.0

    def saved_bytes(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> tuple[int, int]:
        rank = int(config.get("rank", _DEFAULT_RANK))
        shared = rank * (2 * max(m.inputs for m in matrices) + max(m.outputs for m in matrices))
        return 4 * shared, 4 * sum(2 * rank + m.outputs for m in matrices)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import PveraConfig

        return PveraConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", _DEFAULT_RANK)),
            d_initial=float(config.get("d_initial", 0.1)),
            fan_in_fan_out=shape.conv1d,
        )
