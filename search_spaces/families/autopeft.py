"""AutoPEFT: a serial and a parallel bottleneck and a prefix in the same layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_spaces.families.bottlenecks import ParallelPart, SerialPart
from search_spaces.families.framework.base import register
from search_spaces.families.framework.composite_family import (
    CompositeFamily,
    PlannedPart,
    no_attention_interface,
    no_feed_forward,
)
from search_spaces.families.layer_prefix import PrefixPart
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, LayerMask, Value, adapted_layers

OFF = 10
"""The exponent at which a part is off."""


def size_of(exponent: int, width: int) -> int:
    """Return the size of a part: width / 2^exponent rounded down, at least 1, or 0 if the exponent is `OFF`."""
    return 0 if exponent == OFF else max(width >> exponent, 1)


@register
class AutoPeft(CompositeFamily):
    """Trains bottlenecks and prefixes of the space of Zhou et al. (2024, arXiv 2301.12132, section 3).

    Each of the three parts has an exponent k, with the size width / 2^k, and one switch per layer is shared by all
    three. For a width of 768 the sizes are 768, 384, 192, 96, 48, 24, 12, 6, 3, 1 and off; with 12 layers there are
    11³ · 2¹² configurations. The paper excludes the configuration without any adapter. Here a mask with every layer
    off is invalid; with all three parts off only the head is trained, which fails for a language model.
    """

    name = "autopeft"
    title = "AutoPEFT (Zhou et al., 2024)"
    quantized = True
    formula = "The sum of its parts"
    parameters = (
        Int(name="serial", low=0, high=OFF, default=4),
        Int(name="parallel", low=0, high=OFF, default=4),
        Int(name="prefix", low=0, high=OFF, default=6),
        LayerMask(name="layers"),
        Float(name="learning_rate", low=5e-5, high=2e-3, log=True, default=1e-4),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return no_attention_interface(shape) or no_feed_forward(shape)

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        serial, parallel, prefix = (
            size_of(int(config.get(name, OFF)), shape.width) for name in ("serial", "parallel", "prefix")
        )
        found: list[PlannedPart] = []
        if serial:
            found.append(SerialPart(layers, serial))
        if parallel:
            found.append(ParallelPart(layers, parallel))
        if prefix:
            found.append(PrefixPart(layers, prefix))
        return found
