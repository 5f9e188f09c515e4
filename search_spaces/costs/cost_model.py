"""The known costs of a configuration in closed form, without training.

FLOPs are those of matrix products, with a multiplication and an addition counted as two: 2·i·o per token for a matrix
of i inputs and o outputs, and 4·d·S² per layer for attention over S tokens. Elementwise operations are not counted.
The backward pass follows autograd with eager attention. The tests compare the formulas with
`torch.utils.flop_counter.FlopCounterMode`.

DeBERTa (He et al., 2021, arXiv 2006.03654, equation 4) adds to each layer the projections of its R relative
positions, once per batch, and their products with the tokens, 2·d·R per token and term. An encoder-decoder reads the
input of a classification twice, so its decoder processes as many tokens as its encoder; for texts that are generated
from others, the workload states the tokens of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.costs.batched import AdapterGroups, CostTable, unregistered_message
from search_spaces.costs.training_amount import TrainingAmount
from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY, AdapterCost, local_config
from search_spaces.families.framework.base import BYTES_PER_NUMBER, Preparation, adapter_cost
from search_spaces.model.forward_flops import forward_flops
from search_spaces.model.gradient_flow import LayerGradients, reached_layers
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.training import SEQUENCE_LENGTH
from search_spaces.parameters.types import Value

KNOWN_COSTS = ("trainable_params", "stored_bytes", "train_flops", "inference_flops")
"""Objectives that follow from the configuration and the model's shape; all are minimized."""


class Costs(NamedTuple):
    """The known costs of one configuration; less is better.

    Args:
        trainable_params: number of trainable parameters of the adapter, without the head.
        head_params: number of parameters of the head, which is trained with the adapter.
        train_flops: FLOPs of the whole training run, forward and backward, and of the reference's forward passes.
        inference_flops: FLOPs of one sample of mean length, with the adapter merged if it can be.
        stored_bytes: bytes of the saved adapter, head included, in fp32.
    """

    trainable_params: int
    head_params: int
    train_flops: float
    inference_flops: float
    stored_bytes: int


