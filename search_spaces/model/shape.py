"""The shape of a transformer: what costs and adapter families need to know about it, and no weights.

A layer is described by the roles of its matrices. `q`, `k`, `v` and `o` belong to attention; `up`, `gate`
and `down` to the feed-forward part. A fused projection is one matrix with a role of its own: `qkv` (GPT-2's
c_attn) or `gate_up` (ModernBERT's Wi). Layer 0 is next to the input. An encoder-decoder has two stacks and one
numbering: its encoder's layers first, then its decoder's, which attend to the encoder's output as well
(cross-attention). All sizes are in units of one number (not bytes), all names are dotted module paths as in
`torch.nn.Module.named_modules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

TaskType = Literal["sequence-classification", "regression", "causal-lm", "image-classification"]
Role = Literal["q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down"]
Place = Literal["attention", "q", "k", "cross-attention", "feed-forward", "output", "final"]
"""What a normalization feeds: attention (or its queries or keys alone), the queries of cross-attention, the
feed-forward part, the output of its layer, or, as the last of its stack, what comes after the stack."""

FUSED: dict[str, Role] = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}
"""The fused matrix that stands for a role where the model has no matrix of that role alone."""

TARGETS: dict[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v", "o"),
    "feed-forward": ("gate", "up", "down"),
    "all": ("q", "k", "v", "o", "gate", "up", "down"),
}
"""Names for sets of roles."""

SIDES: dict[str, int] = {"encoder": 0, "decoder": 1}
"""The stacks of an encoder-decoder by name."""

CROSS_ATTENTION = "cross-attention"
"""The name for all matrices of cross-attention."""

_SELECTABLE = (*TARGETS["all"], "qkv", "gate_up")


def is_targets(text: str) -> bool:
    """Whether `text` can name matrices, in some model, as `ModelShape.select` reads it."""
    if "," in text:
        return all(map(is_targets, text.split(",")))
    side, dot, named = text.rpartition(".")
    known = named == CROSS_ATTENTION or named in TARGETS or set(named.split("+")) <= set(_SELECTABLE)
    return known and (not dot or side in SIDES)


@dataclass(frozen=True)
class Matrix:
    """One weight matrix of a layer; `conv1d` where it is stored transposed (transformers' Conv1D).

    `stack` is 1 in the decoder of an encoder-decoder, else 0. `cross` marks cross-attention. `positions` counts
    the embeddings of relative positions that run through the matrix once a forward pass, beside the tokens
    (DeBERTa's shared projections).
    """

    role: Role
    name: str
    inputs: int
    outputs: int
    bias: bool
    conv1d: bool = False
    stack: int = 0
    cross: bool = False
    positions: int = 0

    @property
    def site(self) -> str:
        """The role, told apart in cross-attention."""
        return f"cross-{self.role}" if self.cross else self.role


@dataclass(frozen=True)
class Norm:
    """One normalization with trainable parameters: a scale and, with `bias` (LayerNorm), a shift.

    `layer` is the depth for the last one of all, and the top layer of an encoder for the one that closes it
    below a decoder; `name` is the full module path.
    """

    layer: int
    name: str
    place: Place
    size: int
    bias: bool

    @property
    def parameters(self) -> int:
        return self.size * (2 if self.bias else 1)


@dataclass(frozen=True)
class HeadMatrix:
    """One matrix above the layers: run on each token or once a sequence, trained or frozen."""

    name: str
    inputs: int
    outputs: int
    trained: bool
    per_token: bool


@dataclass(frozen=True)
class ModelShape:
    """A base model with its head for one task.

    Args:
        model_type: transformers' name of the architecture.
        task, labels: what the head is for; one label for a regression, none for a language model.
        depth, width: layers (of both stacks, if there are two), and the size of the hidden state.
        heads, kv_heads, head_width: attention heads, those of keys and values, the size of each.
        vocabulary, embedding_width: rows and columns of the word embeddings; an image model has no rows.
        max_positions: the longest sequence that the configuration allows, None if it sets no limit.
        layers_path: the module path of the list of layers; in an encoder-decoder that of the encoder.
        matrices: of each layer of each stack (the layers of a stack are alike), named below the layer, in the
            order of the module.
        norms: of all layers, and the last one; without that of the embeddings, which no family trains.
        input_matrices: (inputs, outputs) of matrices between the embeddings and layer 0 (ELECTRA).
        head: the matrices above the layers, in the order in which they run.
        head_modules: modules trained in full beside the adapter, for peft's `modules_to_save`.
        head_parameters: numbers in `head_modules`.
        base_parameters: numbers in everything else, tied weights counted once.
        body_parameters: `base_parameters` without embeddings and without the output embeddings.
        parallel: the feed-forward part reads the layer's input, not attention's output (GPT-NeoX).
        accepts_prefix: the model takes keys and values computed elsewhere, as prefix tuning needs.
        attention_interface: attention runs through transformers' exchangeable functions.
        accepts_embeddings: the model takes embeddings in place of token ids, as prompt tuning needs.
        decoder_path, decoder_depth: the list of layers of an encoder-decoder's decoder, and its length.
        positions: embeddings of relative positions that attention multiplies with (DeBERTa).
        position_terms: those products: "c2p" (queries with positions' keys), "p2c" (keys with their queries).
        position_matrices: (inputs, outputs) of the matrices of each layer that only positions run through.
        patches, patch_matrix: patches of an image, and the (inputs, outputs) of the matrix that embeds them.
        quantized: the matrices of the layers are kept in 8 or 4 bits, and so not to be changed.
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

    def __hash__(self) -> int:
        # Shapes are keys of caches, and hashing every matrix on each lookup is slow.
        return hash((self.depth, self.width, self.labels, self.base_parameters))

    @cached_property
    def encoder_depth(self) -> int:
        """The layers of the first stack, which is the only one unless there is a decoder above it."""
        return self.depth - self.decoder_depth

    def stack_of(self, layer: int) -> int:
        """Which stack a layer is in: 1 in the decoder of an encoder-decoder, else 0."""
        return int(layer >= self.encoder_depth)

    def layer_path(self, layer: int) -> str:
        """The module path of a layer."""
        if self.stack_of(layer) and self.decoder_path is not None:
            return f"{self.decoder_path}.{layer - self.encoder_depth}"
        return f"{self.layers_path}.{layer}"

    def in_layer(self, layer: int, targets: str | None = None) -> tuple[Matrix, ...]:
        """The matrices of one layer; those that `targets` names, as `select` reads it, if it is given."""
        return _matrices_of_stack(self, self.stack_of(layer), targets)

    @property
    def attention_width(self) -> int:
        """The width of the queries, and of keys and values once repeated for grouped heads."""
        return self.heads * self.head_width

    @property
    def position_flops(self) -> float:
        """FLOPs forward of the projections of relative positions in all layers, once a batch."""
        shared = sum(m.inputs * m.outputs * m.positions for m in self.matrices)
        apart = sum(inputs * outputs * self.positions for inputs, outputs in self.position_matrices)
        return 2.0 * self.depth * (shared + apart)

    @property
    def patch_flops(self) -> float:
        """FLOPs forward of the matrix that embeds an image's patches, an image."""
        inputs, outputs = self.patch_matrix or (0, 0)
        return 2.0 * inputs * outputs * self.patches

    @property
    def kv_width(self) -> int:
        """The width of the keys (and of the values) as a cache stores them."""
        return self.kv_heads * self.head_width

    @property
    def conv1d(self) -> bool:
        """Whether the layers' matrices are stored transposed; peft's `fan_in_fan_out`."""
        return self.matrices[0].conv1d

    def select(self, targets: str) -> tuple[Matrix, ...]:
        """The matrices of a layer that `targets` names, of both stacks if there are two.

        It is "attention", "feed-forward", "all", or roles joined as in "q+v". A role inside a fused matrix
        selects that matrix, once. A role that the model does not have (a gate) selects nothing. In an
        encoder-decoder, attention includes cross-attention, "cross-attention" is that alone, and "encoder."
        or "decoder." in front, as in "decoder.q+v", selects on one side only; "encoder.q,decoder.all" is both.

        Raises:
            ValueError: a word is not a role, or nothing is selected.
        """
        return _selected(self, targets)

    def modules(self, layers: Iterable[int], matrices: Iterable[Matrix]) -> str:
        """A regular expression that matches exactly those matrices of those layers, as peft reads it.

        Raises:
            ValueError: none of the matrices is in one of the layers.
        """
        asked = tuple(layers)
        found: dict[int, list[int]] = {}
        for layer in asked:
            found.setdefault(self.stack_of(layer), []).append(layer)
        chosen = tuple(matrices)
        patterns = []
        for stack, its_layers in found.items():
            names = "|".join(re.escape(matrix.name) for matrix in chosen if matrix.stack == stack)
            if names:
                path, first = (self.decoder_path, self.encoder_depth) if stack else (self.layers_path, 0)
                numbers = "|".join(str(layer - first) for layer in its_layers)
                patterns.append(rf"{re.escape(str(path))}\.({numbers})\.({names})")
        if not patterns:
            raise ValueError(f"layers: none of {list(asked)} has a matrix of the targets")
        return "|".join(patterns)


# Caches are keyed by the shape itself, so that the shape holds no mutable state. The sizes bound the memory of a
# process that reads many models; one search uses a few dozen entries.
@lru_cache(maxsize=1024)
def _matrices_of_stack(shape: ModelShape, stack: int, targets: str | None) -> tuple[Matrix, ...]:
    pool = shape.matrices if targets is None else shape.select(targets)
    return tuple(matrix for matrix in pool if matrix.stack == stack)


@lru_cache(maxsize=1024)
def _selected(shape: ModelShape, targets: str) -> tuple[Matrix, ...]:
    if "," in targets:
        either = [matrix for part in targets.split(",") for matrix in shape.select(part)]
        return tuple(matrix for matrix in shape.matrices if matrix in either)
    side, dot, named = targets.rpartition(".")
    pool = shape.matrices
    if dot:
        pool = tuple(m for m in pool if shape.decoder_depth and m.stack == SIDES.get(side))
    if named == CROSS_ATTENTION:
        pool, named = tuple(m for m in pool if m.cross), "attention"
    roles = TARGETS.get(named) or tuple(named.split("+"))
    unknown = [role for role in roles if role not in _SELECTABLE]
    if unknown:
        raise ValueError(
            f"targets: {targets!r} names {unknown}; write {', '.join(TARGETS)}, or roles among "
            f"{', '.join(_SELECTABLE)} joined by '+'"
        )
    present = {matrix.role for matrix in pool}
    resolved = {role if role in present else FUSED.get(role) for role in roles}
    selected = tuple(matrix for matrix in pool if matrix.role in resolved)
    if not selected:
        stacks = "two stacks (prefixes encoder. and decoder.)" if shape.decoder_depth else "one stack"
        raise ValueError(
            f"targets: {targets!r} matches no module in {shape.model_type}; it has "
            f"{sorted({matrix.site for matrix in shape.matrices})} and {stacks}"
        )
    return selected
