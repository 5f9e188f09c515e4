"""The memory of a packed step, predicted in closed form before it is run.

    peak = what each configuration has for itself            parameters, gradients, the optimizer's moments
         + what the chunk's forward pass keeps               activations that the backward pass reads
         + what is allocated in addition at the worst moment the gradients of one layer, or of the logits

The base model is loaded anyway and is counted separately (`base_bytes`). The activations follow from what autograd
saves: a product with a frozen matrix saves nothing, attention its queries, keys, values and output, a normalization
its input, an activation function its input or more, and an adapter what it multiplies with a trained factor. All
configurations of a chunk share the tensors of the base model, so a tensor that one adapter saves is saved for all
rows. What autograd skips below the lowest adapter is not kept (`search_spaces.model.gradient_flow`).

`trials.packing.memory.SavedTensors` counts the same in a real pass, and the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from search_spaces.families import REGISTRY, AdapterCost, local_config
from search_spaces.families.framework.base import adapter_cost
from search_spaces.families.framework.composite_family import CompositeFamily
from search_spaces.families.framework.matrix_family import MatrixFamily
from search_spaces.families.framework.saved_activations import (
    MATRIX_INPUTS,
    NORMS,
    SavedActivations,
    combine,
    input_of,
    output_of,
)
from search_spaces.model.gradient_flow import LayerGradients, gradients_in
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.training import optimizer_of
from search_spaces.parameters.types import Configuration
from trials.base.model import Base
from trials.packing.layer_gates import reads_first_token

_FP32 = 4
LANGUAGE = ("causal-lm", "seq2seq")
"""The tasks of `search_spaces` whose head has an output for each word."""
MOMENTS = {"adamw": 2, "lion": 1, "adafactor": 0}
"""Numbers per parameter that an optimizer keeps; Adafactor's row and column sums are negligible."""
_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Bytes per number of the frozen matrices; nf4 has one fp32 scale per 64 numbers."""
_SAVED = {"gelu_new": 4, "gelu_fast": 5, "gelu_pytorch_tanh": 1, "quick_gelu": 2, "relu": 0}
"""Tensors that an activation function saves beside its output, if not one: torch's own functions save their input,
those that transformers writes in several operations save the intermediate results. ReLU saves its output."""


@dataclass(frozen=True)
class Computation:
    """How a base model computes, as far as its shape does not determine it.

    Args:
        activation: The name of the activation function in transformers.
        attention: The name of the attention implementation in transformers.
        number: Bytes per number that the matrices multiply: 2 under bf16, else 4.
        attends_in_fp32: Whether attention is in fp32 where the matrices are multiplied in bf16.
        first_token: Whether the last layer runs for the first token only, except for keys and values.
        checkpointing: Whether a layer keeps its input alone and runs again in the backward pass.
    """

    activation: str = "gelu"
    attention: str = "sdpa"
    number: int = _FP32
    attends_in_fp32: bool = False
    first_token: bool = False
    checkpointing: bool = False

    @classmethod
    def of(cls, base: Base) -> Computation:
        """Read how a loaded base model computes."""
        config: Any = base.model.config
        names = ("hidden_act", "activation_function", "hidden_activation", "activation")
        activation = next(
            (value for name in names if isinstance(value := getattr(config, name, None), str)), "gelu"
        )
        half = base.autocast in (torch.bfloat16, torch.float16)
        attention = getattr(config, "_attn_implementation", None) or "eager"
        return cls(
            activation=activation,
            attention=str(attention),
            number=2 if half else _FP32,
            attends_in_fp32=base.attends_in_fp32 and attention == "sdpa",
            first_token=attention == "sdpa" and reads_first_token(base.model),
            checkpointing=base.is_checkpointed,
        )


class MemoryModel:
    """The memory of steps on one base model; all results are in bytes.

    Args:
        shape: The shape of the base model.
        computation: How it computes; by default in fp32 with torch's attention.
    """

    def __init__(self, shape: ModelShape, computation: Computation | None = None) -> None:
        self.shape, self._runs = shape, shape.unrolled
        self.computation = computation or Computation()

    def base_bytes(self, weights: str = "fp32", precision: str = "fp32", device: str = "cpu") -> float:
        """Return the memory of the frozen base model and its head.

        Args:
            weights: As in `ModelSpec`.
            precision: As in `ModelSpec`, but never `auto`.
            device: The type of the device. On a CPU, precision bf16 and int8 add forms of the matrices, two bytes per
                number; elsewhere the matrices are stored in bf16.
        """
        shape = self.shape
        matrices = sum(
            matrix.inputs * matrix.outputs * len(shape.layers_of(matrix)) for matrix in shape.matrices
        )
        rest = _BYTES["bf16"] if weights == "bf16" else _FP32
        head = _FP32 * shape.head_parameters
        stored = _BYTES[weights]
        if weights == "fp32" and precision != "fp32":
            stored = _FP32 + 2.0 if device == "cpu" else 2.0
        return stored * matrices + rest * (shape.base_parameters - matrices) + head

    def own(self, config: Configuration) -> float:
        """Return the memory of a configuration's parameters, gradients and moments, adapter and head together."""
        trained = self._cost(config).parameters + self.shape.head_parameters
        return _FP32 * trained * (2 + MOMENTS[optimizer_of(config)])

    def step(self, configs: Sequence[Configuration], tokens: int, length: int) -> float:
        """Return the peak of a step without the base model: every configuration's own, and one chunk.

        Args:
            configs: The configurations of the pack; each has an equal share of the chunk's rows.
            tokens: Tokens of the chunk, padding included.
            length: Tokens of each of its rows.
        """
        own = sum(self.own(config) for config in configs)
        return own + self.kept(configs, tokens, length) + self.working(configs, tokens)

    def kept(self, configs: Sequence[Configuration], tokens: int, length: int) -> float:
        """Return what the forward pass of a chunk saves for its backward pass; arguments as in `step`."""
        shape, costs = self._runs, [self._cost(config) for config in configs]
        lowest = min(cost.lowest_layer for cost in costs)
        layers = [
            self._kept_in(layer, configs, costs, tokens, length)
            for layer in range(max(lowest, 0), shape.depth)
        ]
        if self.computation.checkpointing and layers:
            # The inputs of all layers, and what one of them keeps while it runs again.
            in_layers = len(layers) * float(_FP32 * shape.width * tokens) + max(layers)
        else:
            in_layers = sum(layers)
        return self._above(tokens, lowest) + in_layers

    def _kept_in(
        self,
        layer: int,
        configs: Sequence[Configuration],
        costs: Sequence[AdapterCost],
        tokens: int,
        length: int,
    ) -> float:
        """Return what a layer saves for its backward pass, with the adapters of all configurations."""
        lowest = min(cost.lowest_layer for cost in costs)
        sites = frozenset[str]().union(*[c.lowest_sites for c in costs if c.lowest_layer == layer == lowest])
        gradients = gradients_in(self._runs, layer, lowest, sites)
        saved = [self._saved(config, min(layer, self.shape.depth - 1)) for config in configs]
        shared = frozenset[str]().union(*[each.shared for each in saved])
        numbers = self._layer(layer, gradients, length, shared, incoming=layer > lowest)
        own = sum(each.per_token for each in saved) / len(saved) * self.computation.number
        share = 1 / length if self._is_pooled(layer) else 1.0
        total = tokens * (sum(numbers.values()) + own * share)
        return total + sum(each.constant for each in saved) * _FP32

    def working(self, configs: Sequence[Configuration], tokens: int) -> float:
        """Return what is allocated beside `kept` at the worst moment: at the logits, or in the highest layer."""
        shape = self._runs
        logits = 2.0 * _FP32 * shape.vocabulary * tokens if shape.task in LANGUAGE else 0.0
        if min(self._cost(config).lowest_layer for config in configs) >= shape.depth:
            return max(logits, self._layer_working(tokens))
        layer = self._layer_working(tokens)
        if self.computation.first_token:
            # In the backward pass, the last layer's keys and values are freed before the layer below runs.
            layer = max(0.0, layer - 2.0 * shape.attention_width * self.computation.number * tokens)
        return max(logits, layer)

    def _layer_working(self, tokens: int) -> float:
        """Return the temporary memory of one layer: the feed-forward activations twice, and two hidden states."""
        shape = self.shape
        known = [m.outputs for m in shape.matrices if m.role in ("up", "gate", "gate_up")]
        hidden = max(known, default=self._frozen_width())
        return tokens * (2.0 * hidden * self.computation.number + 2.0 * shape.width * _FP32)

    def _cost(self, config: Configuration) -> AdapterCost:
        name = str(config["family"])
        return adapter_cost(REGISTRY[name], local_config(name, config), self.shape)

    def _is_pooled(self, layer: int) -> bool:
        return self.computation.first_token and layer == self.shape.depth - 1

    def _above(self, tokens: int, lowest: int) -> float:
        """Return what is kept above the layers.

        It is the last normalization's input, what a trained matrix of the head reads of each token, and the
        probabilities of a language model.
        """
        shape = self.shape
        final = sum(n.size + 2 for n in shape.norms if n.place == "final" and lowest < shape.depth)
        head = sum(matrix.inputs for matrix in shape.head if matrix.trained and matrix.per_token)
        logits = shape.vocabulary if shape.task in LANGUAGE else 0
        return float(_FP32 * tokens * (final + head + logits))

    def _layer(
        self, layer: int, gradients: LayerGradients, length: int, saved: frozenset[str], incoming: bool
    ) -> dict[str, float]:
        """Return the bytes per token that a layer of the base model keeps, by tensor.

        Args:
            saved: The tensors that adapters save as well, as in `SavedActivations.shared`.
            incoming: Whether the layer's input needs a gradient.
        """
        shape, how = self.shape, self.computation
        number, attention = how.number, shape.attention_width
        kept = self._norms(layer, gradients, saved, incoming)
        if gradients.mixed and self._runs.attends(layer):
            each = _FP32 if how.attends_in_fp32 else number
            kept["q"], kept["k"], kept["v"] = (float(each * attention),) * 3
            if how.attention == "eager":
                kept["probabilities"] = float(each * shape.heads * length)
            else:
                kept["mixed"] = float(each * attention)
                kept["mask"] = float(each * length + _FP32 * shape.heads)
        matrices = self._runs.in_layer(layer)
        inner = self._feed_forward_width(matrices)
        if gradients.hidden:
            kept["activation"] = float(number * inner * _SAVED.get(how.activation, 1))
            if any(m.role in ("gate", "gate_up") for m in matrices):
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
            if output_of(matrix) in saved:
                kept[output_of(matrix)] = float(number * matrix.outputs)
        if self._is_pooled(layer):
            whole = {"k", "v", "in:attention", "out:k", "out:v"}
            kept = {name: size if name in whole else size / length for name, size in kept.items()}
        return kept

    def _norms(
        self, layer: int, gradients: LayerGradients, saved: frozenset[str], incoming: bool
    ) -> dict[str, float]:
        """Return the input and statistics of each normalization that is trained or whose input needs a gradient."""
        kept: dict[str, float] = {}
        needed = {"attention": incoming, "feed-forward": gradients.feed_forward, "output": True}
        needed |= {"q": gradients.q, "k": gradients.k}
        for norm in self._runs.norms:
            if norm.layer != layer or norm.place == "final":
                continue
            if needed.get(norm.place, incoming) or NORMS in saved:
                place = "attention" if self.shape.parallel and norm.place == "feed-forward" else norm.place
                width = self._norm_width(norm.place, norm.size)
                kept[f"norm:{place}"] = float(_FP32 * (width + 2))
        return kept

    def _norm_width(self, place: str, size: int) -> int:
        """Return a normalization's width; normalized queries and keys are as wide as all heads together."""
        return self.shape.attention_width if place in ("q", "k") else size

    def _feed_forward_width(self, matrices: Sequence[Matrix]) -> int:
        """Return the number of activations inside the feed-forward block of a layer, per token."""
        roles = ("up", "gate_up", "gate")
        found = next((m for role in roles for m in matrices if m.role == role), None)
        if found is None:
            return self._frozen_width()
        return found.outputs // (2 if found.role == "gate_up" else 1)

    def _frozen_width(self) -> int:
        """Return the number of activations inside frozen experts, whose three matrices have the model's width."""
        parts = [part for part in self.shape.frozen_parts if part.place == "feed-forward"]
        largest = max(
            (sum(p.forward for p in parts if p.layer == layer) for layer in range(self.shape.depth)),
            default=0.0,
        )
        return round(largest / (6 * self.shape.width))

    def _saved(self, config: Configuration, layer: int) -> SavedActivations:
        """Return what a configuration's adapter keeps in a layer."""
        name = str(config["family"])
        family, values = REGISTRY[name], local_config(name, config)
        if isinstance(family, MatrixFamily):
            if layer not in family.chosen_layers(values, self.shape):
                return SavedActivations()
            stack = self.shape.stack_of(layer)
            chosen = family.matrices(values, self.shape)
            matrices = [matrix for matrix in chosen if matrix.stack == stack and matrix.is_in(layer)]
            return self._saved_on_matrices(family, values, matrices)
        if isinstance(family, CompositeFamily):
            parts = family.parts(values, self.shape)
            return combine(part.saved(self.shape, layer) for part in parts if layer in part.layers)
        shared = frozenset(MATRIX_INPUTS.values()) if "matrices" in family.trains else frozenset[str]()
        if NORMS not in family.trains:
            return SavedActivations(shared)
        # A trained scale without a shift (RMSNorm) is multiplied in a separate step, which keeps the other factor.
        unshifted = sum(n.size for n in self.shape.norms if n.layer == layer and not n.bias)
        return SavedActivations(shared | {NORMS}, float(unshifted))

    def _saved_on_matrices(
        self, family: MatrixFamily, values: Configuration, matrices: Sequence[Matrix]
    ) -> SavedActivations:
        read = [m for m in matrices if "input" in family.saved_sides(m)]
        written = [m for m in matrices if "output" in family.saved_sides(m)]
        fitted = family.fit_to_model(values, self.shape)
        numbers = [family.saved_numbers(fitted, matrix) for matrix in matrices]
        own = sum(per_token for per_token, _ in numbers)
        if float(values.get("dropout", 0.0)) > 0:  # the mask, one byte per number, and the masked input
            own += sum(m.inputs * (1 + 1 / self.computation.number) for m in read)
        if values.get("dora"):
            own += 3 * sum(m.outputs for m in matrices)
        return SavedActivations(
            frozenset({*map(input_of, read), *map(output_of, written)}),
            own,
            sum(constant for _, constant in numbers),
        )
