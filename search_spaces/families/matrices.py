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


@dataclass(frozen=True)
class LayerCost:
    """What the adapters on all matrices of a layer add.

    Args:
        shared: parameters that all layers share, counted once.
        sites: see `AdapterCost.lowest_sites`.
        first: in the lowest adapted layer.
        rest: in each adapted layer above it.
        saved: see `MatrixFamily.saved_bytes`.
    """

    shared: int
    sites: frozenset[str]
    first: MatrixCost
    rest: MatrixCost
    saved: tuple[int, int] | None


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

    def saved_bytes(
        self, config: Mapping[str, Value], matrices: tuple[Matrix, ...]
    ) -> tuple[int, int] | None:
        """Bytes of the saved adapter that stand there once, and those in each adapted layer.

        None where what is saved is what is trained, in fp32.
        """
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        layers = adapted_layers(config, "layers", shape.depth)
        if not has_profile(config, "rank"):
            return self.on_layers([(self.layer_cost(config, shape), len(layers))], layers[0])
        ranks = Counter(rank_at(config, "rank", layer, shape.depth, shape.width) for layer in layers)
        parts = [(self.layer_cost({**config, "rank": rank}, shape), count) for rank, count in ranks.items()]
        return self.on_layers(parts, layers[0])

    def layer_cost(self, config: Mapping[str, Value], shape: ModelShape) -> LayerCost:
        """What the adapters of a layer add, whichever layers these are."""
        matrices = self.matrices(config, shape)
        sites: frozenset[str] = frozenset(matrix.role for matrix in matrices)
        lowest = layer_gradients(sites, parallel=shape.parallel)
        rest = [self.matrix_cost(config, matrix, True) for matrix in matrices]
        first = [
            above if lowest.reads(matrix.role) else self.matrix_cost(config, matrix, False)
            for matrix, above in zip(matrices, rest, strict=True)
        ]
        return LayerCost(
            self.shared_parameters(config, matrices),
            sites,
            _sum(first),
            _sum(rest),
            self.saved_bytes(config, matrices),
        )

    def on_layers(self, parts: Sequence[tuple[LayerCost, int]], lowest: int) -> AdapterCost:
        """The cost on the layers from `lowest` upwards: of each kind of layer so many, the lowest's first."""
        start = parts[0][0]
        above = [(part.rest, count - (part is start)) for part, count in parts]
        first, saved = start.first, start.saved
        return AdapterCost(
            parameters=start.shared + first.parameters + sum(n * rest.parameters for rest, n in above),
            lowest_layer=lowest,
            lowest_sites=start.sites,
            forward_flops=first.forward + sum(n * rest.forward for rest, n in above),
            backward_flops=first.backward + sum(n * rest.backward for rest, n in above),
            step_flops=first.step + sum(n * rest.step for rest, n in above),
            mergeable=self.mergeable,
            saved_bytes=saved and saved[0] + sum(n * part.saved[1] for part, n in parts if part.saved),
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


def _sum(costs: list[MatrixCost]) -> MatrixCost:
    parameters, forward, backward, step = 0, 0.0, 0.0, 0.0
    for cost in costs:
        parameters += cost.parameters
        forward += cost.forward
        backward += cost.backward
        step += cost.step
    return MatrixCost(parameters, forward, backward, step)
