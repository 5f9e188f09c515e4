"""The parts of a composite adapter: their cost and their entries in the tuner's configuration.

A family maps a configuration to parts, each with its own layers. `composite_cost` and `composite_config` compute the
cost and the configuration for any combination of parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families.framework.base import AdapterCost, Family
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules
from search_spaces.families.framework.saved_activations import SavedActivations
from search_spaces.model.gradient_flow import LayerGradients, gradients_in, layer_gradients, layers_apart
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Value

if TYPE_CHECKING:
    from peft import PeftConfig


class PartCost(NamedTuple):
    """The cost of a part in one layer: parameters, and FLOPs as in `matrix_family.MatrixCost`."""

    parameters: int
    forward: float = 0.0
    backward: float = 0.0
    step: float = 0.0
    forward_step: float = 0.0


class LayerState(NamedTuple):
    """The tensors of a layer that need a gradient.

    Args:
        gradients: the tensors of the base model's layer, with all parts of the layer taken into account.
        changed: sites of the matrices whose output a part rescales, shifts or trains, before any bottleneck.
    """

    gradients: LayerGradients
    changed: frozenset[str]

    def output(self, matrix: Matrix) -> bool:
        """Return whether a matrix's output needs a gradient where a bottleneck reads it."""
        return self.gradients.reads(matrix.site) or matrix.site in self.changed


