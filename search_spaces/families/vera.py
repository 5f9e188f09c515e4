"""VeRA: one pair of frozen random matrices for all, and two trained vectors for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.model.shape import Matrix, ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 256


@register
class Vera(MatrixFamily):
    """W x + b ⊙ B (d ⊙ A x), with A and B random, frozen and the same for every matrix (cut to its size).

    The paper's rank is 1024 for RoBERTa-base and 256 for RoBERTa-large; d begins at `d_initial`, 0.1 there, and
    b at zero (Kopiczko et al., 2023, arXiv 2310.11454). A and B are saved with the adapter, as peft does
    unless told otherwise, so that it loads alike everywhere: they are most of the file, and none of the
    trained parameters.
    """

    name = "vera"
    title = "VeRA (Kopiczko et al., 2023)"
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=16, high=1024, log=True, default=_DEFAULT_RANK),
        Float(name="d_initial", low=1e-3, high=1.0, log=True, default=0.1),
        Float(name="learning_rate", low=1e-3, high=3e-2, log=True, default=5e-3),
    )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """r + o parameters; no weight gradients, since both matrices are frozen.

        Per token 2r(i+o) FLOPs forward, 2ro backward to d, and 2ri on to the matrix's input.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank = int(config.get("rank", _DEFAULT_RANK))
        return MatrixCost(
            parameters=rank + outputs,
            forward=2.0 * rank * (inputs + outputs),
            backward=2.0 * rank * (outputs + differentiated * inputs),
        )

    def saved_bytes(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> tuple[int, int]:
        rank = int(config.get("rank", _DEFAULT_RANK))
        shared = rank * (max(m.inputs for m in matrices) + max(m.outputs for m in matrices))
        return 4 * shared, 4 * sum(rank + m.outputs for m in matrices)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import VeraConfig

        return VeraConfig(
            **self.common_arguments(config, shape, task),
            r=int(config.get("rank", _DEFAULT_RANK)),
            d_initial=float(config.get("d_initial", 0.1)),
            fan_in_fan_out=shape.conv1d,
        )
