"""BEFT: trained biases of the selected matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import AdapterCost, register
from search_spaces.families.framework.block_sizes import FittedFamily
from search_spaces.families.framework.matrix_family import LAYERS, MatrixCost
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Beft(FittedFamily):
    """Trains a bias c in W x + c, by default of the values only (Huang et al., 2025, arXiv 2509.15974).

    Bias tuning was introduced by Ben Zaken et al. (2022, arXiv 2106.10199). c is zero at the start. The adapter can
    be merged if every selected matrix has a bias.
    """

    name = "beft"
    title = "BEFT (Huang et al., 2025)"
    default_targets = "v"
    saved_copies = 0.0
    parameters = (
        Categorical(name="targets", choices=("v", "q+v", "attention", "feed-forward", "all"), default="v"),
        LAYERS,
        Float(name="learning_rate", low=5e-4, high=2e-2, log=True, default=3e-3),
    )

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        with_bias = all(matrix.bias for matrix in self.matrices(config, shape))
        return super().cost(config, shape)._replace(mergeable=with_bias)

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """o parameters; elementwise, so no matrix FLOPs."""
        return MatrixCost(matrix.outputs)

    def saved_sides(self, matrix: Matrix) -> frozenset[str]:
        return frozenset()

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import BeftConfig

        return BeftConfig(**self.common_arguments(config, shape, task))