@dataclass(frozen=True)
class PlannedPart(ABC):
    """One part of a composite adapter on some layers.

    Args:
        layers: indices of the layers with the part, ascending.
    """

    layers: tuple[int, ...]

    kind: ClassVar[str]
    """The name of the kind of part in the tuner."""
    mergeable: ClassVar[bool] = False
    by_layer: ClassVar[bool] = False
    """Whether sites and costs differ between the layers of one stack."""

    @abstractmethod
    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        """Return the sites at which gradients first arise in a layer (see `gradient_flow`)."""

    def changed(self, shape: ModelShape, layer: int) -> frozenset[str]:
        """Return the sites that the part changes; see `LayerState.changed`."""
        return frozenset()

    def is_possible(self, shape: ModelShape, layer: int) -> bool:
        """Return whether a layer has what the part changes, in a model whose layers differ."""
        return bool(self.sites(shape, layer))

    def placed(self, shape: ModelShape) -> PlannedPart:
        """Return the part on those of its layers where it is possible; if it is in none, on the highest possible."""
        if shape.is_uniform or not self.layers:
            return self
        layers = tuple(layer for layer in self.layers if self.is_possible(shape, layer))
        highest = [layer for layer in range(shape.depth) if self.is_possible(shape, layer)][-1:]
        return replace(self, layers=layers or tuple(highest))

    @abstractmethod
    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        """Return the cost of the part in one of its layers."""

    @abstractmethod
    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return what the part keeps for its backward pass in one of its layers."""

    def shared_parameters(self, shape: ModelShape) -> int:
        """Return the number of parameters outside the layers or shared by all of them."""
        return 0

    @abstractmethod
    def targets(self, shape: ModelShape) -> str:
        """Return a regular expression that matches the modules with the part."""

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        """Return the other fields of the part's entry in the tuner's configuration."""
        return {}


def used_parts(parts: Sequence[PlannedPart], shape: ModelShape) -> list[PlannedPart]:
    """Return the parts that are in some layer, on the layers that have what they change."""
    return [placed for part in parts if (placed := part.placed(shape)).layers]


def composite_cost(parts: Sequence[PlannedPart], shape: ModelShape) -> AdapterCost:
    """Return the cost of a composite adapter; without any part, only the head is trained.

    The cost of a part depends on the other parts of its layer only where some tensors need no gradient.
    """
    used = used_parts(parts, shape)
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
        parameters=parameters + sum([part.shared_parameters(shape) for part in used]),
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
    """Return the sites of the parts in the `layers_apart`, by layer, and their costs there with multiplicities.

    The cost of equal layers is computed once.
    """
    sites: dict[int, frozenset[str]] = {}
    total: list[tuple[int, PartCost]] = []
    for here, layers in _alike(parts, shape, lowest, layers_apart(shape, lowest)):
        layer = layers[0]
        own = _NOTHING.union(*[part.sites(shape, layer) for part in here])
        changed = _NOTHING.union(*[part.changed(shape, layer) for part in here])
        state = LayerState(gradients_in(shape, layer, lowest, own), changed)
        for alike_layer in layers:
            sites[alike_layer] = own
        total += [(len(layers), _shared_out(part.cost(shape, layer, state), shape, layer)) for part in here]
    return sites, total


def _alike(
    parts: Sequence[PlannedPart], shape: ModelShape, lowest: int, apart: Sequence[int]
) -> list[tuple[list[PlannedPart], list[int]]]:
    """Group the `layers_apart` with the same parts and the same gradients, and return the parts of each group."""
    if len(apart) == 1:
        return [([part for part in parts if part.layers[0] == lowest], [lowest])]
    by_layer = not shape.is_uniform or any(part.by_layer for part in parts)
    alike: dict[object, tuple[list[PlannedPart], list[int]]] = {}
    for layer in apart:
        here = [part for part in parts if layer in part.layers]
        if here:
            key = layer if by_layer else (layer > lowest, *map(id, here))
            alike.setdefault(key, (here, []))[1].append(layer)
    return list(alike.values())


def _in_open_layers(part: PlannedPart, shape: ModelShape, lowest: int) -> list[tuple[int, PartCost]]:
    """Return the costs of a part in the layers that are not `layers_apart`, with multiplicities."""
    layers, encoder = part.layers, shape.encoder_depth
    if lowest >= encoder:
        return []
    above = bisect_left(layers, encoder)
    below = layers[layers[0] == lowest : above]
    above += above < len(layers) and layers[above] == encoder
    found = []
    for state, group in ((_OPEN_ENCODER, below), (_OPEN_DECODER, layers[above:])):
        if part.by_layer or not shape.is_uniform:
            found += [(1, _shared_out(part.cost(shape, layer, state), shape, layer)) for layer in group]
        elif group:
            found.append((len(group), _shared_out(part.cost(shape, group[0], state), shape, group[0])))
    return found


def _shared_out(cost: PartCost, shape: ModelShape, layer: int) -> PartCost:
    """Return the cost of a part of a layer per token of the encoder."""
    share = shape.target_shares.of_stack(shape.stack_of(layer))
    return cost._replace(forward=share * cost.forward, backward=share * cost.backward)


def _position_products(parts: Sequence[PlannedPart], shape: ModelShape) -> float:
    """Return the backward FLOPs per token of the products of tokens and positions that reach the parts."""
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
    """Return the tuner's configuration.

    Raises:
        InvalidInputError: There is no part, and no head to train.
    """
    from search_spaces.tuners import CompositeConfig

    used = used_parts(parts, shape)
    if not used and not shape.head_modules:
        what = "every part is off, and a language model has no head to train"
        raise InvalidInputError(Problem("space", what, "Switch on at least one part."))
    return CompositeConfig(
        task_type=peft_task(task),
        parts=[{"kind": part.kind, "targets": part.targets(shape), **part.settings(shape)} for part in used],
        modules_to_save=trained_modules(shape),
    )


class CompositeFamily(Family):
    """A family of composite adapters; a subclass defines the parts of a configuration."""

    @abstractmethod
    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        """Return the parts of a configuration that are switched on."""

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        return composite_cost(self.parts(config, shape), shape)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        return composite_config(self.parts(config, shape), shape, task)


def no_feed_forward(shape: ModelShape) -> str | None:
    """Return why no part can follow or bridge the feed-forward network of a layer, or None if one can."""
    if shape.has("up") and shape.has("down"):
        return None
    return f"the feed-forward network of {shape.model_type} is not a pair of matrices that all layers have"


_WITH_KEYS = ("auto", "eager", "sdpa")
"""The implementations of attention with which a layer can have additional keys and values (`tuners/attention.py`)."""


def no_attention_interface(shape: ModelShape) -> str | None:
    """Return why a layer cannot have additional keys and values, or None if it can."""
    if shape.attention_interface and shape.attention in _WITH_KEYS:
        return None
    if shape.attention_interface:
        only = "keys and values can be added to eager and sdpa attention only"
        return f"{only}, and model.attn_implementation is {shape.attention}"
    return f"{shape.model_type} has its own attention code, to which no keys and values can be added"
