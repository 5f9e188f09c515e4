"""The memory of a packed step, in closed form, before it is run.

    peak = what each configuration has for itself            parameters, gradients, the optimizer's moments
         + what the chunk's forward pass keeps               activations that the backward pass reads
         + what is at work at the worst moment beside it     the gradients of one layer, or of the logits

The base is there anyway, and is counted apart (`base_bytes`). Activations follow from what autograd saves: a product
with a frozen matrix saves nothing, attention its queries, keys, values and outcome, a normalization its input, an
activation function its input or more, and an adapter what it multiplies with a trained factor. All configurations
of a chunk share the tensors of the base, whoever's rows they hold, so what one adapter saves of them is saved for
all. What autograd truncates below the lowest adapter is not kept (`search_spaces.model.gradient_flow`).

`trials.packing.memory.SavedTensors` counts the same in a real pass; the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from search_spaces.families import REGISTRY, AdapterCost, local_config
from search_spaces.families.framework.composite_family import CompositeFamily
from search_spaces.families.framework.matrix_family import MatrixFamily
from search_spaces.model.gradient_flow import LayerGradients, gradients_in
from search_spaces.model.shape import Matrix, ModelShape
from search_spaces.parameters.training import optimizer_of
from search_spaces.parameters.types import Value
from trials.base.model import Base
from trials.packing.layer_gates import reads_first_token

Config = Mapping[str, Value]

_FP32 = 4
MOMENTS = {"adamw": 2, "lion": 1, "adafactor": 0}
"""Numbers that an optimizer keeps for a parameter; Adafactor's rows and columns are next to nothing."""
_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Bytes of a number of the frozen matrices; nf4 has a scale in fp32 for 64 numbers."""
_SAVED = {"gelu_new": 4, "gelu_fast": 5, "gelu_pytorch_tanh": 1, "quick_gelu": 2, "relu": 0}
"""Tensors that an activation function saves beside its outcome, where it is not one: torch's own save their input,
transformers' written out in several steps save these steps. ReLU saves its outcome."""
_READS = {"q": "in:attention", "k": "in:attention", "v": "in:attention", "qkv": "in:attention", "o": "mixed"}
_READS |= {"gate": "in:feed-forward", "up": "in:feed-forward", "gate_up": "in:feed-forward", "down": "hidden"}


@dataclass(frozen=True)
class Computation:
    """What the shape of a base does not say about how it computes.

    Args:
        activation: transformers' name of the activation function.
        attention: transformers' name of how attention is computed.
        number: bytes of what the matrices multiply: 2 under bf16, else 4.
        casts: the matrices are cast for that, and the copies kept until the backward pass.
        first_token: the last layer is run for the first token alone, but for keys and values.
    """

    activation: str = "gelu"
    attention: str = "sdpa"
    number: int = _FP32
    casts: bool = False
    first_token: bool = False

    @classmethod
    def of(cls, base: Base) -> Computation:
        """As a base computes."""
        config: Any = base.model.config
        names = ("hidden_act", "activation_function", "hidden_activation", "activation")
        activation = next(
            (value for name in names if isinstance(value := getattr(config, name, None), str)), "gelu"
        )
        half = base.autocast in (torch.bfloat16, torch.float16)
        attention = getattr(config, "_attn_implementation", None) or "eager"
        kept = next(base.model.get_submodule(base.shape.layers_path).parameters()).dtype
        return cls(
            activation=activation,
            attention=str(attention),
            number=2 if half else _FP32,
            casts=half and kept == torch.float32,
            first_token=attention == "sdpa" and reads_first_token(base.model),
        )


@dataclass(frozen=True)
class Adapted:
    """What one configuration does to one layer.

    Args:
        saves: names of the base's tensors that its adapters save, as in `MemoryModel._layer`.
        own: numbers a token of its own rows that it saves beside.
        weights: numbers that it saves whatever the rows, such as the matrix that it adds.
    """

    saves: frozenset[str] = frozenset()
    own: float = 0.0
    weights: float = 0.0


