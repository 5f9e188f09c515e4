"""Adapters that stand on weight matrices: what LoRA, OFT, LoHa and the rest of that kind have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from search_spaces.families.backward import layer_gradients
from search_spaces.families.base import AdapterCost, Family
from search_spaces.families.tools import peft_task, trained_modules
from search_spaces.parameters import Categorical, TopLayers, Value, adapted_layers
from search_spaces.shapes import Matrix, ModelShape, TaskType
from search_spaces.structures import chosen_targets, has_profile, rank_at

TARGETS = Categorical(name="targets", choices=("q+v", "attention", "feed-forward", "all"), default="all")
LAYERS = TopLayers(name="layers")


@dataclass(frozen=True)
class MatrixCost:
    """What an adapter on one matrix of one layer adds.

    Args:
        parameters: trainable.
        forward, backward: FLOPs per token. Backward: the gradients of the adapter's own weights, and those of
            its inputs where the matrix's input needs one; beyond what a frozen matrix costs anyway.
        step: FLOPs of each training step, forward and backward, whatever the size of the batch.
    """

    parameters: int
    forward: float = 0.0
    backward: float = 0.0
    step: float = 0.0


class MatrixFamily(Family):
    """A family with the knobs `targets` and `layers`, the same adapter on each matrix they choose.

    A subclass gives the cost on one matrix and the peft configuration, for which `common_arguments` has what
    all of them take.
    """

    mergeable: ClassVar[bool] = True
    default_targets: ClassVar[str] = "all"

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return None

    @abstractmethod
    def matrix_cost(self, config: Mapping[str, Value], matrix: Matrix, differentiated: bool) -> MatrixCost:
        """The cost on one matrix; `differentiated` says whether the matrix's input needs a gradient anyway."""

    def shared_parameters(self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]) -> int:
        """Trainable parameters that all the matrices share, counted once."""
        return 0

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        matrices = self.matrices(config, shape)
        layers = adapted_layers(config, "layers", shape.depth)
        sites: frozenset[str] = frozenset(matrix.role for matrix in matrices)
        lowest = layer_gradients(sites, parallel=shape.parallel)
        parameters, forward, backward, step = self.shared_parameters(config, matrices), 0.0, 0.0, 0.0
        for matrix in matrices:
            reads = lowest.reads(matrix.role)
            for local, count, is_lowest in _alike(config, layers, shape):
                cost = self.matrix_cost(local, matrix, reads or not is_lowest)
                parameters += count * cost.parameters
                forward += count * cost.forward
                backward += count * cost.backward
                step += count * cost.step
        return AdapterCost(
            parameters=parameters,
            lowest_layer=layers[0],
            lowest_sites=sites,
            forward_flops=forward,
            backward_flops=backward,
            step_flops=step,
            mergeable=self.mergeable,
        )

    def matrices(self, config: Mapping[str, Value], shape: ModelShape) -> tuple[Matrix, ...]:
        """The matrices of a layer that carry the adapter."""
        return shape.select(chosen_targets(config, "targets", self.default_targets))

    def common_arguments(
        self, config: Mapping[str, Value], shape: ModelShape, task: TaskType
    ) -> dict[str, Any]:
        """task_type, target_modules and modules_to_save, for the constructor of a peft configuration."""
        layers = adapted_layers(config, "layers", shape.depth)
        return {
            "task_type": peft_task(task),
            "target_modules": shape.modules(layers, self.matrices(config, shape)),
            "modules_to_save": trained_modules(shape),
        }


def _alike(
    config: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape
) -> Sequence[tuple[Mapping[str, Value], int, bool]]:
    """The adapted layers in groups of one rank: the configuration there, how many, whether it is the lowest."""
    if not has_profile(config, "rank"):
        return [(config, 1, True), (config, len(layers) - 1, False)]
    ranks = [rank_at(config, "rank", layer, shape.depth, shape.width) for layer in layers]
    groups = [(ranks[0], 1, True), *((rank, count, False) for rank, count in Counter(ranks[1:]).items())]
    return [({**config, "rank": rank}, count, is_lowest) for rank, count, is_lowest in groups]
