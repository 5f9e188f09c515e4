"""VeRA: shared frozen random matrices and two trained vectors per matrix."""

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
class Vera(MatrixFamily):
    """Trains b and d in W x + b ⊙ B (d ⊙ A x) (Kopiczko et al., 2023, arXiv 2310.11454).

    A and B are random, frozen and the same for all matrices, truncated to their size. The paper's rank is 1024 for
    RoBERTa-base and 256 for RoBERTa-large. d starts at `d_initial`, 0.1 in the paper, and b at zero. A and B are
    saved with the adapter, the default of peft, so that it loads identically on every machine; they are most of the
    file and not trained.
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
        """r + o parameters; no gradients of A and B, which are frozen.

        Per token there are 2r(i+o) FLOPs forward, 2ro backward to d, and 2ri to the matrix's input.
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
