"""The composite family: any subset of five parts, each with its own layers and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces.families.bottlenecks import SITES, ParallelPart, SerialPart
from search_spaces.families.framework.base import register
from search_spaces.families.framework.composite_family import (
    CompositeFamily,
    PlannedPart,
    no_attention_interface,
    no_feed_forward,
)
from search_spaces.families.framework.matrix_family import TARGETS
from search_spaces.families.framework.matrix_parts import LowRankPart, RescalePart
from search_spaces.families.layer_prefix import PrefixPart
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.structured import selected_targets
from search_spaces.parameters.types import (
    Categorical,
    Float,
    Int,
    Parameter,
    TopLayers,
    Value,
    adapted_layers,
)

PARTS = ("lora", "serial", "parallel", "prefix", "ia3")
"""The names of the parts."""
_ON_BY_DEFAULT = ("lora", "serial", "prefix")
"""The parts of UniPELT (Mao et al., 2022, arXiv 2110.07577)."""

_NAMES = tuple((part, f"parts.{part}", f"{part}.layers", part in _ON_BY_DEFAULT) for part in PARTS)
"""For each part: its name, its switch, its layers, and whether it is on by default."""


def _parameters() -> tuple[Parameter, ...]:
    """Return the switches, and for each part its parameters, which are active if it is on."""
    own: dict[str, tuple[Parameter, ...]] = {
        "lora": (TARGETS, Int(name="rank", low=1, high=64, log=True, default=8)),
        "serial": (
            Categorical(name="sites", choices=tuple(SITES)),
            Int(name="size", low=1, high=256, log=True, default=16),
        ),
        "parallel": (Int(name="size", low=1, high=256, log=True, default=16),),
        "prefix": (Int(name="tokens", low=1, high=64, log=True, default=8),),
        "ia3": (),
    }
    switches = [
        Categorical(name=f"parts.{part}", choices=(False, True), default=part in _ON_BY_DEFAULT)
        for part in PARTS
    ]
    parameters = [
        replace(parameter, name=f"{part}.{parameter.name}", when={f"parts.{part}": (True,)})
        for part in PARTS
        for parameter in (*own[part], TopLayers(name="layers"))
    ]
    rate = Float(name="learning_rate", low=5e-5, high=5e-3, log=True, default=3e-4)
    return (*switches, *parameters, rate)


@register
class Composite(CompositeFamily):
    """Trains any subset of LoRA, a serial and a parallel bottleneck, a prefix and (IA)³ (after Mao et al., 2022).

    The parts share one learning rate. The multiplier of LoRA is 2 at every rank, and (IA)³ has the placement of its
    paper: keys, values and the input of `down`.
    """

    name = "composite"
    title = "free composition of adapters"
    quantized = True
    formula = "The sum of its parts"
    parameters = _parameters()
    switches = ("parts",)

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return no_attention_interface(shape) or no_feed_forward(shape)

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = {
            part: adapted_layers(config, where, shape.depth, shape.decoder_depth)
            for part, switch, where, is_default in _NAMES
            if config.get(switch, is_default)
        }
        found: list[PlannedPart] = []
        if "lora" in layers:
            targets = selected_targets(config, "lora.targets", str(TARGETS.default))
            found.append(LowRankPart(layers["lora"], int(config.get("lora.rank", 8)), targets, 2.0))
        if "serial" in layers:
            matrices = SITES[str(config.get("serial.sites", "pfeiffer"))]
            found.append(SerialPart(layers["serial"], int(config.get("serial.size", 16)), matrices))
        if "parallel" in layers:
            found.append(ParallelPart(layers["parallel"], int(config.get("parallel.size", 16))))
        if "prefix" in layers:
            found.append(PrefixPart(layers["prefix"], int(config.get("prefix.tokens", 8))))
        if "ia3" in layers:
            found.append(RescalePart(layers["ia3"], "k+v", "output"))
            found.append(RescalePart(layers["ia3"], "down", "input"))
        return found
