"""Lily: low-rank adapters whose factors are shared across layers and mixed by a router."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING, Any

from search_spaces.families.framework.base import BYTES_PER_NUMBER, AdapterCost, register
from search_spaces.families.framework.block_sizes import FittedFamily
from search_spaces.families.framework.matrix_family import LAYERS, TARGETS, MatrixCost
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_RANK = 16
_DEFAULT_EXPERTS = 2
_DEFAULT_STRIDE = 2


@register
class Lily(FittedFamily):
    """Trains A, Bₑ and a router in W x + s · (Σₑ pₑ Bₑ) A x (Zhong et al., 2024, arXiv 2407.09946).

    p is the mean over all tokens of the router's output for A x. For each role, `stride` consecutive adapted layers
    share one A, and all layers share the `experts` matrices Bₑ, which are zero at the start; each layer has its own
    router. peft averages the router over the whole batch, padding included, so a prediction depends slightly on the
    other samples of the batch, and the adapter cannot be merged.
    """

    name = "lily"
    title = "Lily (Zhong et al., 2024)"
    mixes_rows = True  # the weights of the experts are means over the tokens of the batch
    mergeable = False
    parameters = (
        TARGETS,
        LAYERS,
        Int(name="rank", low=2, high=128, log=True, default=_DEFAULT_RANK),
        Int(name="experts", low=2, high=8, default=_DEFAULT_EXPERTS),
        Int(name="stride", low=1, high=4, default=_DEFAULT_STRIDE),
        Float(name="scale", low=0.25, high=8.0, log=True, default=2.0),
        Float(name="learning_rate", low=1e-4, high=5e-3, log=True, default=5e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        for one, other in permutations(shape.matrices, 2):
            alike = (one.inputs, one.outputs) == (other.inputs, other.outputs)
            if alike and one.name.endswith(f".{other.name}"):
                return (
                    f"peft distinguishes the matrices {one.name!r} and {other.name!r} of {shape.model_type} by "
                    "the end of their names and by their size, which are the same"
                )
        return super().unsupported(shape, task)

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """Return the cost with shared parameters trained once, although peft saves them once per layer."""
        cost = super().cost(config, shape)
        rank, experts = _sizes(config)
        stride = int(config.get("stride", _DEFAULT_STRIDE))
        layers = set(self.chosen_layers(config, shape))
        chosen = [(m, len(layers.intersection(shape.layers_of(m)))) for m in self.matrices(config, shape)]
        saved_twice = 0
        for sizes in {_name_and_sizes(matrix) for matrix, count in chosen if count}:
            of_name = [(matrix, count) for matrix, count in chosen if _name_and_sizes(matrix) == sizes]
            matrix, count = of_name[0][0], sum(count for _, count in of_name)
            leaders = math.ceil(count / stride)
            saved_twice += (count - leaders) * rank * matrix.inputs
            saved_twice += (count - 1) * experts * rank * matrix.outputs
        return cost._replace(
            parameters=cost.parameters - saved_twice,
            saved_bytes=BYTES_PER_NUMBER * cost.parameters,
        )

    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """Without sharing: r·i parameters for A, e·r·o for the experts, r·e for the router.

        Per token the FLOPs of LoRA and 2re for each product of the router; a step mixes the experts, 2ero FLOPs
        forward and twice as many backward.
        """
        inputs, outputs = matrix.inputs, matrix.outputs
        rank, experts = _sizes(config)
        return MatrixCost(
            rank * (inputs + experts * outputs + experts),
            forward=2.0 * rank * (inputs + experts + outputs),
            backward=2.0 * rank * (inputs * (1 + differentiated) + 2 * experts + 2 * outputs),
            step=6.0 * experts * rank * outputs,
            forward_step=2.0 * experts * rank * outputs,
        )

    def common_arguments(
        self, config: Mapping[str, Value], shape: ModelShape, task: TaskType
    ) -> dict[str, Any]:
        """Return module names in place of one expression, and exclude other modules that the names match.

        peft shares factors among the modules whose path ends with the same name.
        """
        arguments = super().common_arguments(config, shape, task)
        expression = shape.modules(self.chosen_layers(config, shape), self.matrices(config, shape))
        names = [matrix.name for matrix in self.matrices(config, shape)]
        return {**arguments, "target_modules": names, "exclude_modules": rf"(?!(?:{expression})$).*"}

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LilyConfig

        rank, experts = _sizes(config)
        return LilyConfig(
            **self.common_arguments(config, shape, task),
            r=rank,
            num_B=experts,
            stride_A=int(config.get("stride", _DEFAULT_STRIDE)),
            scaling=float(config.get("scale", 2.0)),
        )


def _name_and_sizes(matrix: Matrix) -> tuple[str, int, int]:
    return matrix.name, matrix.inputs, matrix.outputs


def _sizes(config: Mapping[str, Value]) -> tuple[int, int]:
    """Return the rank and the number of experts."""
    return int(config.get("rank", _DEFAULT_RANK)), int(config.get("experts", _DEFAULT_EXPERTS))
