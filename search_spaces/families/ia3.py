"""(IA)³: trained scales of keys, values and feed-forward activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import register
from search_spaces.families.framework.matrix_family import LAYERS, MatrixCost, MatrixFamily
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_TARGETS = "k+v+down"


@register
class Ia3(MatrixFamily):
    """Trains a vector of scales on the output of each target, or on the input of `down` (Liu et al., 2022).

    The scales are one at the start. The paper (arXiv 2205.05638, section 3.3) rescales keys, values and feed-forward
    activations, which is k+v+down here. With a fused qkv, the queries are rescaled too.
    """

    name = "ia3"
    title = "(IA)³ (Liu et al., 2022)"
    quantized = True
    saved_copies = 0.0
    parameters = (
        Categorical(
            name="targets", choices=("k+v", "down", _DEFAULT_TARGETS, "all"), default=_DEFAULT_TARGETS
        ),
        LAYERS,
        Float(name="learning_rate", low=1e-3, high=1e-2, log=True, default=3e-3),
    )

    default_targets = _DEFAULT_TARGETS

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """One parameter per output, or per input of `down`; elementwise, so no matrix FLOPs."""
        return MatrixCost(matrix.inputs if matrix.role == "down" else matrix.outputs)

    def site(self, matrix: Matrix) -> str:
        return "down-input" if matrix.role == "down" else matrix.site

    def saved_sides(self, matrix: Matrix) -> frozenset[str]:
        return frozenset({"input" if matrix.role == "down" else "output"})

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import IA3Config

        layers = self.chosen_layers(config, shape)
        feed_forward = [
            matrix
            for matrix in self.matrices(config, shape)
            if matrix.role == "down" and not set(layers).isdisjoint(shape.layers_of(matrix))
        ]
        return IA3Config(
            **self.common_arguments(config, shape, task),
            # An empty list, because peft replaces None by the defaults of the architecture.
            feedforward_modules=shape.modules(layers, feed_forward) if feed_forward else [],
            fan_in_fan_out=shape.conv1d,
        )
