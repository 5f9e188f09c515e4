"""The shape of a transformer: sizes and module names for cost formulas and adapter families, without weights.

A layer is described by the roles of its matrices: `q`, `k`, `v` and `o` in attention; `up`, `gate` and `down` in the
feed-forward network. A fused projection is one matrix with its own role: `qkv` (GPT-2's c_attn) or `gate_up`
(ModernBERT's Wi). Layer 0 is next to the input. The two stacks of an encoder-decoder share one numbering: first the
layers of the encoder, then those of the decoder, which also attend to the encoder's output (cross-attention). Sizes
count numbers, not bytes. Names are dotted module paths as in `torch.nn.Module.named_modules`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from search_spaces.model.parts import FrozenPart, HeadMatrix, Matrix, Norm, resolve_role
from search_spaces.model.selection import select_matrices
from search_spaces.model.task_types import TargetShares, TaskType


@dataclass(frozen=True)
class ModelShape:
    """The shape of a base model with its head for one task.

    Args:
        model_type: name of the architecture in transformers.
        task: task of the head.
        labels: number of outputs of the head: 1 for regression, 0 for a language model.
        depth: number of layers, of both stacks in an encoder-decoder.
        width: hidden size.
        heads: number of attention heads.
        kv_heads: number of heads of keys and values.
        head_width: features per head.
        vocabulary: rows of the word embeddings; 0 for an image model.
        embedding_width: columns of the word embeddings.
        max_positions: maximum sequence length of the configuration, or None if there is no limit.
        layers_path: module path of the list of layers, of the encoder in an encoder-decoder.
        matrices: matrices of the layers of each stack, named below the layer, in module order; each says in which
            layers it is.
        norms: normalizations of all layers and the last one, without that of the embeddings, which no family trains.
        input_matrices: (inputs, outputs) of the matrices between the embeddings and layer 0 (ELECTRA).
        head: matrices above the layers in the order of computation.
        head_modules: modules that are trained in full with the adapter, for peft's `modules_to_save`.
        head_parameters: number of parameters in `head_modules`.
        base_parameters: number of all other parameters, tied weights counted once.
        body_parameters: `base_parameters` without input and output embeddings.
        parallel: whether the feed-forward network reads the layer's input, not the output of attention (GPT-NeoX).
        accepts_prefix: whether the model accepts external keys and values, as prefix tuning requires.
        attention_interface: whether attention uses the exchangeable functions of transformers.
        accepts_embeddings: whether the model accepts embeddings in place of token ids, as prompt tuning requires.
        decoder_path: module path of the list of decoder layers in an encoder-decoder, else None.
        decoder_depth: number of decoder layers in an encoder-decoder, else 0.
        positions: number of relative-position embeddings that attention multiplies with (DeBERTa).
        position_terms: these products: "c2p" (queries with keys of positions), "p2c" (keys with their queries).
        position_matrices: (inputs, outputs) of the matrices of each layer that only positions pass through.
        patches: number of patches of an image.
        patch_matrix: (inputs, outputs) of the matrix that embeds the patches.
        quantized: whether the matrices of the layers are stored in 8 or 4 bits, so that they cannot be changed.
        attention: implementation of attention with which the model will be loaded; `auto` is that of the model.
        score_width: width of the queries in all heads where it differs from that of the values, else 0.
        frozen_parts: weights of the layers that are in no matrix.
        repeats: how often the one layer of the model runs in each forward pass (ALBERT shares its layer).
        positions_per_token: number of relative positions per token of the longest sequence of a batch, up to
            `positions` (version 1 of DeBERTa); 0 if the number is fixed.
        window: number of tokens in each direction to which a token attends (Longformer), which pads its texts to a
            multiple of twice as many; 0 if it attends to all.
        experts: number of experts of a layer, among which its tokens are distributed; 0 without experts.
        plain_linear: whether the matrices of the layers are torch's own linear modules, and no subclass.
        flops_are_estimates: whether the FLOPs of the model could not be counted, so that those of its own kind of
            attention may be missing.
        has_tied_head: whether a language head shares its matrix with the word embeddings.
        unused_parameters: parameters of the base model outside of its modules, which no family trains.
        expert_matrices: matrices of routed experts; their FLOPs are those of frozen parts.
        without_attention: indices of the layers in which tokens do not attend to each other, such as those with a
            state-space mixer.
        target_shares: how many tokens the decoder of an encoder-decoder processes per token of the encoder.
    """

    model_type: str
    task: TaskType
    labels: int
    depth: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    embedding_width: int
    max_positions: int | None
    layers_path: str
    matrices: tuple[Matrix, ...]
    norms: tuple[Norm, ...]
    input_matrices: tuple[tuple[int, int], ...]
    head: tuple[HeadMatrix, ...]
    head_modules: tuple[str, ...]
    head_parameters: int
    base_parameters: int
    body_parameters: int
    parallel: bool
    accepts_prefix: bool
    attention_interface: bool
    accepts_embeddings: bool = True
    decoder_path: str | None = None
    decoder_depth: int = 0
    positions: int = 0
    position_terms: tuple[str, ...] = ()
    position_matrices: tuple[tuple[int, int], ...] = ()
    patches: int = 0
    patch_matrix: tuple[int, int] | None = None
    quantized: bool = False
    attention: str = "auto"
    score_width: int = 0
    frozen_parts: tuple[FrozenPart, ...] = ()
    repeats: int = 1
    positions_per_token: int = 0
    window: int = 0
    experts: int = 0
    plain_linear: bool = True
    flops_are_estimates: bool = False
    has_tied_head: bool = False
    unused_parameters: int = 0
    without_attention: tuple[int, ...] = ()
    expert_matrices: tuple[Matrix, ...] = ()
    target_shares: TargetShares = TargetShares()  # noqa: RUF009 - a tuple

    def __hash__(self) -> int:
        # Shapes are keys of caches, and hashing every matrix on each lookup is slow.
        return hash((self.depth, self.width, self.labels, self.base_parameters))

    @cached_property
    def unrolled(self) -> ModelShape:
        """The shape with one layer for each run of a shared layer, for FLOPs; the same shape without sharing."""
        if self.repeats == 1:
            return self
        runs = range(self.repeats)
        return replace(
            self,
            depth=self.repeats,
            repeats=1,
            norms=tuple(
                replace(norm, layer=self.repeats if norm.layer == self.depth else run)
                for run in runs
                for norm in self.norms
                if norm.layer < self.depth or run == 0
            ),
            frozen_parts=tuple(replace(part, layer=run) for run in runs for part in self.frozen_parts),
        )

    def at_length(self, tokens: float, extra_tokens: int = 0) -> ModelShape:
        """Return the shape with the relative positions and the padding of sequences of `tokens` tokens.

        `extra_tokens` are virtual ones, which have no relative positions.
        """
        shape = self
        if any(part.chunk for part in self.frozen_parts):
            whole = tokens + extra_tokens
            shape = replace(shape, frozen_parts=tuple(part.padded(whole) for part in self.frozen_parts))
        if not self.positions_per_token:
            return shape
        return replace(shape, positions=min(self.positions, round(self.positions_per_token * tokens)))

    def attended(self, tokens: float, pairs: float) -> tuple[float, float]:
        """Return the tokens that the layers process and the pairs that attention multiplies, from those of a text.

        A sliding window is computed in chunks (Beltagy et al., 2020, arXiv 2004.05150, appendix A): scores over twice
        the window and values over three halves of it.
        """
        if not self.window:
            return tokens, pairs
        tokens = math.ceil(tokens / (2 * self.window)) * 2 * self.window
        return tokens, 3.5 * self.window * tokens - 2.0 * self.window**2

    def has(self, role: str) -> bool:
        """Return whether a role selects a matrix of every stack."""
        stacks = {matrix.stack for matrix in self.matrices}
        return all(
            resolve_role(role, present) in present
            for stack in stacks
            for present in [{m.role for m in self.matrices if m.stack == stack}]
        )

    @cached_property
    def encoder_depth(self) -> int:
        """Number of layers of the first stack, which is the only one unless there is a decoder."""
        return self.depth - self.decoder_depth

    def stack_of(self, layer: int) -> int:
        """Return the stack of a layer: 1 in the decoder of an encoder-decoder, else 0."""
        return int(layer >= self.encoder_depth)

    def layer_path(self, layer: int) -> str:
        """Return the module path of a layer."""
        if self.stack_of(layer) and self.decoder_path is not None:
            return f"{self.decoder_path}.{layer - self.encoder_depth}"
        return f"{self.layers_path}.{layer}"

    def in_layer(self, layer: int, targets: str | None = None) -> tuple[Matrix, ...]:
        """Return the matrices of one layer, or those that `targets` selects (see `select`)."""
        if self.is_uniform:
            return _matrices_of_stack(self, self.stack_of(layer), targets)
        return _matrices_of_layer(self, layer, targets)

    @cached_property
    def is_uniform(self) -> bool:
        """Whether all layers of a stack have the same matrices and attention."""
        matrices = (*self.matrices, *self.expert_matrices)
        return not self.without_attention and not any(matrix.layers for matrix in matrices)

    def layers_of(self, matrix: Matrix) -> Sequence[int]:
        """Return the indices of the layers that have a matrix."""
        if matrix.layers:
            return matrix.layers
        return range(self.encoder_depth, self.depth) if matrix.stack else range(self.encoder_depth)

    def attends(self, layer: int) -> bool:
        """Return whether the tokens attend to each other in a layer."""
        return layer not in self.without_attention

    @cached_property
    def layer_kinds(self) -> tuple[int, ...]:
        """The lowest layer of the same stack with the same matrices and attention, for each layer."""
        if self.is_uniform:
            return tuple(self.encoder_depth * self.stack_of(layer) for layer in range(self.depth))
        lowest: dict[object, int] = {}
        return tuple(lowest.setdefault(self._kind(layer), layer) for layer in range(self.depth))

    def _kind(self, layer: int) -> object:
        experts = tuple(matrix for matrix in self.expert_matrices if matrix.is_in(layer))
        return self.stack_of(layer), self.attends(layer), self.in_layer(layer), experts

    def with_matrices(self, layers: Sequence[int], matrices: Sequence[Matrix]) -> tuple[int, ...]:
        """Return those of some layers that have one of the matrices; if none has, the highest layer that does.

        So every choice of layers is valid in a model in which attention, say, is in every eighth layer.
        """
        if self.is_uniform:
            return tuple(layers)
        having = [
            i for i in range(self.depth) if any(m.is_in(i) and m.stack == self.stack_of(i) for m in matrices)
        ]
        return tuple(layer for layer in layers if layer in having) or tuple(having[-1:])

    @property
    def new_head_parts(self) -> tuple[str, ...]:
        """The modules within the base model that `with_new_head_parts` has added to the head."""
        base = self.layers_path.partition(".")[0]
        return tuple(name for name in self.head_modules if name.startswith(f"{base}."))

    def with_new_head_parts(self, missing: Collection[str]) -> ModelShape:
        """Return the shape with the matrices above the layers that a checkpoint lacks as parts of the trained head.

        A checkpoint of masked language modeling, for example, has no pooler.

        Args:
            missing: names of the parameters that the checkpoint lacks; those of other modules are ignored.
        """
        new = [
            matrix
            for matrix in self.head
            if not matrix.trained and not matrix.per_token and _parameters_of(matrix) & set(missing)
        ]
        size = sum(matrix.outputs * (matrix.inputs + matrix.bias) for matrix in new)
        return replace(
            self,
            head=tuple(replace(matrix, trained=True) if matrix in new else matrix for matrix in self.head),
            head_modules=(*(matrix.name for matrix in new), *self.head_modules),
            head_parameters=self.head_parameters + size,
            base_parameters=self.base_parameters - size,
            body_parameters=self.body_parameters - size,
        )

    @property
    def attention_width(self) -> int:
        """Width of the queries, and of keys and values after repetition for grouped heads."""
        return self.heads * self.head_width

    @property
    def query_width(self) -> int:
        """Width of the queries, and of the keys after repetition for grouped heads."""
        return self.score_width or self.attention_width

    @property
    def position_flops(self) -> float:
        """Forward FLOPs per batch of the projections of relative positions in all layers."""
        shared = sum(m.inputs * m.outputs * m.positions for m in self.matrices)
        apart = sum(inputs * outputs * self.positions for inputs, outputs in self.position_matrices)
        return 2.0 * self.depth * (shared + apart)  # layers with relative positions are alike

    @property
    def patch_flops(self) -> float:
        """Forward FLOPs per image of the matrix that embeds its patches."""
        inputs, outputs = self.patch_matrix or (0, 0)
        return 2.0 * inputs * outputs * self.patches

    @property
    def kv_width(self) -> int:
        """Width of the keys, and of the values, in a key-value cache."""
        return self.kv_heads * self.head_width

    @property
    def conv1d(self) -> bool:
        """Whether the matrices of the layers are stored transposed (`fan_in_fan_out` in peft)."""
        return self.matrices[0].conv1d

    def select(self, targets: str) -> tuple[Matrix, ...]:
        """Return the matrices of a layer that `targets` selects, of both stacks in an encoder-decoder.

        Args:
            targets: "attention", "feed-forward", "all", or roles joined as in "q+v". A role within a fused matrix
                selects that matrix, once; a role that the model lacks, such as a gate, selects nothing.
                "shared-experts" selects those of shared experts, which "feed-forward" and "all" include, and
                "experts" those of routed experts, which no other word selects. In an
                encoder-decoder, "attention" includes cross-attention, "cross-attention" selects only that, and the
                prefixes "encoder." and "decoder." select on one side, as in "decoder.q+v"; "encoder.q,decoder.all"
                combines both.

        Raises:
            ValueError: A word is not a role, or no matrix is selected.
        """
        return _selected(self, targets)

    def targets(self, layers: Iterable[int], matrices: Iterable[Matrix]) -> str | list[str]:
        """Return peft's `target_modules` for the given matrices of the given layers: a regular expression, or names.

        For some models with experts, peft reduces an expression to the last parts of the names that it matches, and
        would adapt every layer; it leaves full names alone.

        Raises:
            ValueError: None of the matrices is in one of the layers.
        """
        expression = self.modules(layers, matrices)
        if not self.experts:
            return expression
        every = (f"{self.layer_path(i)}.{m.name}" for i in range(self.depth) for m in self.in_layer(i))
        return [name for name in every if re.fullmatch(expression, name)]

    def parameters(self, layers: Iterable[int], matrices: Iterable[Matrix]) -> list[str]:
        """Return the paths of the weights of matrices of some layers, for peft's `target_parameters`."""
        chosen = tuple(matrices)
        return [
            f"{self.layer_path(i)}.{matrix.name}{'' if matrix.experts else '.weight'}"
            for i in layers
            for matrix in chosen
            if matrix.stack == self.stack_of(i) and matrix.is_in(i)
        ]

    def modules(self, layers: Iterable[int], matrices: Iterable[Matrix]) -> str:
        """Return a regular expression for peft that matches exactly the given matrices of the given layers.

        Raises:
            ValueError: None of the matrices is in one of the layers.
        """
        indices = tuple(layers)
        patterns = []
        for layers_alike, names in self._alike(indices, tuple(matrices)):
            stack = self.stack_of(layers_alike[0])
            path, first = (self.decoder_path, self.encoder_depth) if stack else (self.layers_path, 0)
            numbers = "|".join(str(layer - first) for layer in layers_alike)
            patterns.append(rf"{re.escape(str(path))}\.({numbers})\.({'|'.join(map(re.escape, names))})")
        if not patterns:
            raise ValueError(f"layers: none of the layers {list(indices)} has a matrix of the targets")
        return "|".join(patterns)

    def _alike(
        self, layers: Iterable[int], matrices: tuple[Matrix, ...]
    ) -> list[tuple[list[int], tuple[str, ...]]]:
        """Group layers of one stack by the names of those of the matrices that they have; leave out those without."""
        found: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for layer in layers:
            stack = self.stack_of(layer)
            names = tuple(m.name for m in matrices if m.stack == stack and m.is_in(layer))
            if names:
                found.setdefault((stack, names), []).append(layer)
        return [(its_layers, names) for (_, names), its_layers in found.items()]


def _parameters_of(matrix: HeadMatrix) -> set[str]:
    return {f"{matrix.name}.weight", f"{matrix.name}.bias"}


# Caches are keyed by the shape itself, so that the shape holds no mutable state. The sizes bound the memory of a
# process that reads many models; one search uses a few dozen entries.
@lru_cache(maxsize=1024)
def _matrices_of_stack(shape: ModelShape, stack: int, targets: str | None) -> tuple[Matrix, ...]:
    pool = shape.matrices if targets is None else shape.select(targets)
    return tuple(matrix for matrix in pool if matrix.stack == stack)


@lru_cache(maxsize=4096)
def _matrices_of_layer(shape: ModelShape, layer: int, targets: str | None) -> tuple[Matrix, ...]:
    pool = _matrices_of_stack(shape, shape.stack_of(layer), targets)
    return tuple(matrix for matrix in pool if matrix.is_in(layer))


@lru_cache(maxsize=1024)
def _selected(shape: ModelShape, targets: str) -> tuple[Matrix, ...]:
    matrices = (*shape.matrices, *shape.expert_matrices)
    return select_matrices(matrices, targets, shape.model_type, bool(shape.decoder_depth))
