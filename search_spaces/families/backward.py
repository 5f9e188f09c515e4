"""Which tensors of a transformer layer need a gradient: how autograd truncates the backward pass.

A frozen matrix costs a backward product only where its input needs a gradient, and a tensor needs one
only if something trainable lies upstream of it. In the layers above the lowest adapted one everything does.
In the lowest adapted layer it depends on where in the layer the adapter sits, its site:

* a role (`q`, `k`, `v`, `qkv`, `o`, `gate`, `up`, `gate_up`, `down`): the output of that matrix;
* a place of a normalisation (`attention`, `feed-forward`, `output`, or `q`, `k` for normalised queries or
  keys): what that normalisation feeds;
* `prefix`: keys and values from elsewhere; `down-input`: what the last feed-forward matrix reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from search_spaces.shapes import Role


@dataclass(frozen=True)
class LayerGradients:
    """Whether the named tensors of one layer need a gradient.

    Args:
        attention: what the matrices of q, k and v read.
        q, k, v: queries, keys (with a prefix in front, if any) and values as attention multiplies them.
        mixed: attention's output, which the matrix o reads.
        feed_forward: what the matrices gate and up read.
        hidden: what the matrix down reads.
    """

    attention: bool
    q: bool
    k: bool
    v: bool
    mixed: bool
    feed_forward: bool
    hidden: bool

    def reads(self, role: Role) -> bool:
        """Whether the input of the matrix with that role needs a gradient."""
        match role:
            case "o":
                return self.mixed
            case "gate" | "up" | "gate_up":
                return self.feed_forward
            case "down":
                return self.hidden
            case _:
                return self.attention

    @property
    def attention_products(self) -> int:
        """Backward products of attention (of four), each as large as one of its two forward products.

        The probabilities need a gradient if queries or keys do, and passing it on costs one product for
        each of the two that does.
        """
        return (self.q or self.k) + self.q + self.k + self.v


@lru_cache(maxsize=1024)
def layer_gradients(
    sites: frozenset[str], *, incoming: bool = False, parallel: bool = False
) -> LayerGradients:
    """The gradients that one layer needs.

    Args:
        sites: where the layer itself trains something; see the top of this file.
        incoming: whether the layer's input needs a gradient already.
        parallel: whether the feed-forward part reads the layer's input instead of attention's output.
    """
    attention = incoming or "attention" in sites
    fused = attention or "qkv" in sites
    prefix = "prefix" in sites
    q = fused or "q" in sites
    k = fused or prefix or "k" in sites
    v = fused or prefix or "v" in sites
    mixed = q or k or v
    residual = incoming if parallel else incoming or mixed or "o" in sites
    feed_forward = residual or "feed-forward" in sites
    hidden = feed_forward or bool(sites & {"gate", "up", "gate_up", "down-input"})
    return LayerGradients(attention, q, k, v, mixed, feed_forward, hidden)
