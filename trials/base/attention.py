"""Attention on CPUs: in fp32, and for short texts in separate products.

PyTorch's fused kernel (flash attention, Dao et al., 2022, arXiv 2205.14135) recomputes the probabilities in the
backward pass and keeps no matrix of tokens times tokens. On CPUs its backward pass in bf16 takes up to seven times as
long as in fp32, so attention in bf16 is computed in fp32. Its blocks are larger than a short text. There the scores
are one batched product, the probabilities are kept, and the backward pass consists of four batched products.
`python -m benchmarks.attention` measures both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LONGEST = 64
"""The number of keys up to which separate products are faster than the fused kernel."""


class UnfusedAttention(TorchFunctionMode):
    """A context in which scaled dot-product attention is that of `attention`.

    Example:
        >>> query = torch.ones(1, 1, 2, 4)
        >>> with UnfusedAttention():
        ...     functional.scaled_dot_product_attention(query, query, query).shape
        torch.Size([1, 1, 2, 4])
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace the one function, and call every other as it is."""
        if func is functional.scaled_dot_product_attention:
            return attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Return `torch.nn.functional.scaled_dot_product_attention` of the arguments in fp32, up to rounding.

    On CPUs it consists of separate products for up to `LONGEST` keys. More keys, dropout, trained masks, and other
    devices use PyTorch's own kernels.

    Args:
        query: Shape [rows, heads, queries, width].
        key: Shape [rows, key heads, keys, width].
        value: Shape [rows, key heads, keys, value width].
        attn_mask: True or 0 where a query may read a key; shape broadcastable to [rows, heads, queries, keys].
        dropout_p: The probability of dropout.
        is_causal: Whether a query reads only keys up to its own position.
        scale: The factor of the scores; by default one over the root of the width.
        enable_gqa: Whether several heads share a key head.
    """
    with torch.autocast(query.device.type, enabled=False):
        q, k, v = (each.float() for each in (query, key, value))
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.float()
        if not _suits_products(q, k, attn_mask, dropout_p):
            mixed = functional.scaled_dot_product_attention(
                q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
            return mixed.to(value.dtype)
        if enable_gqa:
            groups = q.shape[1] // k.shape[1]
            k, v = (each.repeat_interleave(groups, dim=1) for each in (k, v))
        if is_causal:
            attn_mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        factor = q.shape[-1] ** -0.5 if scale is None else scale
        return _Attention.apply(q, k, v, attn_mask, factor).to(value.dtype)


def _suits_products(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, dropout: float) -> bool:
    is_trained = mask is not None and mask.requires_grad
    return (
        q.device.type == "cpu" and q.dim() == 4 and k.shape[-2] <= LONGEST and not dropout and not is_trained
    )


class _Attention(torch.autograd.Function):
    """Attention in separate products; shapes as in `attention`, with as many key heads as heads."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        q, k, v = (each.flatten(0, 1) for each in (query, key, value))
        scores = torch.bmm(q, k.transpose(1, 2)).view(*query.shape[:2], q.shape[1], k.shape[1]).mul_(scale)
        if mask is not None and mask.dtype == torch.bool:
            # The least number instead of -inf: a row of padding, in which nothing may be read, stays finite.
            scores.masked_fill_(mask.logical_not(), torch.finfo(scores.dtype).min)
        elif mask is not None:
            scores.add_(mask)
        probabilities = torch.softmax(scores, -1).flatten(0, 1)
        ctx.save_for_backward(q, k, v, probabilities)
        ctx.scale, ctx.outer = scale, query.shape[:2]
        return torch.bmm(probabilities, v).unflatten(0, ctx.outer)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, probabilities = ctx.saved_tensors
        grad = gradients[0].flatten(0, 1)
        to_value = torch.bmm(probabilities.transpose(1, 2), grad)
        to_scores = torch._softmax_backward_data(
            torch.bmm(grad, v.transpose(1, 2)), probabilities, -1, probabilities.dtype
        ).mul_(ctx.scale)
        to_query, to_key = torch.bmm(to_scores, k), torch.bmm(to_scores.transpose(1, 2), q)
        return *(each.unflatten(0, ctx.outer) for each in (to_query, to_key, to_value)), None, None
