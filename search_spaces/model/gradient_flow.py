"""Gradient flow: the tensors of a transformer layer that need a gradient when autograd truncates the backward pass.

A frozen matrix costs a backward product only if its input needs a gradient, and a tensor needs a gradient only if a
trainable tensor precedes it in the forward pass. In the layers above the lowest adapted one, all tensors need one. In
the lowest adapted layer it depends on the site of the adapter in the layer:

* a role (`q`, `k`, `v`, `qkv`, `kv`, `o`, `mixer`, `gate`, `up`, `gate_up`, `down`): the output of that matrix;
* a place of a normalization (`attention`, `feed-forward`, `input` for both, `output`, or `q`, `k` for normalized
  queries or keys): the output of that normalization;
* `experts-gate_up`, `experts-down` and so on: the output of that matrix of the routed experts;
* `prefix`: external keys and values, also in cross-attention; `down-input`: the input of the matrix `down`;
* `cross-q`, `cross-k`, `cross-v`, `cross-o` and the place `cross-attention`: the same in the cross-attention of a
  decoder, which lies between its attention and its feed-forward network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from search_spaces.model.shape import ModelShape


@dataclass(frozen=True)
class LayerGradients:
    """Whether each tensor of one layer needs a gradient.

    Args:
        attention: the input of the matrices q, k and v.
        q: the queries.
        k: the keys, with the prefix if there is one.
        v: the values, with the prefix if there is one.
        mixed: the output of attention, which is the input of the matrix o.
        feed_forward: the input of the matrices gate and up.
        hidden: the input of the matrix down.
        experts_hidden: the input of the matrix down of routed experts.
        mixer: what a state-space mixer computes, in place of attention or beside it.
        cross: the input of the matrix q of cross-attention.
        memory: the encoder's output, which is the input of the matrices k and v of cross-attention.
        cross_q: the queries of cross-attention.
        cross_k: the keys of cross-attention.
        cross_v: the values of cross-attention.
        cross_mixed: the output of cross-attention.
    """

    attention: bool
    q: bool
    k: bool
    v: bool
    mixed: bool
    feed_forward: bool
    hidden: bool
    experts_hidden: bool = False
    mixer: bool = False
    cross: bool = False
    memory: bool = False
    cross_q: bool = False
    cross_k: bool = False
    cross_v: bool = False
    cross_mixed: bool = False

    def reads(self, site: str) -> bool:
        """Return whether the input of the matrix at a site (its role, or `cross-` and its role) needs a gradient."""
        match site:
            case "o":
                return self.mixed
            case "gate" | "up" | "gate_up" | "experts-gate" | "experts-up" | "experts-gate_up":
                return self.feed_forward
            case "down":
                return self.hidden
            case "experts-down":
                return self.experts_hidden
            case "cross-q":
                return self.cross
            case "cross-k" | "cross-v":
                return self.memory
            case "cross-o":
                return self.cross_mixed
            case _:
                return self.attention

    def enters(self, place: str) -> bool:
        """Return whether what a frozen part reads needs a gradient; see `FrozenPart.place`."""
        return {
            "attention": self.attention,
            "mixer": self.mixer,
            "feed-forward": self.feed_forward,
            "hidden": self.hidden,
            "experts-hidden": self.experts_hidden,
        }[place]

    @property
    def score_products(self) -> int:
        """Number of backward products of the scores (0 to 2): for the gradients of queries and of keys."""
        return self.q + self.k

    @property
    def value_products(self) -> int:
        """Number of backward products with the values (0 to 2): for the gradients of probabilities and of values."""
        return (self.q or self.k) + self.v

    @property
    def attention_products(self) -> int:
        """Number of backward products of attention (0 to 4), each as large as one of its two forward products.

        The attention probabilities need a gradient if queries or keys do; then each of the two costs one product.
        """
        return self.score_products + self.value_products

    @property
    def cross_products(self) -> int:
        """Number of backward products of cross-attention, as in `attention_products`."""
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
    """Return which tensors of one layer need a gradient.

    Args:
        sites: sites of the layer with trainable parameters; see the module docstring.
        incoming: whether the input of the layer needs a gradient.
        parallel: whether the feed-forward network reads the layer's input instead of the output of attention.
        decoder: whether the layer has cross-attention.
        memory: whether the encoder's output needs a gradient.
    """
    attention = incoming or "attention" in sites or "input" in sites
    fused = attention or "qkv" in sites
    keys_and_values = "prefix" in sites or "kv" in sites
    q = fused or "q" in sites
    k = fused or keys_and_values or "k" in sites
    v = fused or keys_and_values or "v" in sites
    mixed = q or k or v
    mixer = attention or "mixer" in sites
    residual = incoming if parallel else incoming or mixed or mixer or "o" in sites
    cross = decoder and (residual or "cross-attention" in sites)
    cross_q = decoder and (cross or "cross-q" in sites)
    cross_k = decoder and (memory or "prefix" in sites or "cross-k" in sites)
    cross_v = decoder and (memory or "prefix" in sites or "cross-v" in sites)
    cross_mixed = cross_q or cross_k or cross_v
    residual = residual or cross_mixed or (decoder and "cross-o" in sites)
    feed_forward = residual or "feed-forward" in sites or "input" in sites
    hidden = feed_forward or bool(sites & {"gate", "up", "gate_up", "down-input"})
    experts_hidden = feed_forward or bool(sites & {"experts-gate", "experts-up", "experts-gate_up"})
    return LayerGradients(
        attention=attention,
        q=q,
        k=k,
        v=v,
        mixed=mixed,
        feed_forward=feed_forward,
        hidden=hidden,
        experts_hidden=experts_hidden,
        mixer=mixer,
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
    """Iterate over the layers that backpropagation reaches, lowest first, with their gradients.

    Args:
        shape: shape of the model.
        lowest: the layer at which backpropagation ends: the lowest adapted layer, or -1 for the input.
        sites: sites with trainable parameters by layer; those of `layers_apart` are sufficient.
    """
    for layer in range(max(lowest, 0), shape.depth):
        yield layer, gradients_in(shape, layer, lowest, sites.get(layer, _NOTHING))


def layers_apart(shape: ModelShape, lowest: int) -> Sequence[int]:
    """Return the layers whose gradients depend on their own sites; in the others above `lowest`, all need one.

    In a single stack this is the lowest adapted layer. The first layer of a decoder reads embeddings, which are
    frozen even if the encoder is adapted. If the encoder is not adapted, its output needs no gradient in any decoder
    layer, so the gradients of every decoder layer depend on its own sites.
    """
    if not shape.decoder_depth:
        return (lowest,)
    encoder = shape.encoder_depth
    return (lowest, encoder) if lowest < encoder else range(lowest, shape.depth)


def gradients_in(
    shape: ModelShape, layer: int, lowest: int, sites: frozenset[str] = frozenset()
) -> LayerGradients:
    """Return which tensors need a gradient in a layer that backpropagation reaches; see `reached_layers`."""
    encoder = shape.encoder_depth
    decoder = layer >= encoder
    memory = decoder and lowest < encoder
    start = encoder if memory and lowest >= 0 else lowest
    return layer_gradients(
        sites, incoming=layer > start, parallel=shape.parallel, decoder=decoder, memory=memory
    )


_NOTHING: frozenset[str] = frozenset()
