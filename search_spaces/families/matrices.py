"""Adapters that stand on weight matrices: what LoRA, OFT, LoHa and the rest of that kind have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from search_spaces.families.backward import layer_groups
from search_spaces.families.base import AdapterCost, Family
from search_spaces.families.tools import peft_task, trained_modules
from search_spaces.parameters import Categorical, TopLayers, Value, adapted_layers
from search_spaces.shapes import Matrix, ModelShape, TaskType

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
    all of them take. In an encoder-decoder `layers` counts through both stacks; targets on one side (as in
    "decoder.q+v") count through that side alone.
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

    def site(self, matrix: Matrix) -> str:
        """Where the adapter on a matrix first makes a gradient, as `backward` names it."""
        return matrix.site

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        matrices = self.matrices(config, shape)
        layers = self.chosen_layers(config, shape)
        sites: frozenset[str] = frozenset([self.site(matrix) for matrix in matrices])
        parameters, forward, backward, step = self.shared_parameters(config, matrices), 0.0, 0.0, 0.0
        forward_step = 0.0
        for group in layer_groups(shape, layers[0], sites, layers):
            if not group.adapted:
                continue
            count = group.layers
            for matrix in matrices:
                if matrix.stack != group.stack:
                    continue
                one = self.matrix_cost(config, matrix, group.gradients.reads(matrix.site))
                parameters += count * one.parameters
                forward += count * one.forward
                backward += count * one.backward
                step += count * one.step
                if matrix.positions:
                    # The positions pass through the adapted matrix once a step, as rows without a gradient,
                    # and their products with the tokens must pass one on to the adapter.
                    again = self.matrix_cost(config, matrix, False)
                    forward_step += count * matrix.positions * again.forward
                    step += count * (matrix.positions * (again.forward + again.backward) + again.step)
                    backward += count * 2.0 * matrix.outputs * matrix.positions
        return AdapterCost(
            parameters=parameters,
            lowest_layer=layers[0],
            lowest_sites=sites,
            forward_flops=forward,
            backward_flops=backward,
            step_flops=step,
            mergeable=self.mergeable,
            adapted_layers=layers,
            forward_step_flops=forward_step,
        )

    def chosen_layers(self, config: Mapping[str, Value], shape: ModelShape) -> tuple[int, ...]:
        """The adapted layers, lowest first.

        Raises:
            ValueError: a mask leaves out every layer on the side of the targets.
        """
        layers = adapted_layers(config, "layers", shape.depth)
        if not shape.decoder_depth:
            return layers
        stacks = {matrix.stack for matrix in self.matrices(config, shape)}
        if len(stacks) == 2:
            return layers
        side = range(shape.encoder_depth) if stacks == {0} else range(shape.encoder_depth, shape.depth)
        if "layers" in config:
            return tuple(side[-int(config["layers"]) :])
        kept = tuple(layer for layer in layers if layer in side)
        if not kept:
            raise ValueError(
                f"layers: {list(layers)} has none of the layers {side[0]} to {side[-1]} that "
                f"targets: {config.get('targets')!r} chooses; switch one of them on"
            )
        return kept

    def matrices(self, config: Mapping[str, Value], shape: ModelShape) -> tuple[Matrix, ...]:
        """The matrices of a layer (of each stack) that carry the adapter."""
        return shape.select(str(config.get("targets", self.default_targets)))

    def common_arguments(
        self, config: Mapping[str, Value], shape: ModelShape, task: TaskType
    ) -> dict[str, Any]:
        """task_type, target_modules and modules_to_save, for the constructor of a peft configuration."""
        layers = self.chosen_layers(config, shape)
        return {
            "task_type": peft_task(task),
            "target_modules": shape.modules(layers, self.matrices(config, shape)),
            "modules_to_save": trained_modules(shape),
        }
