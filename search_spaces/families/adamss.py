"""AdaMSS: clusters of the weight's rows, each with an update of rank 1 in the weight's principal subspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.block_sizes import FittedFamily, smallest_side
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK, _DEFAULT_CLUSTERS = 100, 5


@register
class AdaMss(FittedFamily):
    """Trains bₖ and aₖ in W x + Σₖ bₖ aₖ V x, the sum over clusters of W's rows (AdaMSS, NeurIPS 2025).

    V has the first r right singular vectors of W, the bias as one more column, and is frozen; the rows of W are
    clustered by their left singular vectors. Each cluster has an update of rank 1, the default of peft: with higher
    ranks, the number of parameters would depend on the sizes of the clusters. The number of clusters stays as it is
    during training. V is saved with the adapter; the clusters follow from W. The rank is at most the smaller side of
    each adapted matrix.
    """

    name = "adamss"
    title = "AdaMSS (2025)"
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=8, high=512, log=True, default=_DEFAULT_RANK),
        Int(name="clusters", low=2, high=10, default=_DEFAULT_CLUSTERS),
        Float(name="learning_rate", low=1e-3, high=3e-2, log=True, default=5e-3),
    )
    saved_copies = 0.0

    def fit_to_model(self, config: Mapping[str, Value], shape: ModelShape) -> dict[str, Value]:
        rank = min(int(config.get("rank", _DEFAULT_RANK)), smallest_side(self.matrices(config, shape)))
        return {**config, "rank": rank}

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """c · r + o parameters for c clusters.

        Per token there are 2r(i + c) + 2o FLOPs forward, with i + 1 for a matrix with a bias. Backward: the gradients
        of all a and b and of the products before b, and those of V x and of the input if that needs one.
        """
        inputs, outputs = matrix.inputs + matrix.bias, matrix.outputs
        rank, clusters = int(config["rank"]), _clusters(config, matrix)
        forward = 2.0 * rank * (inputs + clusters) + 2.0 * outputs
        backward = 2.0 * rank * clusters + 4.0 * outputs
        return MatrixCost(
            parameters=clusters * rank + outputs,
            forward=forward,
            backward=backward + differentiated * 2.0 * rank * (inputs + clusters),
        )

    def saved_sides(self, matrix: Matrix) -> frozenset[str]:
        """Return nothing: the first product of the adapter is with a frozen matrix."""
        return frozenset()

    def saved_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> tuple[float, float]:
        """Return V x and aₖ V x."""
        return float(config["rank"]) + _clusters(config, matrix), 0.0

    def frozen_numbers(self, config: Mapping[str, Value], matrix: Matrix) -> int:
        return int(config["rank"]) * (matrix.inputs + matrix.bias)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import AdamssConfig

        return AdamssConfig(
            **self.common_arguments(config, shape, task),
            r=int(self.fit_to_model(config, shape)["rank"]),
            num_subspaces=int(config.get("clusters", _DEFAULT_CLUSTERS)),
            subspace_rank=1,
        )


def _clusters(config: Mapping[str, Value], matrix: Matrix) -> int:
    return min(int(config.get("clusters", _DEFAULT_CLUSTERS)), matrix.outputs)
