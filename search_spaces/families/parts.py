"""The parts of a composite adapter as a family plans them: what each costs, and how the tuner is told of it.

A family turns a configuration into parts, each with its own layers. `composite_cost` and `composite_config`
do the rest, whichever parts there are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from search_spaces.families.backward import LayerGradients, reached_layers
from search_spaces.families.base import AdapterCost, Family
from search_spaces.families.tools import peft_task, trained_modules
from search_spaces.parameters import Value
from search_spaces.shapes import Matrix, ModelShape, TaskType

if TYPE_CHECKING:
    from peft import PeftConfig


@dataclass(frozen=True)
class PartCost:
    """What a part adds in one layer: parameters, and FLOPs as in `matrices.MatrixCost`."""

    parameters: int
    forward: float = 0.0
    backward: float = 0.0
    step: float = 0.0
    forward_step: float = 0.0


@dataclass(frozen=True)
class LayerState:
    """What needs a gradient in a layer.

    Args:
        gradients: the layer's own tensors, all parts of the layer considered.
        changed: sites of the matrices whose output a part rescales, shifts or trains, before any bottleneck.
    """

    gradients: LayerGradients
    changed: frozenset[str]

    def output(self, matrix: Matrix) -> bool:
        """Whether a matrix's output needs a gradient where a bottleneck reads it."""
        return self.gradients.reads(matrix.site) or matrix.site in self.changed


@dataclass(frozen=True)
class PlannedPart(ABC):
    """One part on some layers. Its name in the tuner is `kind`."""

    layers: tuple[int, ...]

    kind: ClassVar[str]
    mergeable: ClassVar[bool] = False
    by_layer: ClassVar[bool] = False
    """Whether sites and costs differ between the layers of one stack."""

    @abstractmethod
    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        """Where gradients first arise in a layer, as `backward` names it."""

    def changed(self, shape: ModelShape, layer: int) -> frozenset[str]:
        """Sites as in `LayerState.changed`."""
        return frozenset()

    @abstractmethod
    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        """What the part adds in one of its layers."""

    def beyond(self, shape: ModelShape) -> int:
        """Parameters that belong to no layer, or to all."""
        return 0

    @abstractmethod
    def targets(self, shape: ModelShape) -> str:
        """A regular expression of the modules that the part stands on."""

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        """The rest of the part's entry in the tuner's configuration."""
        return {}


def composite_cost(parts: Sequence[PlannedPart], shape: ModelShape) -> AdapterCost:
    """The cost of all parts together; none at all is the head alone. Layers that are alike are counted once."""
    used = [part for part in parts if part.layers]
    if not used:
        return AdapterCost(parameters=0, lowest_layer=shape.depth, mergeable=True)
    on = [0] * shape.depth  # by layer, a bit for each part
    for number, part in enumerate(used):
        for layer in part.layers:
            on[layer] |= 1 << number
    apart = any(part.by_layer for part in used)
    kinds = [(parts_on, layer if apart else shape.stack_of(layer)) for layer, parts_on in enumerate(on)]
    here = {
        kind: [part for number, part in enumerate(used) if kind[0] >> number & 1]
        for kind in dict.fromkeys(kinds)
    }
    of_kind = {
        kind: frozenset().union(*(part.sites(shape, kinds.index(kind)) for part in some))
        for kind, some in here.items()
    }
    sites = {layer: of_kind[kind] for layer, kind in enumerate(kinds) if kind[0]}
    lowest = next(iter(sites))
    alike: dict[tuple[tuple[int, int], int], list[tuple[int, LayerGradients]]] = {}
    for layer, gradients in reached_layers(shape, lowest, sites):
        alike.setdefault((kinds[layer], id(gradients)), []).append((layer, gradients))
    total = [(1, PartCost(sum(part.beyond(shape) for part in used)))]
    for (kind, _), same in alike.items():
        layer, gradients = same[0]
        state = LayerState(gradients, frozenset().union(*(p.changed(shape, layer) for p in here[kind])))
        total += [(len(same), part.cost(shape, layer, state)) for part in here[kind]]
        if shape.positions:
            total.append((len(same), _position_products(shape, layer, state)))
    return AdapterCost(
        parameters=sum(count * cost.parameters for count, cost in total),
        lowest_layer=lowest,
        lowest_sites=sites[lowest],
        layer_sites=tuple(sites.items()) if shape.decoder_depth else (),
        forward_flops=sum(count * cost.forward for count, cost in total),
        backward_flops=sum(count * cost.backward for count, cost in total),
        step_flops=sum(count * cost.step for count, cost in total),
        forward_step_flops=sum(count * cost.forward_step for count, cost in total),
        mergeable=all(part.mergeable for part in used),
    )


def _position_products(shape: ModelShape, layer: int, state: LayerState) -> PartCost:
    """What the products of tokens and relative positions pass on to the parts that the positions run through."""
    adapted = [m for m in shape.in_layer(layer) if m.positions and m.site in state.changed]
    return PartCost(0, backward=sum(2.0 * matrix.outputs * matrix.positions for matrix in adapted))


def composite_config(parts: Sequence[PlannedPart], shape: ModelShape, task: TaskType) -> PeftConfig:
    """The tuner's configuration.

    Raises:
        ValueError: there is no part, and no head that could be trained instead.
    """
    from search_spaces.tuners import CompositeConfig

    used = [part for part in parts if part.layers]
    if not used and not shape.head_modules:
        raise ValueError("every part is off, and a language model has no head of its own to train")
    return CompositeConfig(
        task_type=peft_task(task),
        parts=[{"kind": part.kind, "targets": part.targets(shape), **part.settings(shape)} for part in used],
        modules_to_save=trained_modules(shape),
    )


class CompositeFamily(Family):
    """A family whose adapter is a composite one: a subclass says which parts a configuration has."""

    @abstractmethod
    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        """The parts, those that are off left out."""

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        return composite_cost(self.parts(config, shape), shape)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        return composite_config(self.parts(config, shape), shape, task)


def no_attention_interface(shape: ModelShape) -> str | None:
    """Why keys and values cannot be put in front of a layer's own, or None if they can."""
    if shape.attention_interface:
        return None
    return f"{shape.model_type} computes attention in code of its own, where no keys and values can be added"