class MemoryModel:
    """The memory of steps on one base; all results are bytes.

    Args:
        shape: of the base.
        computation: how it computes; by default in fp32 with torch's attention.
    """

    def __init__(self, shape: ModelShape, computation: Computation | None = None) -> None:
        self.shape = shape
        self.computation = computation or Computation()

    def base_bytes(self, weights: str = "fp32") -> float:
        """The frozen base and its head; `weights` as in `ModelSpec`."""
        shape = self.shape
        matrices = sum(
            matrix.inputs * matrix.outputs * len(self._layers_of(matrix.stack)) for matrix in shape.matrices
        )
        rest = _BYTES["bf16"] if weights == "bf16" else _FP32
        head = _FP32 * shape.head_parameters
        return _BYTES[weights] * matrices + rest * (shape.base_parameters - matrices) + head

    def own(self, config: Config) -> float:
        """Parameters, gradients and moments of a configuration's adapter and head."""
        trained = self._cost(config).parameters + self.shape.head_parameters
        return _FP32 * trained * (2 + MOMENTS.get(optimizer_of(config), 2))

    def step(self, configs: Sequence[Config], tokens: int, length: int) -> float:
        """The peak of a step beyond the base: everybody's own, and one chunk's activations and gradients.

        Args:
            configs: of the pack; all of them have rows in the chunk, evenly.
            tokens: of the chunk, padding included.
            length: tokens of each of its rows.
        """
        own = sum(self.own(config) for config in configs)
        return own + self.kept(configs, tokens, length) + self.working(configs, tokens)

    def kept(self, configs: Sequence[Config], tokens: int, length: int) -> float:
        """What the forward pass of a chunk saves for its backward pass; arguments as in `step`."""
        shape, costs = self.shape, [self._cost(config) for config in configs]
        lowest = min(cost.lowest_layer for cost in costs)
        total = self._above(tokens, lowest)
        for layer in range(max(lowest, 0), shape.depth):
            sites = frozenset[str]().union(
                *[c.lowest_sites for c in costs if c.lowest_layer == layer == lowest]
            )
            gradients = gradients_in(shape, layer, lowest, sites)
            adapted = [
                self._adapted(config, layer, cost) for config, cost in zip(configs, costs, strict=True)
            ]
            named = frozenset[str]().union(*[a.saves for a in adapted])
            numbers = self._layer(layer, gradients, length, named, incoming=layer > lowest)
            own = sum(a.own for a in adapted) / len(adapted) * self.computation.number
            share = 1 / length if self._pooled(layer) else 1.0
            total += tokens * (sum(numbers.values()) + own * share)
            total += sum(a.weights for a in adapted) * _FP32
            if self.computation.casts:
                total += 2.0 * sum(
                    m.inputs * m.outputs for m in shape.in_layer(layer) if gradients.reads(m.site)
                )
        return total

    def working(self, configs: Sequence[Config], tokens: int) -> float:
        """What is alive at the worst moment beside what is kept: at the logits, or in the highest layer."""
        shape = self.shape
        logits = 2.0 * _FP32 * shape.vocabulary * tokens if shape.task == "causal-lm" else 0.0
        if min(self._cost(config).lowest_layer for config in configs) >= shape.depth:
            return max(logits, self._forward_working(tokens))
        layer = self._forward_working(tokens)
        if self.computation.first_token:
            # Backward, the last layer's keys and values are gone by the time the one below it is at work.
            layer = max(0.0, layer - 2.0 * shape.attention_width * self.computation.number * tokens)
        return max(logits, layer)

    def _forward_working(self, tokens: int) -> float:
        """Of one layer: what the feed-forward part makes, twice, and two hidden states."""
        shape = self.shape
        hidden = max(m.outputs for m in shape.matrices if m.role in ("up", "gate", "gate_up"))
        return tokens * (2.0 * hidden * self.computation.number + 2.0 * shape.width * _FP32)

    def _cost(self, config: Config) -> AdapterCost:
        name = str(config["family"])
        return REGISTRY[name].cost(local_config(name, config), self.shape)

    def _layers_of(self, stack: int) -> range:
        shape = self.shape
        return range(shape.encoder_depth, shape.depth) if stack else range(shape.encoder_depth)

    def _pooled(self, layer: int) -> bool:
        return self.computation.first_token and layer == self.shape.depth - 1

    def _above(self, tokens: int, lowest: int) -> float:
        """What is kept above the layers: the last normalization's input, what a trained matrix of the head reads of
        each token, and the probabilities of a language model."""
        shape = self.shape
        final = sum(n.size + 2 for n in shape.norms if n.place == "final" and lowest < shape.depth)
        head = sum(matrix.inputs for matrix in shape.head if matrix.trained and matrix.per_token)
        logits = shape.vocabulary if shape.task == "causal-lm" else 0
        return float(_FP32 * tokens * (final + head + logits))

    def _layer(
        self, layer: int, gradients: LayerGradients, length: int, saved: frozenset[str], incoming: bool
    ) -> dict[str, float]:
        """Bytes a token that a layer of the base keeps, by tensor; `saved` names what adapters save as well."""
        shape, how = self.shape, self.computation
        number, attention = how.number, shape.attention_width
        kept = self._norms(layer, gradients, saved, incoming)
        if gradients.mixed:
            kept["q"], kept["k"], kept["v"] = (float(number * attention),) * 3
            if how.attention == "eager":
                kept["probabilities"] = float(number * shape.heads * length)
            else:
                kept["mixed"] = float(number * attention)
                kept["mask"] = float(number * length + _FP32 * shape.heads)
        inner = self._width("up", "gate_up", "gate")
        gated = any(m.role in ("gate", "gate_up") for m in shape.matrices)
        if gradients.hidden:
            kept["activation"] = float(number * inner * _SAVED.get(how.activation, 1))
            if gated:
                kept["product"] = 2.0 * number * inner
            elif how.activation == "relu":
                kept["hidden"] = float(number * inner)
        widths = {
            "in:attention": shape.width,
            "in:feed-forward": shape.width,
            "mixed": attention,
            "hidden": inner,
        }
        for name in saved & widths.keys():
            kept.setdefault(name, float(number * widths[name]))
        for matrix in shape.in_layer(layer):
            if f"out:{matrix.site}" in saved:
                kept[f"out:{matrix.site}"] = float(number * matrix.outputs)
        if self._pooled(layer):
            whole = {"k", "v", "in:attention", "out:k", "out:v"}
            kept = {name: size if name in whole else size / length for name, size in kept.items()}
        return kept

    def _norms(
        self, layer: int, gradients: LayerGradients, saved: frozenset[str], incoming: bool
    ) -> dict[str, float]:
        """Of the normalizations: their input and statistics where the input needs a gradient or they are trained."""
        kept: dict[str, float] = {}
        needed = {"attention": incoming, "feed-forward": gradients.feed_forward, "output": True}
        needed |= {"q": gradients.q, "k": gradients.k}
        for norm in self.shape.norms:
            if norm.layer != layer or norm.place == "final":
                continue
            trained = "norms" in saved
            if needed.get(norm.place, incoming) or trained:
                place = "attention" if self.shape.parallel and norm.place == "feed-forward" else norm.place
                width = self._norm_width(norm.place, norm.size)
                kept[f"norm:{place}"] = float(_FP32 * (width + 2))
        return kept

    def _norm_width(self, place: str, size: int) -> int:
        """Normalized queries and keys are as wide as all heads together."""
        return self.shape.attention_width if place in ("q", "k") else size

    def _width(self, *roles: str) -> int:
        """The width of the feed-forward part inside."""
        found = next(m for role in roles for m in self.shape.matrices if m.role == role)
        return found.outputs // (2 if found.role == "gate_up" else 1)

    def _adapted(self, config: Config, layer: int, cost: AdapterCost) -> Adapted:
        """What a configuration saves in a layer."""
        name = str(config["family"])
        family, knobs = REGISTRY[name], local_config(name, config)
        if isinstance(family, MatrixFamily):
            if layer not in family.chosen_layers(knobs, self.shape):
                return Adapted()
            matrices = [m for m in family.matrices(knobs, self.shape) if m in self.shape.in_layer(layer)]
            return self._on_matrices(family, knobs, matrices)
        if isinstance(family, CompositeFamily):
            found = [self._part(p, layer) for p in family.parts(knobs, self.shape) if layer in p.layers]
            return Adapted(frozenset[str]().union(*[a.saves for a in found]), sum(a.own for a in found))
        # A trained scale without a shift (RMSNorm) is multiplied in a step of its own, which saves the other factor.
        normed = sum(n.size for n in self.shape.norms if n.layer == layer and not n.bias)
        saves = frozenset(_READS.values()) if "matrices" in family.trains else frozenset[str]()
        if "norms" in family.trains:
            return Adapted(saves | {"norms"}, float(normed))
        return Adapted(saves)

    def _on_matrices(self, family: MatrixFamily, knobs: Config, matrices: Sequence[Matrix]) -> Adapted:
        read = [m for m in matrices if "input" in family.saved_sides(m)]
        written = [m for m in matrices if "output" in family.saved_sides(m)]
        rank = float(r) if isinstance(r := knobs.get("rank", 0), int | float) else 0.0
        own = len(matrices) * rank
        if float(knobs.get("dropout", 0.0)) > 0:  # the mask, a byte each, and what it leaves
            own += sum(m.inputs * (1 + 1 / self.computation.number) for m in read)
        if knobs.get("dora"):
            own += 3 * sum(m.outputs for m in matrices)
        copies = family.saved_copies + family.saved_copies_of_rank * rank
        return Adapted(
            frozenset({*(_READS[m.role] for m in read), *(f"out:{m.site}" for m in written)}),
            own,
            copies * sum(m.inputs * m.outputs for m in matrices),
        )

    def _part(self, part: Any, layer: int) -> Adapted:
        """One part of a composite."""
        matrices = self.shape.in_layer(layer, part.matrices) if hasattr(part, "matrices") else ()
        match part.kind:
            case "serial" | "compacter":
                return Adapted(frozenset(f"out:{m.site}" for m in matrices), part.size * len(matrices))
            case "parallel":
                return Adapted(frozenset({"in:feed-forward"}), part.size)
            case "low_rank":
                return Adapted(frozenset(_READS[m.role] for m in matrices), part.size * len(matrices))
            case "rescale" if part.side == "input":
                return Adapted(frozenset(_READS[m.role] for m in matrices))
            case "rescale":
                return Adapted(frozenset(f"out:{m.site}" for m in matrices))
            case "scale_shift":
                changed = part.changed(self.shape, layer)
                return Adapted(
                    frozenset(f"out:{m.site}" for m in self.shape.in_layer(layer) if m.site in changed)
                )
            case "copy":
                changed = part.changed(self.shape, layer)
                return Adapted(
                    frozenset(_READS[m.role] for m in self.shape.in_layer(layer) if m.site in changed)
                )
            case _:
                return Adapted()
