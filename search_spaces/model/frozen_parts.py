"""Weights of a layer that no adapter reaches, and the FLOPs of their products with the tokens.

Every matrix multiplies each token once, except those of experts, of which each token passes a few. Vectors are
elementwise and cost nothing.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from search_spaces.model.module_names import expert_role, is_expert, is_in_attention
from search_spaces.model.parts import FrozenPart

Place = Literal["attention", "mixer", "feed-forward", "hidden", "experts-hidden"]
"""What a part reads; see `FrozenPart.place`."""

STATE_SPACE = ("mamba", "mamba2", "falcon_mamba")
"""Architectures whose layers are Mamba mixers and nothing else, so that their matrices have the roles of a
feed-forward network."""

_EXPERT_COUNTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
_ACTIVE_COUNTS = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_k", "top_k")
"""Names in configurations of the number of experts, and of those that a token passes."""


def frozen_parts(
    layer: int, name: str, sizes: dict[str, tuple[int, ...]], config: Any, mixer: Any = None
) -> list[FrozenPart]:
    """Return one module's share of the FLOPs of its layer; nothing if it multiplies nothing.

    Args:
        layer: index of the layer.
        name: module path below the layer.
        sizes: shapes of the module's own parameters, by name.
        config: the model's configuration.
        mixer: the state-space mixer that the module is or is in, if any.
    """
    if mixer is not None:
        place: Place = "hidden" if config.model_type in STATE_SPACE else "mixer"
        part = _mixer_part(layer, sizes, mixer, place)
        return [] if part is None else [part]
    if is_expert(name):
        return _expert_parts(layer, name, sizes, config)
    flops = sum(2.0 * math.prod(size) for size in sizes.values() if len(size) >= 2)
    place = "attention" if is_in_attention(name) else "feed-forward"
    return [FrozenPart(layer, place, flops, flops, weights=flops)] if flops else []


def _expert_parts(layer: int, name: str, sizes: dict[str, tuple[int, ...]], config: Any) -> list[FrozenPart]:
    """Return a part for each matrix of experts, of which a token passes a few; their biases have two dimensions."""
    dimensions = 2 if _SINGLE.search(name) else 3
    found = []
    for parameter, size in sizes.items():
        if len(size) >= dimensions:
            flops = 2.0 * math.prod(size) * _active_share(config)
            role = expert_role(f"{name}.{parameter}")
            place: Place = "experts-hidden" if role == "down" else "feed-forward"
            found.append(FrozenPart(layer, place, flops, flops, weights=flops))
    return found


_SINGLE = re.compile(r"(^|\.)experts\.\d+\.")
"""Modules of single experts, which are not stacked in one parameter."""


def _mixer_part(layer: int, sizes: dict[str, tuple[int, ...]], mixer: Any, place: Place) -> FrozenPart | None:
    """Return a part of the mixer of Mamba (Gu and Dao, 2023, arXiv 2312.00752, algorithm 2) or of Mamba-2.

    In Mamba the states are as large as the matrix A. Each token multiplies them with its own C, and both need a
    gradient. The convolution runs over the padding before and after the sequence too.
    """
    if len(sizes.get("A_log", ())) == 1:
        return _chunked_scan(layer, mixer, place)
    flops = sum(2.0 * math.prod(size) for size in sizes.values() if len(size) > 1)
    if not flops:
        return None
    if "A_log" in sizes:
        return FrozenPart(layer, place, flops, 2 * flops, weights=0.0)
    padding = sizes["weight"][2] - 1 if len(sizes.get("weight", ())) == 3 else 0
    return FrozenPart(layer, place, flops, flops, weights=flops, sequence=padding * flops)


def _chunked_scan(layer: int, mixer: Any, place: Place) -> FrozenPart | None:
    """Return the scan of Mamba-2 over chunks of tokens (Dao and Gu, 2024, arXiv 2405.21060, section 6).

    Within a chunk of c tokens there are scores of C with B and their products with x, as in attention. The states at
    the ends of the chunks are summed over all chunks before, starting with a state of zeros. Both factors of each
    product need a gradient.
    """
    sizes = [getattr(mixer, name, None) for name in ("num_heads", "head_dim", "ssm_state_size", "chunk_size")]
    if None in sizes:
        return None  # a recurrence of another kind, whose FLOPs `forward_flops.corrected` counts
    heads, width, state, chunk = (float(size or 0) for size in sizes)
    states = 2.0 * heads * width * state
    forward = 2.0 * heads * chunk * (state + width) + 2 * states + 2 * states / chunk
    pair = states / chunk**2
    return FrozenPart(
        layer,
        place,
        forward=forward,
        backward=2 * forward,
        weights=0.0,
        pair_forward=pair,
        pair_backward=2 * pair,
        sequence=states,
        sequence_products=2,
        chunk=int(chunk),
    )


def _active_share(config: Any) -> float:
    """Return the share of the experts that a token passes."""
    experts, active = expert_count(config), _first(config, _ACTIVE_COUNTS)
    if not experts or not active:
        raise ValueError(
            "model: its configuration has neither the number of its experts nor that of those that a token passes "
            f"({', '.join((*_EXPERT_COUNTS, *_ACTIVE_COUNTS))})"
        )
    return active / experts


def active_count(config: Any) -> int:
    """Return the number of experts that a token passes, or 0 if the configuration names none."""
    return _first(config, _ACTIVE_COUNTS) or 0


def expert_count(config: Any) -> int:
    """Return the number of experts of a layer, or 0 if the configuration names none."""
    return _first(config, _EXPERT_COUNTS) or 0


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    return next((int(value) for name in names if (value := getattr(config, name, None))), None)


def xlnet_parts(depth: int, width: int) -> list[FrozenPart]:
    """Return the attention of XLNet, whose weights are no modules (Yang et al., 2019, arXiv 1906.08237, section 2.3).

    Queries, keys, values and outputs multiply each token. Relative positions, two for each token, multiply the fifth
    matrix in every sequence, and the queries; they need no gradient.

    Args:
        depth: number of layers.
        width: hidden size, which is that of all heads together.
    """
    product, positions = 8.0 * width**2, 4.0 * width**2
    pairs = 4.0 * width
    forward = product + positions
    return [
        FrozenPart(layer, "attention", forward, product, forward, pair_forward=pairs, pair_backward=pairs)
        for layer in range(depth)
    ]


def longformer_parts(depth: int, width: int) -> list[FrozenPart]:
    """Return the attention to and from the first token of Longformer (Beltagy et al., 2020, section 3.1).

    All tokens pass the matrices of its keys and values, and it passes that of its queries. Its products with the
    tokens are four, of which each has two in the backward pass. In the lowest adapted layer some of them are computed
    although the input of attention needs no gradient; they are not counted.

    Args:
        depth: number of layers.
        width: hidden size, which is that of all heads together.
    """
    matrices, products = 4.0 * width**2, 8.0 * width
    return [
        FrozenPart(
            layer,
            "attention",
            forward=matrices + products,
            backward=matrices + 2 * products,
            weights=matrices,
            sequence=2.0 * width**2,
        )
        for layer in range(depth)
    ]
