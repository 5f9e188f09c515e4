"""RoAd: pairwise rotation and scaling of the outputs of a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost, MatrixFamily
from search_spaces.families.framework.peft_helpers import unadaptable
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_LARGEST_GROUP = 64


@register
class Road(MatrixFamily):
    """Trains a rotation and a scale for each pair of outputs in R (W x + b) (Liao and Monz, 2024, arXiv 2409.00119).

    `variant` 1 has one angle and one scale per pair, 2 has one of each per output, and 4 two of each per output
    (road_1, road_2 and road_4 in peft). A group size, which influences neither cost nor quality, determines the
    pairs: it is the largest divisor of 64 that divides the outputs of every selected matrix.
    """

    name = "road"
    title = "RoAd (Liao and Monz, 2024)"
    quantized = True
    saved_copies = 0.0
    parameters = (
        TARGETS,
        LAYERS,
        Categorical(name="variant", choices=(1, 2, 4), ordered=True),
        Float(name="learning_rate", low=5e-4, high=2e-2, log=True, default=3e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        odd = next((matrix for matrix in shape.matrices if matrix.outputs % 2), None)
        if odd is not None:
            return f"RoAd rotates outputs in pairs; {odd.name} of {shape.model_type} has {odd.outputs}, an odd number"
        return unadaptable(shape, "RoAd")

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """o parameters times the variant; elementwise, so no matrix FLOPs."""
        return MatrixCost(parameters=int(config.get("variant", 1)) * matrix.outputs)

    def saved_sides(self, matrix: Matrix) -> frozenset[str]:
        return frozenset({"input", "output"})

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import RoadConfig

        return RoadConfig(
            **self.common_arguments(config, shape, task),
            variant=f"road_{config.get('variant', 1)}",
            group_size=gcd(_LARGEST_GROUP, *(matrix.outputs for matrix in self.matrices(config, shape))),
        )
