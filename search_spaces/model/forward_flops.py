"""The FLOPs of a forward pass in closed form, and their correction by those that torch counts.

Attention of an unusual kind (of landmarks, say) has other products than the closed form assumes. Where a network runs
on torch's meta device, its FLOPs are counted at two lengths, and what the closed form lacks is added to every layer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from search_spaces.model.parts import FrozenPart
from search_spaces.model.shape import ModelShape

if TYPE_CHECKING:
    from torch import nn

_LENGTHS = (128, 256)
"""Numbers of tokens at which FLOPs are counted; half of what the model has positions for if that is less."""
_NEGLIGIBLE = 1e-3
"""The share of the counted FLOPs up to which the closed form is left as it is."""


class ForwardFlops(NamedTuple):
    """The FLOPs of a forward pass of the frozen model with its head.

    Args:
        token: FLOPs per token.
        pair: FLOPs per pair of tokens of a sequence.
        sequence: FLOPs per sequence.
        step: FLOPs per batch.
    """

    token: float
    pair: float
    sequence: float
    step: float


def forward_flops(shape: ModelShape) -> ForwardFlops:
    """Return the FLOPs of a forward pass; a shared layer counts as often as it runs."""
    shape = shape.unrolled
    shares = shape.target_shares
    weights = ((m, len(shape.layers_of(m)) * shares.of_matrix(m)) for m in shape.matrices)
    matrices = 2.0 * sum(m.inputs * m.outputs * weight for m, weight in weights)
    terms = 2.0 * shape.depth * len(shape.position_terms) * shape.attention_width * shape.positions
    below = 2.0 * sum(inputs * outputs for inputs, outputs in shape.input_matrices)
    head = {
        per_token: 2.0 * sum(m.inputs * m.outputs for m in shape.head if m.per_token == per_token)
        for per_token in (True, False)
    }
    frozen = shape.frozen_parts
    decoders = (shares.pair + shares.cross) * shape.decoder_depth
    attentions = shape.encoder_depth + decoders - len(shape.without_attention)
    pair = 2.0 * (shape.query_width + shape.attention_width)
    return ForwardFlops(
        token=matrices
        + terms
        + below
        + head[True] * (shares.token if shape.decoder_depth else 1.0)
        + sum(part.forward * shares.of_stack(shape.stack_of(part.layer)) for part in frozen),
        pair=attentions * pair + sum(part.pair_forward for part in frozen),
        sequence=head[False] + shape.patch_flops + sum(part.sequence for part in frozen),
        step=shape.position_flops,
    )


def corrected(shape: ModelShape, network: nn.Module) -> ModelShape | None:
    """Return the shape with what the closed form lacks of the counted FLOPs, or None if they cannot be counted.

    Args:
        shape: the shape of the network.
        network: the network, on the meta device.
    """
    most = shape.max_positions or max(_LENGTHS)
    lengths = (min(_LENGTHS[0], most // 4), min(_LENGTHS[1], most // 2))
    counted = [seen for tokens in lengths if (seen := _counted(network, tokens)) is not None]
    if len(counted) < len(lengths):
        return None
    lacking = [
        seen.get("", 0) - _predicted(shape, tokens) for seen, tokens in zip(counted, lengths, strict=True)
    ]
    if all(abs(gap) <= _NEGLIGIBLE * seen.get("", 0) for gap, seen in zip(lacking, counted, strict=True)):
        return shape
    shares = [
        _by_layer(shape, seen, gap, tokens)
        for seen, gap, tokens in zip(counted, lacking, lengths, strict=True)
    ]
    parts = []
    for layer, gaps in enumerate(zip(*shares, strict=True)):
        per_token = [gap / tokens for gap, tokens in zip(gaps, lengths, strict=True)]
        pair = (per_token[1] - per_token[0]) / (lengths[1] - lengths[0])
        token = per_token[0] - pair * lengths[0]
        parts.append(
            FrozenPart(
                layer,
                "attention",
                forward=token,
                backward=token,
                weights=token,
                pair_forward=pair,
                pair_backward=2 * pair,
            )
        )
    return replace(shape, frozen_parts=(*shape.frozen_parts, *parts))


def _by_layer(shape: ModelShape, seen: dict[str, int], lacking: float, tokens: int) -> list[float]:
    """Return what the closed form lacks in each layer, for one run of it; equal shares where layers are alike."""
    if shape.is_uniform:
        return [lacking / shape.unrolled.depth] * shape.depth
    shape = shape.at_length(tokens)
    shares = []
    for layer in range(shape.depth):
        token = 2.0 * sum(m.inputs * m.outputs for m in shape.in_layer(layer))
        pair = 2.0 * shape.attends(layer) * (shape.query_width + shape.attention_width)
        frozen = [part for part in shape.frozen_parts if part.layer == layer]
        known = (token + sum(part.forward for part in frozen)) * tokens + sum(p.sequence for p in frozen)
        known += (pair + sum(part.pair_forward for part in frozen)) * tokens**2
        shares.append(seen.get(shape.layer_path(layer), 0) - known)
    outside = (lacking - sum(shares)) / shape.depth
    return [share + outside for share in shares]


def _predicted(shape: ModelShape, tokens: int) -> float:
    flops = forward_flops(shape.at_length(tokens))
    return flops.token * tokens + flops.pair * tokens**2 + flops.sequence + flops.step


def _counted(network: nn.Module, tokens: int) -> dict[str, int] | None:
    """Return the FLOPs of the forward pass of one text, by module path and in total under "".

    Returns:
        None if the network does not run on the meta device.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.ones((1, tokens), dtype=torch.long, device="meta")
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            network.eval()(input_ids=ids)
    except Exception:  # of any kind: it depends on what the network reads of its tensors
        return None
    counts = {
        path.partition(".")[2]: sum(by_kind.values()) for path, by_kind in counter.get_flop_counts().items()
    }
    return {**counts, "": counter.get_total_flops()}
