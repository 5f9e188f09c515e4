"""The parts of a model's layers and head: matrices, normalizations and frozen weights, with their roles."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

Role = Literal["q", "k", "v", "qkv", "kv", "o", "mixer", "gate", "up", "gate_up", "down"]
"""The role of a matrix in its layer; `mixer` is the input of a state-space mixer, which replaces attention or runs
beside it."""
Place = Literal["attention", "q", "k", "cross-attention", "feed-forward", "input", "output", "final"]
"""What reads the output of a normalization: attention (or only its queries or keys), the queries of cross-attention,
the feed-forward network, both attention and the feed-forward network (`input`), the output of the layer, or, for the
last one of a stack, what follows the stack."""

FUSED: dict[str, Role] = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}
"""The fused matrix that contains a role in models without a separate matrix for it; see `resolve_role`."""

TARGETS: dict[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v", "o"),
    "feed-forward": ("gate", "up", "down"),
    "all": ("q", "k", "v", "o", "mixer", "gate", "up", "down"),
}
"""Names of sets of roles."""

SIDES: dict[str, int] = {"encoder": 0, "decoder": 1}
"""The index of each stack of an encoder-decoder by name."""

CROSS_ATTENTION = "cross-attention"
"""The target name of all matrices of cross-attention."""

EXPERTS = "experts"
"""The target name of the matrices of routed experts, of which each token passes a few."""

SHARED_EXPERTS = "shared-experts"
"""The target name of the matrices of shared experts, which every token passes."""

NAMED = (CROSS_ATTENTION, EXPERTS, SHARED_EXPERTS)
"""Target names that are no sets of roles."""

SELECTABLE = (*TARGETS["all"], "qkv", "kv", "gate_up")
"""The roles that can be selected by name."""


def resolve_role(role: str, present: Collection[str]) -> str | None:
    """Return the role of the matrix that contains a role, or None if there is none.

    Args:
        role: the role.
        present: roles of the matrices of a model.
    """
    if role in present:
        return role
    if role in ("k", "v") and "kv" in present:
        return "kv"
    return FUSED.get(role)


def is_targets(text: str) -> bool:
    """Return whether `text` is valid in the notation of `ModelShape.select`, for some model."""
    if "," in text:
        return all(map(is_targets, text.split(",")))
    side, dot, named = text.rpartition(".")
    known = named in NAMED or named in TARGETS or set(named.split("+")) <= set(SELECTABLE)
    return known and (not dot or side in SIDES)


@dataclass(frozen=True)
class Matrix:
    """One weight matrix of a layer.

    Args:
        role: role in the layer.
        name: module path below the layer.
        inputs: input features.
        outputs: output features.
        bias: whether it has a bias.
        conv1d: whether the weight is stored transposed (transformers' Conv1D).
        stack: 1 in the decoder of an encoder-decoder, else 0.
        cross: whether it belongs to cross-attention.
        positions: number of relative-position embeddings that pass through it once per forward pass, in addition
            to the tokens (shared projections of DeBERTa).
        layers: indices of its layers where not every layer of the stack has it; empty where every layer does.
        experts: number of routed experts whose matrices are stacked in one parameter, whose path is the name; 0 for
            a module. The sizes are those of one expert.
        active: number of those experts that a token passes.
        is_shared: whether it belongs to a shared expert.
        is_renamed: whether peft's LoRA takes its name for that of routed experts, so that it can only be named as a
            parameter.
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
    layers: tuple[int, ...] = ()
    experts: int = 0
    active: int = 1
    is_shared: bool = False
    is_renamed: bool = False

    def is_in(self, layer: int) -> bool:
        """Return whether a layer of its stack has the matrix."""
        return not self.layers or layer in self.layers

    @property
    def site(self) -> str:
        """The role, with the prefix `cross-` in cross-attention and `experts-` in routed experts."""
        if self.experts:
            return f"experts-{self.role}"
        return f"cross-{self.role}" if self.cross else self.role

    @property
    def by_parameter(self) -> bool:
        """Whether peft's LoRA reaches it as a parameter, whose weight it replaces in each forward pass."""
        return self.is_renamed or self.experts > 0


@dataclass(frozen=True)
class Norm:
    """One normalization with trainable parameters.

    Args:
        layer: index of its layer. The last normalization of the model has the depth as its index, and the last one
            of an encoder below a decoder that of the top layer of the encoder.
        name: full module path.
        place: what reads its output.
        size: number of features.
        bias: whether it has a shift (LayerNorm) in addition to the scale.
    """

    layer: int
    name: str
    place: Place
    size: int
    bias: bool

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return self.size * (2 if self.bias else 1)


@dataclass(frozen=True)
class HeadMatrix:
    """One matrix above the layers.

    Args:
        name: full module path.
        inputs: input features.
        outputs: output features.
        trained: whether it is trained with the adapter, or frozen.
        per_token: whether it is applied to each token, or once per sequence.
        bias: whether it has a bias.
    """

    name: str
    inputs: int
    outputs: int
    trained: bool
    per_token: bool
    bias: bool = False


@dataclass(frozen=True)
class FrozenPart:
    """Weights of one layer that no adapter reaches, such as experts, with the FLOPs of their products.

    Args:
        layer: index of the layer.
        place: what they read: the input of "attention" or of the "feed-forward" network, "mixer", which
            a state-space mixer computes from it, "hidden", which the matrices `up`, `gate` and `gate_up` write, or
            "experts-hidden", which those of routed experts write.
        forward: forward FLOPs per token.
        backward: backward FLOPs per token for the gradient of what they read, where it needs one.
        weights: backward FLOPs per token for the gradients of the weights, if they are trained.
        pair_forward: forward FLOPs per pair of tokens.
        pair_backward: backward FLOPs per pair of tokens, where the input needs a gradient.
        sequence: forward FLOPs per sequence, and `sequence_products` times as many backward, where the input needs a
            gradient.
        sequence_products: number of backward products for each of those.
        chunk: number of tokens to a multiple of which the sequence is padded; 0 without padding.
    """

    layer: int
    place: Literal["attention", "mixer", "feed-forward", "hidden", "experts-hidden"]
    forward: float
    backward: float
    weights: float
    pair_forward: float = 0.0
    pair_backward: float = 0.0
    sequence: float = 0.0
    sequence_products: int = 1
    chunk: int = 0

    def padded(self, tokens: float) -> FrozenPart:
        """Return the part with the FLOPs of the padding of sequences of `tokens` tokens."""
        if not self.chunk:
            return self
        factor = math.ceil(tokens / self.chunk) * self.chunk / tokens
        return replace(
            self,
            forward=self.forward * factor,
            backward=self.backward * factor,
            pair_forward=self.pair_forward * factor**2,
            pair_backward=self.pair_backward * factor**2,
            chunk=0,
        )
