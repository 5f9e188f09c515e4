"""Which tensors of a transformer layer need a gradient: how autograd truncates the backward pass.

A frozen matrix costs a backward product only where its input needs a gradient, and a tensor needs one
only if something trainable lies upstream of it. In the layers above the lowest adapted one everything does.
In the lowest adapted layer it depends on where in the layer the adapter sits, its site:

* a role (`q`, `k`, `v`, `qkv`, `o`, `gate`, `up`, `gate_up`, `down`): the output of that matrix;
* a place of a normalization (`attention`, `feed-forward`, `output`, or `q`, `k` for normalized queries or
  keys): what that normalization feeds;
* `prefix`: keys and values from elsewhere, in cross-attention too; `down-input`: what the last feed-forward
  matrix reads;
* `cross-q`, `cross-k`, `cross-v`, `cross-o` and the place `cross-attention`: the same in the cross-attention of
  a decoder, which stands between its attention and its feed-forward part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from search_spaces.model.shape import ModelShape


@dataclass(frozen=True)
class LayerGradients:
    """Whether the named tensors of one layer need a gradient.

    Args:
        attention: what the matrices of q, k and v read.
        q, k, v: queries, keys (with a prefix in front, if any) and values as attention multiplies them.
        mixed: attention's output, which the matrix o reads.
        feed_forward: what the matrices gate and up read.
        hidden: what the matrix down reads.
        cross: what the matrix q of cross-attention reads.
        memory: the encoder's output, which the matrices k and v of cross-attention read.
        cross_q, cross_k, cross_v, cross_mixed: as above, of cross-attention.
    """

    attention: bool
    q: bool
    k: bool
    v: bool
    mixed: bool
    feed_forward: bool
    hidden: bool
    cross: bool = False
    memory: bool = False
    cross_q: bool = False
    cross_k: bool = False
    cross_v: bool = False
    cross_mixed: bool = False

    def reads(self, site: str) -> bool:
        """Whether the input of the matrix at that site (its role, or `cross-` and its role) needs a gradient."""
        match site:
            case "o":
                return self.mixed
            case "gate" | "up" | "gate_up":
                return self.feed_forward
            case "down":
                return self.hidden
            case "cross-q":
                return self.cross
            case "cross-k" | "cross-v":
                return self.memory
            case "cross-o":
                return self.cross_mixed
            case _:
                return self.attention

    @property
    def attention_products(self) -> int:
        """Backward products of attention (of four), each as large as one of its two forward products.

        The probabilities need a gradient if queries or keys do, and passing it on costs one product for
        each of the two that does.
        """
        return (self.q or self.k) + self.q + self.k + self.v

    @property
    def cross_products(self) -> int:
        """The same of cross-attention."""
        return (self.cross_q or self.cross_k) + self.cross_q + self.cross_k + self.cross_v


@lru_cache(maxsize=1024)
def layer_gradients(
    sites: frozenset[str],
    *,
    incoming: bool = False,
    parallel: bool = False,
    decoder: bool = False,
    memory: bool = False,
) -> LayerGradients:
    """The gradients that one layer needs.

    Args:
        sites: where the layer itself trains something; see the top of this file.
        incoming: whether the layer's input needs a gradient already.
        parallel: whether the feed-forward part reads the layer's input instead of attention's output.
        decoder: whether the layer has cross-attention.
        memory: whether the encoder's output needs a gradient.
    """
    attention = incoming or "attention" in sites
    fused = attention or "qkv" in sites
    prefix = "prefix" in sites
    q = fused or "q" in sites
    k = fused or prefix or "k" in sites
    v = fused or prefix or "v" in sites
    mixed = q or k or v
    residual = incoming if parallel else incoming or mixed or "o" in sites
    cross = decoder and (residual or "cross-attention" in sites)
    cross_q = decoder and (cross or "cross-q" in sites)
    cross_k = decoder and (memory or prefix or "cross-k" in sites)
    cross_v = decoder and (memory or prefix or "cross-v" in sites)
    cross_mixed = cross_q or cross_k or cross_v
    residual = residual or cross_mixed or (decoder and "cross-o" in sites)
    feed_forward = residual or "feed-forward" in sites
    hidden = feed_forward or bool(sites & {"gate", "up", "gate_up", "down-input"})
    return LayerGradients(
        attention=attention,
        q=q,
        k=k,
        v=v,
        mixed=mixed,
        feed_forward=feed_forward,
        hidden=hidden,
        cross=cross,
        memory=memory,
        cross_q=cross_q,
        cross_k=cross_k,
        cross_v=cross_v,
        cross_mixed=cross_mixed,
    )


def reached_layers(
    shape: ModelShape, lowest: int, sites: Mapping[int, frozenset[str]]
) -> Iterator[tuple[int, LayerGradients]]:
    """The layers that backpropagation reaches, lowest first, and what needs a gradient in each.

    Args:
        lowest: where it ends: the lowest adapted layer, or -1 for the input.
        sites: where a layer trains something, by layer; those of `layers_apart` are enough.
    """
    for layer in range(max(lowest, 0), shape.depth):
        yield layer, gradients_in(shape, layer, lowest, sites.get(layer, _NOTHING))


def layers_apart(shape: ModelShape, lowest: int) -> Sequence[int]:
    """The layers whose gradients hang on what they train themselves: in the others above `lowest` every tensor
    needs one.

    In a single stack that is the lowest adapted layer. The decoder's first layer reads embeddings, frozen
    whatever trains in the encoder; and if nothing trains there, then what the decoder reads beside its own
    input, the encoder's output, needs no gradient in any of its layers.
    """
    if not shape.decoder_depth:
        return (lowest,)
    encoder = shape.encoder_depth
    return (lowest, encoder) if lowest < encoder else range(lowest, shape.depth)


def gradients_in(
    shape: ModelShape, layer: int, lowest: int, sites: frozenset[str] = frozenset()
) -> LayerGradients:
    """What needs a gradient in a layer that backpropagation reaches; see `reached_layers`."""
    encoder = shape.encoder_depth
    decoder = layer >= encoder
    memory = decoder and lowest < encoder
    start = encoder if memory and lowest >= 0 else lowest
    return layer_gradients(
        sites, incoming=layer > start, parallel=shape.parallel, decoder=decoder, memory=memory
    )


_NOTHING: frozenset[str] = frozenset()
