"""The parts of a composite adapter as a family plans them: what each costs, and how the tuner is told of it.

A family turns a configuration into parts, each with its own layers. `composite_cost` and `composite_config`
do the rest, whichever parts there are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families.framework.base import AdapterCost, Family
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules
from search_spaces.families.framework.saved_activations import SavedActivations
from search_spaces.model.gradient_flow import LayerGradients, gradients_in, layer_gradients, layers_apart
from search_spaces.model.shape import Matrix, ModelShape, TaskType
from search_spaces.parameters.types import Value

if TYPE_CHECKING:
    from peft import PeftConfig


class PartCost(NamedTuple):
    """What a part adds in one layer: parameters, and FLOPs as in `matrices.MatrixCost`."""

    parameters: int
    forward: float = 0.0
    backward: float = 0.0
    step: float = 0.0
    forward_step: float = 0.0


class LayerState(NamedTuple):
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

    @abstractmethod
    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return what the part keeps for its backward pass in one of its layers."""

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
    """The cost of all parts together; none at all is the head alone.

    Only where not every tensor needs a gradient does a part's cost hang on the others in its layer.
    """
    used = [part for part in parts if part.layers]
    if not used:
        return AdapterCost(parameters=0, lowest_layer=shape.depth, mergeable=True)
    lowest = min([part.layers[0] for part in used])
    sites, total = _in_layers_apart(used, shape, lowest)
    for part in used:
        total += _in_open_layers(part, shape, lowest)
    parameters, forward, backward, step, forward_step = 0, 0.0, 0.0, 0.0, 0.0
    for count, cost in total:
        parameters += count * cost.parameters
        forward += count * cost.forward
        backward += count * cost.backward
        step += count * cost.step
        forward_step += count * cost.forward_step
    return AdapterCost(
        parameters=parameters + sum([part.beyond(shape) for part in used]),
        lowest_layer=lowest,
        lowest_sites=sites[lowest],
        layer_sites=tuple(sorted(sites.items())) if shape.decoder_depth else (),
        forward_flops=forward,
        backward_flops=backward + (_position_products(used, shape) if shape.positions else 0.0),
        step_flops=step,
        forward_step_flops=forward_step,
        mergeable=all(part.mergeable for part in used),
    )


def _in_layers_apart(
    parts: Sequence[PlannedPart], shape: ModelShape, lowest: int
) -> tuple[dict[int, frozenset[str]], list[tuple[int, PartCost]]]:
    """Where the parts train something in the layers apart, by layer, and what they cost there, how many times
    each. Layers that are alike are counted once."""
    sites: dict[int, frozenset[str]] = {}
    total: list[tuple[int, PartCost]] = []
    for here, layers in _alike(parts, lowest, layers_apart(shape, lowest)):
        layer = layers[0]
        own = _NOTHING.union(*[part.sites(shape, layer) for part in here])
        changed = _NOTHING.union(*[part.changed(shape, layer) for part in here])
        state = LayerState(gradients_in(shape, layer, lowest, own), changed)
        for alike_layer in layers:
            sites[alike_layer] = own
        total += [(len(layers), part.cost(shape, layer, state)) for part in here]
    return sites, total


def _alike(
    parts: Sequence[PlannedPart], lowest: int, apart: Sequence[int]
) -> list[tuple[list[PlannedPart], list[int]]]:
    """The layers apart that have the same parts and the same gradients, with those parts."""
    if len(apart) == 1:
        return [([part for part in parts if part.layers[0] == lowest], [lowest])]
    by_layer = any(part.by_layer for part in parts)
    alike: dict[Any, tuple[list[PlannedPart], list[int]]] = {}
    for layer in apart:
        here = [part for part in parts if layer in part.layers]
        if here:
            key = layer if by_layer else (layer > lowest, *map(id, here))
            alike.setdefault(key, (here, []))[1].append(layer)
    return list(alike.values())


def _in_open_layers(part: PlannedPart, shape: ModelShape, lowest: int) -> list[tuple[int, PartCost]]:
    """What a part costs in the layers that are not `layers_apart`, how many times each."""
    layers, encoder = part.layers, shape.encoder_depth
    if lowest >= encoder:
        return []
    above = bisect_left(layers, encoder)
    below = layers[layers[0] == lowest : above]
    above += above < len(layers) and layers[above] == encoder
    found = []
    for state, group in ((_OPEN_ENCODER, below), (_OPEN_DECODER, layers[above:])):
        if part.by_layer:
            found += [(1, part.cost(shape, layer, state)) for layer in group]
        elif group:
            found.append((len(group), part.cost(shape, group[0], state)))
    return found


def _position_products(parts: Sequence[PlannedPart], shape: ModelShape) -> float:
    """What the products of tokens and relative positions pass on, backward, to the parts that the positions run
    through."""
    total = 0.0
    for matrix in shape.matrices:
        if matrix.positions:
            adapted: set[int] = set()
            for part in parts:
                if part.by_layer:
                    adapted.update([i for i in part.layers if matrix.site in part.changed(shape, i)])
                elif matrix.site in part.changed(shape, part.layers[0]):
                    adapted.update(part.layers)
            total += len(adapted) * 2.0 * matrix.outputs * matrix.positions
    return total


_NOTHING: frozenset[str] = frozenset()
_OPEN_ENCODER = LayerState(layer_gradients(_NOTHING, incoming=True), _NOTHING)
_OPEN_DECODER = LayerState(layer_gradients(_NOTHING, incoming=True, decoder=True, memory=True), _NOTHING)


def composite_config(parts: Sequence[PlannedPart], shape: ModelShape, task: TaskType) -> PeftConfig:
    """The tuner's configuration.

    Raises:
        InvalidInputError: There is no part, and no head that could be trained instead.
    """
    from search_spaces.tuners import CompositeConfig

    used = [part for part in parts if part.layers]
    if not used and not shape.head_modules:
        what = "every part is off, and a language model has no head of its own to train"
        raise InvalidInputError(Problem("space", what, "Switch on at least one part."))
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
