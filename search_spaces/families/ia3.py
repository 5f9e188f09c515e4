"""(IA)³: keys, values and feed-forward activations rescaled by learnt vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.base import AdapterCost, Family, register
from search_spaces.families.tools import peft_task, trained_modules
from search_spaces.parameters import Categorical, Float, TopLayers, Value, adapted_layers
from search_spaces.shapes import ModelShape, TaskType
from search_spaces.structures import chosen_targets

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_TARGETS = "k+v+down"


@register
class Ia3(Family):
    """A vector, one at the start, times the output of each target; for `down`, times its input.

    The paper's placement is keys, values and the feed-forward activations (Liu et al., 2022,
    arXiv 2205.05638, section 3.3), here k+v+down. With a fused qkv the queries are rescaled too.
    """

    name = "ia3"
    title = "(IA)³ (Liu et al., 2022)"
    knobs = (
        Categorical(
            name="targets", choices=("k+v", "down", _DEFAULT_TARGETS, "all"), default=_DEFAULT_TARGETS
        ),
        TopLayers(name="layers"),
        Float(name="learning_rate", low=1e-3, high=1e-2, log=True, default=3e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """One parameter an output, or an input of `down`; elementwise work, so no matrix FLOPs of its own."""
        matrices = shape.select(chosen_targets(config, "targets", _DEFAULT_TARGETS))
        layers = adapted_layers(config, "layers", shape.depth)
        sizes = sum(m.inputs if m.role == "down" else m.outputs for m in matrices)
        return AdapterCost(
            parameters=len(layers) * sizes,
            lowest_layer=layers[0],
            lowest_sites=frozenset("down-input" if m.role == "down" else m.role for m in matrices),
            mergeable=True,
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import IA3Config

        matrices = shape.select(chosen_targets(config, "targets", _DEFAULT_TARGETS))
        layers = adapted_layers(config, "layers", shape.depth)
        feed_forward = [matrix for matrix in matrices if matrix.role == "down"]
        return IA3Config(
            task_type=peft_task(task),
            target_modules=shape.modules(layers, matrices),
            # An empty list, not None, for which peft would fill in the architecture's own.
            feedforward_modules=shape.modules(layers, feed_forward) if feed_forward else [],
            fan_in_fan_out=shape.conv1d,
            modules_to_save=trained_modules(shape),
        )