class CostModel:
    """The known costs of the configurations of one model, task and workload.

    A configuration has a `family`, the family's parameters as `family.name`, and optionally `epochs` (default 1),
    `batch_size` (default: that of the workload), `train_samples` (default: all of the workload, whose mean lengths
    stand for those of its subsets) and `sequence_length` (one of the workload's cuts; default: not truncated).

    Args:
        shape: shape of the model.
        task: type of the task, that of the shape.
        workload: the training data.
        checkpointing: whether layers run again in the backward pass. All of a layer is counted; torch stops within
            the layer once it has what the backward pass reads, which may save the last product.
        extra_tokens: virtual tokens per sequence, for which mixers in chunks are padded.

    Example:
        >>> costs = CostModel(shape, "sequence-classification", Workload(20.0, 420.0, train_samples=1000))
        >>> costs({"family": "lora", "lora.targets": "q+v", "lora.rank": 8}).trainable_params
    """

    def __init__(
        self,
        shape: ModelShape,
        task: TaskType,
        workload: Workload,
        checkpointing: bool = False,
        extra_tokens: int = 0,
    ) -> None:
        if task != shape.task:
            raise ValueError(
                f"task: {task!r} differs from the task of the shape, {shape.task!r}; read the shape for this task"
            )
        self.workload = workload
        at_length = shape.at_length(workload.tokens, extra_tokens)
        self.shape = replace(at_length, target_shares=workload.target_shares)
        # A mixer in chunks pads the virtual tokens of prompts too, so prompts have a model for each of their lengths.
        self._read, self._extra_tokens = shape, extra_tokens
        self._is_padded = any(part.chunk for part in shape.frozen_parts)
        self.task, self._checkpointing = task, checkpointing
        self._cuts = {
            length: CostModel(shape, task, cut, checkpointing) for length, cut in workload.cuts.items()
        }
        shape = self.shape.unrolled
        # Forward FLOPs: per token below the layers; per sample for an image's patches.
        self._below = 2.0 * sum(inputs * outputs for inputs, outputs in shape.input_matrices)
        self._patches = shape.patch_flops
        # Forward FLOPs of relative positions: per token, layer and term; per step.
        self._term = 2.0 * shape.attention_width * shape.positions
        self._step = shape.position_flops
        self._whole = forward_flops(shape)
        # FLOPs of the head's backward pass, per token and per sequence: without and with a gradient that propagates
        # into the layers.
        self._head_backward = {
            flow: self._head_products(self._head_gradients(flow)) for flow in (False, True)
        }
        self._reached: dict[object, tuple[float, float, float]] = {}

    def at(self, config: Mapping[str, Value]) -> CostModel:
        """Return the cost model for a configuration's `sequence_length`; this model if it has none.

        Raises:
            ValueError: The workload has no data for this sequence length.
        """
        length = config.get(SEQUENCE_LENGTH.name)
        if length is None:
            return self
        if length not in self._cuts:
            known = ", ".join(map(str, self._cuts)) or "none"
            raise ValueError(
                f"sequence_length: the workload for {length} tokens is unknown; known lengths: {known}; "
                "add it to Workload.cuts"
            )
        return self._cuts[int(length)]

    def __call__(self, config: Mapping[str, Value]) -> Costs:
        """Compute the costs of one configuration.

        Raises:
            ValueError: The family is not registered or the sequence length is unknown.
        """
        if SEQUENCE_LENGTH.name in config and (cut := self.at(config)) is not self:
            return cut(_without_length(config))
        name = config.get("family")
        if name not in REGISTRY:
            raise ValueError(unregistered_message(name))
        cost = adapter_cost(REGISTRY[str(name)], local_config(str(name), config), self.shape)
        amount = TrainingAmount.of(config, self.workload)
        parameters, stored, train_sample, step, inference, *before = self._priced(cost)
        return Costs(
            trainable_params=parameters,
            head_params=self.shape.head_parameters,
            train_flops=float(self._train_flops(amount, train_sample, step, np.array(before))),
            inference_flops=inference,
            stored_bytes=stored,
        )

    def many(self, configs: Sequence[Mapping[str, Value]]) -> CostTable:
        """Compute the costs of n configurations, equal to those of n calls.

        Configurations with equal adapter cost are grouped, so 10⁵ random configurations take seconds.

        Returns:
            A table with arrays of shape [n].

        Raises:
            ValueError: A family is not registered or a sequence length is unknown.
        """
        lengths = [config.get(SEQUENCE_LENGTH.name) for config in configs]
        if set(lengths) > {None} or (lengths and None not in lengths):
            return self._many_lengths(configs, lengths)
        groups = AdapterGroups(self.shape, patience=1_000)
        group = groups.indices(configs)
        priced = [self._priced(cost) for cost in groups.costs]
        numbers = np.array([of_group[:2] for of_group in priced], dtype=np.int64).reshape(-1, 2)
        flops = np.array([of_group[2:] for of_group in priced], dtype=float).reshape(-1, 6)
        parameters, stored = numbers[group].T
        train_sample, step, inference, *before = flops[group].T
        amount = TrainingAmount.of_each(configs, self.workload)
        return CostTable(
            trainable_params=parameters,
            head_params=np.full(len(group), self.shape.head_parameters, dtype=np.int64),
            train_flops=self._train_flops(amount, train_sample, step, np.array(before)),
            inference_flops=inference,
            stored_bytes=stored,
        )

    def _train_flops(
        self, amount: TrainingAmount, sample: Any, step: Any, before: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the FLOPs of runs from those of a sample, of a step, and `before` the first step, shape [3, n]."""
        batches, prepared, once = before
        first = np.minimum(batches * amount.batch_size, np.minimum(amount.examples, amount.samples))
        preparation = first * prepared + np.ceil(first / amount.batch_size) * self._step + once
        training = amount.samples * sample + amount.steps * step
        return np.asarray(training + preparation + amount.examples * self._reference)

    def _priced(self, cost: AdapterCost) -> tuple[int, int, float, float, float, int, float, float]:
        """Return the adapter's parameters, stored bytes, and FLOPs: per training sample, per step, per inference.

        The last three are the batches that its initial values are computed from, and the FLOPs per sample of these
        batches and once.
        """
        if self._is_padded and cost.extra_tokens != self._extra_tokens:
            uncut = replace(self.workload, cuts={})
            extra = cost.extra_tokens
            return CostModel(self._read, self.task, uncut, self._checkpointing, extra)._priced(cost)
        stored = cost.stored_bytes + BYTES_PER_NUMBER * self.shape.head_parameters
        step = self._step + cost.step_flops + (self._second_run(cost)[1] if self._checkpointing else 0.0)
        sample, before = self._train_sample(cost), cost.preparation
        inference = self._inference_sample(cost)
        if before is None or not before.forward:
            return cost.parameters, stored, sample, step, inference, 0, 0.0, 0.0
        prepare = self._prepare_sample(cost, before)
        return cost.parameters, stored, sample, step, inference, before.batches, prepare, before.flops

    def _many_lengths(
        self, configs: Sequence[Mapping[str, Value]], lengths: Sequence[Value | None]
    ) -> CostTable:
        """Compute `many` for configurations with different sequence lengths, one call per length."""
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

    def full_fine_tuning_flops(self, config: Mapping[str, Value] | None = None) -> float:
        """Return the training FLOPs of full fine-tuning, the reference for percentages of `train_flops`.

        They are those of as much training as that of `config`, which is by default one epoch.

        Each product of the forward pass has two in the backward pass, but for those with a constant input: an image
        and relative positions need no gradient.
        """
        tokens, pairs = self.shape.attended(self.workload.tokens, self.workload.tokens_square)
        forward = self._forward(tokens, pairs)
        parts = self.shape.unrolled.frozen_parts
        constant = sum(2 * part.forward - part.backward - part.weights for part in parts)
        constant = constant * tokens + self._patches
        sample = self.workload.rows * (3 * forward - constant) + 3 * self._step / self.workload.batch_size
        amount = TrainingAmount.of(config or {}, self.workload)
        return float(amount.samples * sample + amount.examples * self._reference)

    @cached_property
    def _reference(self) -> float:
        """The FLOPs of the base model's forward pass over a sample; 0 where no loss reads it."""
        work = self.workload
        if not work.has_reference:
            return 0.0
        forward = self._forward(*self.shape.attended(work.tokens, work.tokens_square))
        return work.rows * forward + self._step / work.batch_size

    def forward_flops_below(self, layer: int) -> float:
        """Return the forward FLOPs of the layers below a layer of the encoder or decoder, for a mean training sample.

        It is 0 for an encoder-decoder, whose decoder reads the encoder's output in every layer.
        """
        shape = self.shape
        if shape.decoder_depth:
            return 0.0
        tokens, pairs = shape.attended(self.workload.tokens, self.workload.tokens_square)
        below = min(max(layer, 0), shape.depth)
        matrices = 2.0 * sum(m.inputs * m.outputs for i in range(below) for m in shape.in_layer(i))
        token = matrices + below * len(shape.position_terms) * self._term
        attentions = sum(map(shape.attends, range(below)))
        pair = 2.0 * attentions * (shape.query_width + shape.attention_width)
        frozen = [part for part in shape.frozen_parts if part.layer < below]
        others = sum(part.forward * tokens + part.pair_forward * pairs + part.sequence for part in frozen)
        return token * tokens + pair * pairs + others

    def _train_sample(self, cost: AdapterCost) -> float:
        tokens, pairs = self._lengths(self.workload.tokens, self.workload.tokens_square, cost)
        forward = self._forward(tokens, pairs) + cost.forward_flops * tokens
        own = cost.backward_flops * tokens + cost.sequence_flops
        again = self._second_run(cost, tokens, pairs)[0] if self._checkpointing else 0.0
        return self.workload.rows * (forward + self._backward(cost, tokens, pairs) + own + again)

    def _second_run(self, cost: AdapterCost, tokens: float = 0.0, pairs: float = 0.0) -> tuple[float, float]:
        """Return the FLOPs of a second run of the layers that backpropagation reaches: per sequence and per step."""
        shape, lowest = self.shape.unrolled, max(cost.lowest_layer, 0)
        runs = max(shape.encoder_depth - lowest, 0), shape.depth - max(lowest, shape.encoder_depth)
        if not sum(runs):
            return 0.0, 0.0
        parts = [part for part in shape.frozen_parts if part.layer >= lowest]
        shares = shape.target_shares
        weights = ((m, runs[m.stack] * shares.of_matrix(m)) for m in shape.matrices)
        token = 2.0 * sum(m.inputs * m.outputs * weight for m, weight in weights)
        token += sum(runs) * len(shape.position_terms) * self._term + cost.forward_flops
        token += sum(part.forward for part in parts)
        attentions = runs[0] + (shares.pair + shares.cross) * runs[1]
        pair = 2.0 * (shape.query_width + shape.attention_width) * attentions
        pair += sum(part.pair_forward for part in parts)
        sequence = sum(part.sequence for part in parts)
        step = self._step * sum(runs) / shape.depth + cost.forward_step_flops
        return token * tokens + pair * pairs + sequence, step

    def _prepare_sample(self, cost: AdapterCost, before: Preparation) -> float:
        """Return the FLOPs of a sample that passes through the base model before the first step.

        In a backward pass, gradients arise at the adapted matrices, as in training. Their layers run a second time
        with checkpointing, but for the lowest one, in which nothing needs a gradient yet.
        """
        tokens, pairs = self.shape.attended(self.workload.tokens, self.workload.tokens_square)
        flops = self._forward(tokens, pairs) + before.token_flops * tokens
        if before.backward:
            flops += self._backward(cost, tokens, pairs)
            if self._checkpointing:
                above = AdapterCost(0, lowest_layer=cost.lowest_layer + 1)
                flops += self._second_run(above, tokens, pairs)[0]
        return flops

    def _inference_sample(self, cost: AdapterCost) -> float:
        length = self.workload.inference_tokens or self.workload.tokens
        tokens, pairs = self._lengths(length, length**2, cost)
        adapter = 0.0 if cost.mergeable else cost.forward_flops * tokens + cost.forward_step_flops
        return self._forward(tokens, pairs) + self._step + adapter

    def _lengths(self, tokens: float, square: float, cost: AdapterCost) -> tuple[float, float]:
        """Return tokens and query-key pairs per sequence, with the adapter's virtual tokens."""
        extra = cost.extra_tokens
        pairs = square + 2 * extra * tokens + extra**2
        return self.shape.attended(tokens + extra, pairs + cost.extra_keys * (tokens + extra))

    def _forward(self, tokens: float, pairs: float) -> float:
        """Return the forward FLOPs of the base model and the head on one sequence."""
        return self._whole.token * tokens + self._whole.pair * pairs + self._whole.sequence

    def _backward(self, cost: AdapterCost, tokens: float, pairs: float) -> float:
        """Return the backward FLOPs of the base model's activations and of the head on one sequence."""
        lowest = cost.lowest_layer
        per_token, once = self._head_backward[lowest < self.shape.unrolled.depth]
        in_layers, per_pair, per_sequence = self._layers_backward(cost)
        total = (per_token + in_layers) * tokens + once + per_pair * pairs + per_sequence
        if lowest < 0:
            total += self._below * tokens
        return total

    def _layers_backward(self, cost: AdapterCost) -> tuple[float, float, float]:
        """Return the backward FLOPs of the layers that backpropagation reaches: per token; per pair; per sequence."""
        key = cost.lowest_layer, cost.lowest_sites, cost.layer_sites
        if key not in self._reached:
            if len(self._reached) > 10_000:
                self._reached.clear()  # bounds the memory: layer masks of an encoder-decoder are numerous
            shape = self.shape.unrolled
            sites = dict(cost.layer_sites) or {cost.lowest_layer: cost.lowest_sites}
            by_layer = dict(reached_layers(shape, cost.lowest_layer, sites))
            kinds = shape.layer_kinds
            reached = Counter((kinds[layer], gradients) for layer, gradients in by_layer.items())
            per_token = per_pair = per_sequence = 0.0
            for (layer, gradients), count in reached.items():
                one_token, one_pair = self._layer_backward(layer, gradients)
                per_token += count * one_token
                per_pair += count * one_pair
            for part in shape.frozen_parts:
                if part.layer in by_layer and by_layer[part.layer].enters(part.place):
                    per_token += part.backward * shape.target_shares.of_stack(shape.stack_of(part.layer))
                    per_pair += part.pair_backward
                    per_sequence += part.sequence * part.sequence_products
            self._reached[key] = per_token, per_pair, per_sequence
        return self._reached[key]

    def _layer_backward(self, layer: int, gradients: LayerGradients) -> tuple[float, float]:
        """Return the backward FLOPs of one layer of the frozen base model: per token; per pair of tokens."""
        shape = self.shape.unrolled
        read = [matrix for matrix in shape.in_layer(layer) if gradients.reads(matrix.site)]
        shares, stack = shape.target_shares, shape.stack_of(layer)
        per_token = 2.0 * sum(m.inputs * m.outputs * shares.of_matrix(m) for m in read)
        # The keys and queries of positions are frozen; a product propagates only the gradient of the tokens.
        terms = {"c2p": gradients.q, "p2c": gradients.k}
        per_token += self._term * sum(terms[term] for term in self.shape.position_terms)
        if not shape.attends(layer):
            return per_token, 0.0
        scores, values = 2.0 * self.shape.query_width, 2.0 * self.shape.attention_width
        per_pair = scores * gradients.score_products + values * gradients.value_products
        crossing = shares.cross * values * gradients.cross_products
        return per_token, per_pair * (shares.pair if stack else 1.0) + crossing

    def _head_gradients(self, flowing: bool) -> list[float]:
        """Return the number of backward products of each matrix of the head: for its weight and for its input."""
        products = []
        for matrix in self.shape.head:
            products.append(float(matrix.trained + flowing))
            flowing = flowing or matrix.trained
        return products

    def _head_products(self, counts: list[float]) -> tuple[float, float]:
        """Return the FLOPs per token and per sequence of `counts` products with each matrix of the head."""
        per_token = once = 0.0
        for count, matrix in zip(counts, self.shape.head, strict=True):
            flops = count * 2.0 * matrix.inputs * matrix.outputs
            per_token, once = (per_token + flops, once) if matrix.per_token else (per_token, once + flops)
        return per_token * self.shape.target_shares.of_stack(self.shape.decoder_depth), once


def _without_length(config: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in config.items() if name != SEQUENCE_LENGTH.name}
