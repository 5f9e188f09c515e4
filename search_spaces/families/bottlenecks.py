"""Bottleneck adapters: serial, parallel and Compacter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from search_spaces.families.framework.base import register
from search_spaces.families.framework.composite_family import (
    CompositeFamily,
    LayerState,
    PartCost,
    PlannedPart,
    no_feed_forward,
)
from search_spaces.families.framework.saved_activations import MATRIX_INPUTS, SavedActivations, output_of
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Categorical, Float, Int, TopLayers, Value, adapted_layers

SITES = {"pfeiffer": "down", "houlsby": "o+down"}
"""The matrices whose outputs a serial bottleneck follows, by the name of the placement."""

ACTIVATION = "relu"
"""The activation function of all bottlenecks."""
_LEARNING_RATE = Float(name="learning_rate", low=5e-5, high=5e-3, log=True, default=3e-4)
_SIZE = Int(name="size", low=1, high=256, log=True, default=16)
_LAYERS = TopLayers(name="layers")
_SITES = Categorical(name="sites", choices=tuple(SITES))


@dataclass(frozen=True)
class SerialPart(PlannedPart):
    """A bottleneck after each of some matrices.

    Args:
        size: inner dimension b of the bottleneck.
        matrices: targets in the notation of `ModelShape.select`.
    """

    size: int
    matrices: str = SITES["pfeiffer"]
    kind: ClassVar[str] = "serial"

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return frozenset(matrix.site for matrix in shape.in_layer(layer, self.matrices))

    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        """Return the cost of b = `size` on width d: 2db + b + d parameters per site.

        Per token there are 4db FLOPs forward and 6db backward, and 2db more if the matrix's output needs a gradient.
        """
        parameters, forward, backward = 0, 0.0, 0.0
        for matrix in shape.in_layer(layer, self.matrices):
            product = 2.0 * matrix.outputs * self.size
            parameters += self.site_parameters(matrix.outputs)
            forward += 2 * product
            backward += (3 + state.output(matrix)) * product
        return PartCost(parameters, forward, backward)

    def site_parameters(self, width: int) -> int:
        """Return the number of parameters of one bottleneck on outputs of the given width."""
        return 2 * width * self.size + self.size + width

    def targets(self, shape: ModelShape) -> str:
        return shape.modules(self.layers, shape.select(self.matrices))

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        return {"size": self.size, "activation": ACTIVATION}

    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return the outputs of the matrices, and the `size` numbers of each bottleneck."""
        matrices = shape.in_layer(layer, self.matrices)
        return SavedActivations(frozenset(map(output_of, matrices)), self.size * len(matrices))


@dataclass(frozen=True)
class ParallelPart(PlannedPart):
    """A bottleneck from the input of the feed-forward network to its output.

    Args:
        size: inner dimension of the bottleneck.
        scale: factor on its output.
    """

    size: int
    scale: float = 4.0
    kind: ClassVar[str] = "parallel"

    def sites(self, shape: ModelShape, layer: int) -> frozenset[str]:
        return frozenset({"down"})

    def is_possible(self, shape: ModelShape, layer: int) -> bool:
        return {m.role for m in shape.in_layer(layer)} >= {"down"} and bool(shape.in_layer(layer, "up"))

    def cost(self, shape: ModelShape, layer: int, state: LayerState) -> PartCost:
        inputs = shape.in_layer(layer, "up")[0].inputs
        outputs = shape.in_layer(layer, "down")[0].outputs
        down, up = 2.0 * inputs * self.size, 2.0 * outputs * self.size
        backward = down * (1 + state.gradients.feed_forward) + 2 * up
        return PartCost((inputs + outputs + 1) * self.size + outputs, down + up, backward)

    def targets(self, shape: ModelShape) -> str:
        return shape.modules(self.layers, shape.select("down"))

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        reads = shape.modules(self.layers, shape.select("up"))
        return {"size": self.size, "activation": ACTIVATION, "scale": self.scale, "reads": reads}

    def saved(self, shape: ModelShape, layer: int) -> SavedActivations:
        """Return the input of the feed-forward block, and the `size` numbers of the bottleneck."""
        return SavedActivations(frozenset({MATRIX_INPUTS["up"]}), self.size)


@dataclass(frozen=True)
class CompacterPart(SerialPart):
    """A serial bottleneck made of sums of Kronecker products: 3(b + d) parameters per site, n³ for the model.

    Args:
        terms: number n of Kronecker products in each sum.
    """

    terms: int = 4
    kind: ClassVar[str] = "compacter"

    def site_parameters(self, width: int) -> int:
        return 3 * (width + self.size)

    def shared_parameters(self, shape: ModelShape) -> int:
        return self.terms**3

    def settings(self, shape: ModelShape) -> dict[str, Any]:
        return {**super().settings(shape), "terms": self.terms}


@register
class SerialAdapter(CompositeFamily):
    """Trains a bottleneck after the feed-forward network of each layer (Pfeiffer et al., 2021, arXiv 2005.00247).

    With the sites of Houlsby et al. (2019, arXiv 1902.00751) there is another one after attention.
    """

    name = "serial"
    title = "serial adapter (Houlsby et al., 2019; Pfeiffer et al., 2021)"
    quantized = True
    formula = "2db + b + d parameters per site, b the size"
    parameters = (_SITES, _LAYERS, _SIZE, _LEARNING_RATE)

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return no_feed_forward(shape)

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        matrices = SITES[str(config.get("sites", "pfeiffer"))]
        return [SerialPart(layers, int(config.get("size", _SIZE.default)), matrices)]


@register
class ParallelAdapter(CompositeFamily):
    """Trains a scaled bottleneck parallel to the feed-forward network (He et al., 2022, arXiv 2110.04366)."""

    name = "parallel"
    title = "scaled parallel adapter (He et al., 2022)"
    quantized = True
    formula = "2db + b + d parameters per layer, b the size"
    parameters = (
        _LAYERS,
        _SIZE,
        Float(name="scale", low=0.5, high=8.0, log=True, default=4.0),
        _LEARNING_RATE,
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        return no_feed_forward(shape)

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        return [ParallelPart(layers, int(config.get("size", _SIZE.default)), float(config.get("scale", 4.0)))]


@register
class Compacter(CompositeFamily):
    """Trains a serial bottleneck of Kronecker products (Mahabadi et al., 2021, arXiv 2106.04647).

    Every size is a multiple of every number of terms.
    """

    name = "compacter"
    title = "Compacter (Mahabadi et al., 2021)"
    quantized = True
    formula = "3(b + d) parameters per site, b the size, and n³ for n terms"
    parameters = (
        Categorical(name="sites", choices=tuple(SITES), default="houlsby"),
        _LAYERS,
        Categorical(name="size", choices=(8, 16, 32, 64, 128), ordered=True, default=32),
        Categorical(name="terms", choices=(2, 4, 8), ordered=True, default=4),
        Float(name="learning_rate", low=3e-4, high=1e-2, log=True, default=3e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if shape.width % 8 == 0:
            return no_feed_forward(shape)
        return f"the width {shape.width} of {shape.model_type} is not divisible into the 8 blocks of a Kronecker sum"

    def parts(self, config: Mapping[str, Value], shape: ModelShape) -> Sequence[PlannedPart]:
        layers = adapted_layers(config, "layers", shape.depth, shape.decoder_depth)
        matrices = SITES[str(config.get("sites", "houlsby"))]
        size, terms = int(config.get("size", 32)), int(config.get("terms", 4))
        return [CompacterPart(layers, size, matrices, terms)]
