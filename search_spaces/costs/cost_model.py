"""What a configuration costs, in closed form, before anything is trained.

FLOPs count matrix products, a multiplication and an addition apart: 2·i·o a token for a matrix of i inputs
and o outputs, 4·d·S² a layer for attention over S tokens. Elementwise work is not counted. The rules are
those of autograd on eager attention; `torch.utils.flop_counter.FlopCounterMode` is the referee in the tests.

DeBERTa (He et al., 2021, arXiv 2006.03654, equation 4) adds to each layer the projections of its R relative
positions, once a batch, and their products with the tokens, 2·d·R a token and term. An encoder-decoder that
classifies reads its input twice, so its decoder sees as many tokens as its encoder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from search_spaces.costs.batched import AdapterGroups, CostTable, unregistered
from search_spaces.families import REGISTRY, AdapterCost, local_config
from search_spaces.families.framework.base import BYTES_PER_NUMBER
from search_spaces.model.gradient_flow import LayerGradients, reached_layers
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.training import SEQUENCE_LENGTH
from search_spaces.parameters.types import Value

KNOWN_COSTS = ("trainable_params", "stored_bytes", "train_flops", "inference_flops")
"""The objectives that follow from the configuration alone; all are better when smaller."""


@dataclass(frozen=True)
class Workload:
    """The data a configuration is trained on.

    Args:
        tokens: mean length of a training sample in tokens, padding included; of an image, its patches and the
            class token.
        tokens_square: mean of the squared length, padding included; attention grows with it.
        train_samples: samples of one epoch.
        batch_size: samples a forward pass where the configuration does not say.
        inference_tokens: mean length of a sample at inference; by default that of a training sample.
        cuts: the same data with its samples cut, by the number of tokens after which they are: what a
            configuration with that `sequence_length` is trained on.
    """

    tokens: float
    tokens_square: float
    train_samples: int
    batch_size: int = 32
    inference_tokens: float | None = None
    cuts: Mapping[int, Workload] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tokens", "train_samples", "batch_size"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive")
        if self.tokens_square < self.tokens**2 * (1 - 1e-9):
            raise ValueError(
                f"tokens_square: {self.tokens_square} is below the square of the mean length, "
                f"{self.tokens**2}; give the mean of the squares"
            )


class Costs(NamedTuple):
    """What one configuration costs; less is better everywhere.

    Args:
        trainable_params: of the adapter alone.
        head_params: of the head that is trained beside it.
        train_flops: of the whole run, forward and backward.
        inference_flops: of one sample of mean length, with the adapter merged where it can be.
        stored_bytes: of the tensors in the saved adapter, head included, in fp32.
    """

    trainable_params: int
    head_params: int
    train_flops: float
    inference_flops: float
    stored_bytes: int


class CostModel:
    """The costs of any configuration of one model, task and workload.

    A configuration names its `family`, the family's knobs as `family.knob`, and optionally `epochs`
    (default 1), `batch_size` (default the workload's) and `sequence_length` (one of the workload's cuts,
    default the whole). Everything else in it is ignored.
    """

    def __init__(self, shape: ModelShape, task: TaskType, workload: Workload) -> None:
        if task != shape.task:
            raise ValueError(f"task: {task!r} is not that of the shape, {shape.task!r}; read the shape anew")
        self.shape = shape
        self.task = task
        self.workload = workload
        # FLOPs forward: per token and layer of each stack, per pair of tokens and attention, per token below
        # the layers, per sample before the first token.
        self._layer = [
            2.0 * sum(matrix.inputs * matrix.outputs for matrix in shape.matrices if matrix.stack == stack)
            for stack in (0, 1)
        ]
        self._pair = 4.0 * shape.attention_width
        self._below = 2.0 * sum(inputs * outputs for inputs, outputs in shape.input_matrices)
        self._patches = shape.patch_flops
        # FLOPs forward of relative positions: per token, layer and term, and per step.
        self._term = 2.0 * shape.attention_width * shape.positions
        self._step = shape.position_flops
        # FLOPs of all layers forward, per token and per pair.
        encoder, decoder = shape.encoder_depth, shape.decoder_depth
        terms = shape.depth * len(shape.position_terms) * self._term
        self._layers = encoder * self._layer[0] + decoder * self._layer[1] + terms
        self._pairs = (encoder + 2 * decoder) * self._pair
        # FLOPs of the head, per token and per sequence: forward, and backward without and with a gradient
        # that flows on into the layers.
        self._head = self._head_products([1.0] * len(shape.head))
        self._head_backward = {
            flow: self._head_products(self._head_gradients(flow)) for flow in (False, True)
        }
        self._reached: dict[Any, tuple[float, float]] = {}
        self._cuts = {length: CostModel(shape, task, cut) for length, cut in workload.cuts.items()}

    def at(self, config: Mapping[str, Value]) -> CostModel:
        """The model of the data as the configuration's `sequence_length` cuts it; itself where it has none.

        Raises:
            ValueError: the workload has no such cut.
        """
        length = config.get(SEQUENCE_LENGTH.name)
        if length is None:
            return self
        if length not in self._cuts:
            known = ", ".join(map(str, self._cuts)) or "none"
            raise ValueError(
                f"sequence_length: the workload is not known for {length} tokens, only for {known}; "
                "give it in Workload.cuts"
            )
        return self._cuts[int(length)]

    def __call__(self, config: Mapping[str, Value]) -> Costs:
        """Raise ValueError where the configuration names no registered family or an unknown length."""
        if SEQUENCE_LENGTH.name in config and (cut := self.at(config)) is not self:
            return cut(_without_length(config))
        name = config.get("family")
        if name not in REGISTRY:
            raise ValueError(unregistered(name))
        cost = REGISTRY[str(name)].cost(local_config(str(name), config), self.shape)
        samples = self.workload.train_samples * float(config.get("epochs", 1))
        batch_size = float(config.get("batch_size", self.workload.batch_size))
        parameters, stored, train_sample, step, inference = self._priced(cost)
        return Costs(
            trainable_params=parameters,
            head_params=self.shape.head_parameters,
            train_flops=samples * (train_sample + step / batch_size),
            inference_flops=inference,
            stored_bytes=stored,
        )

    def many(self, configs: Sequence[Mapping[str, Value]]) -> CostTable:
        """The costs of n configurations as arrays of shape [n], equal to those of n calls.

        Configurations whose adapters cost the same are grouped: 10⁵ random ones take seconds.

        Raises:
            ValueError: a configuration names no registered family or an unknown length.
        """
        lengths = [config.get(SEQUENCE_LENGTH.name) for config in configs]
        if set(lengths) > {None} or (lengths and None not in lengths):
            return self._many_lengths(configs, lengths)
        groups = AdapterGroups(self.shape, patience=1_000)
        group = groups.indices(configs)
        priced = [self._priced(cost) for cost in groups.costs]
        numbers = np.array([of_group[:2] for of_group in priced], dtype=np.int64).reshape(-1, 2)
        flops = np.array([of_group[2:] for of_group in priced], dtype=float).reshape(-1, 3)
        parameters, stored = numbers[group].T
        train_sample, step, inference = flops[group].T
        usual = self.workload.batch_size
        batch_size = np.array([config.get("batch_size", usual) for config in configs], dtype=float)
        epochs = np.array([config.get("epochs", 1) for config in configs], dtype=float)
        return CostTable(
            trainable_params=parameters,
            head_params=np.full(len(group), self.shape.head_parameters, dtype=np.int64),
            train_flops=self.workload.train_samples * epochs * (train_sample + step / batch_size),
            inference_flops=inference,
            stored_bytes=stored,
        )

    def _priced(self, cost: AdapterCost) -> tuple[int, int, float, float, float]:
        """Of an adapter and the head: parameters and bytes, then FLOPs: of training a sample, of a step whatever
        its size, and of inference on a sample."""
        stored = cost.stored_bytes + BYTES_PER_NUMBER * self.shape.head_parameters
        step = self._step + cost.step_flops
        return cost.parameters, stored, self._train_sample(cost), step, self._inference_sample(cost)

    def _many_lengths(
        self, configs: Sequence[Mapping[str, Value]], lengths: Sequence[Value | None]
    ) -> CostTable:
        """`many` where configurations cut the data at different lengths: one call a length."""
        places = {length: [i for i, other in enumerate(lengths) if other == length] for length in lengths}
        tables = [
            self.at(configs[rows[0]]).many([_without_length(configs[i]) for i in rows])
            for rows in places.values()
        ]
        order = np.argsort(np.concatenate([np.array(rows) for rows in places.values()]))
        columns = {
            f.name: np.concatenate([getattr(t, f.name) for t in tables])[order] for f in fields(CostTable)
        }
        return CostTable(**columns)

    def full_fine_tuning_flops(self, epochs: float = 1) -> float:
        """Training FLOPs with every parameter trained: each forward product has two backward.

        The measure against which a share of the cost is quoted.
        """
        forward = self._forward(self.workload.tokens, self.workload.tokens_square)
        # An image needs no gradient, so the patches' matrix has one backward product.
        sample = 3 * (forward + self._step / self.workload.batch_size) - self._patches
        return self.workload.train_samples * epochs * sample

    def _train_sample(self, cost: AdapterCost) -> float:
        tokens, pairs = _lengths(self.workload.tokens, self.workload.tokens_square, cost)
        forward = self._forward(tokens, pairs) + cost.forward_flops * tokens
        own = cost.backward_flops * tokens + cost.sequence_flops
        return forward + self._backward(cost, tokens, pairs) + own

    def _inference_sample(self, cost: AdapterCost) -> float:
        length = self.workload.inference_tokens or self.workload.tokens
        tokens, pairs = _lengths(length, length**2, cost)
        adapter = 0.0 if cost.mergeable else cost.forward_flops * tokens + cost.forward_step_flops
        return self._forward(tokens, pairs) + self._step + adapter

    def _forward(self, tokens: float, pairs: float) -> float:
        """FLOPs of the base and the head on one sequence."""
        per_token, once = self._head
        layers = self._layers * tokens + self._pairs * pairs
        return layers + (self._below + per_token) * tokens + once + self._patches

    def _backward(self, cost: AdapterCost, tokens: float, pairs: float) -> float:
        """FLOPs of the gradients of the base's activations and of the head, on one sequence."""
        lowest = cost.lowest_layer
        per_token, once = self._head_backward[lowest < self.shape.depth]
        in_layers, per_pair = self._layers_backward(cost)
        total = (per_token + in_layers) * tokens + once + per_pair * pairs
        if lowest < 0:
            total += self._below * tokens
        return total

    def _layers_backward(self, cost: AdapterCost) -> tuple[float, float]:
        """Backward FLOPs of the layers that backpropagation reaches, per token and per pair of tokens."""
        key = cost.lowest_layer, cost.lowest_sites, cost.layer_sites
        if key not in self._reached:
            if len(self._reached) > 10_000:
                self._reached.clear()  # the masks of an encoder-decoder's layers are too many to keep
            sites = dict(cost.layer_sites) or {cost.lowest_layer: cost.lowest_sites}
            reached = Counter(
                (self.shape.stack_of(layer), gradients)
                for layer, gradients in reached_layers(self.shape, cost.lowest_layer, sites)
            )
            per_token = per_pair = 0.0
            for (stack, gradients), count in reached.items():
                one_token, one_pair = self._layer_backward(stack, gradients)
                per_token += count * one_token
                per_pair += count * one_pair
            self._reached[key] = per_token, per_pair
        return self._reached[key]

    def _layer_backward(self, stack: int, gradients: LayerGradients) -> tuple[float, float]:
        """Backward FLOPs of one layer of the frozen base, per token and per pair of tokens."""
        read = [m for m in self.shape.matrices if m.stack == stack and gradients.reads(m.site)]
        per_token = 2.0 * sum(m.inputs * m.outputs for m in read)
        # Positions' own keys and queries are frozen; a product passes on what its tokens' side needs.
        terms = {"c2p": gradients.q, "p2c": gradients.k}
        per_token += self._term * sum(terms[term] for term in self.shape.position_terms)
        return per_token, self._pair / 2 * (gradients.attention_products + gradients.cross_products)

    def _head_gradients(self, flowing: bool) -> list[float]:
        """Backward products of each matrix of the head: of its weight if trained, of its input if needed."""
        products = []
        for matrix in self.shape.head:
            products.append(float(matrix.trained + flowing))
            flowing = flowing or matrix.trained
        return products

    def _head_products(self, counts: list[float]) -> tuple[float, float]:
        """FLOPs per token and per sequence of so many products with each matrix of the head."""
        per_token = once = 0.0
        for count, matrix in zip(counts, self.shape.head, strict=True):
            flops = count * 2.0 * matrix.inputs * matrix.outputs
            per_token, once = (per_token + flops, once) if matrix.per_token else (per_token, once + flops)
        return per_token, once


def _without_length(config: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in config.items() if name != SEQUENCE_LENGTH.name}


def _lengths(tokens: float, square: float, cost: AdapterCost) -> tuple[float, float]:
    """Tokens a sequence and query-key pairs a sequence, with the adapter's virtual tokens."""
    extra = cost.extra_tokens
    pairs = square + 2 * extra * tokens + extra**2
    return tokens + extra, pairs + cost.extra_keys * (tokens + extra)
