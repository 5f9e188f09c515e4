"""Linear layers with plain LoRA, of several configurations at once and with as few passes as there can be.

peft's layer makes, beside the products, a scaled copy and a sum of the size of the output, and autograd does
the same on the way back. On a small model those passes over memory take as long as the products. Here the
low-rank term is added by the product that makes it, forward and backward: the numbers are the same up to
rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from trials.base.int8_linear import Int8Form, form_of


class Factors(NamedTuple):
    """What one configuration adds: y += scale · (x Aᵀ) Bᵀ, with A of [rank, inputs], B of [outputs, rank].

    `dropout` is what stands before A; while it trains, this is not what the layer computes.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    dropout: nn.Module


def plain_factors(layer: Any, base: nn.Module) -> Factors | None:
    """The factors of a peft LoRA layer that does nothing but add them to `base`; None for any other layer.

    DoRA and other variants, trained biases and a base weight of its own (PiSSA) are the others: they are
    computed as peft does.
    """
    from peft.tuners.lora.layer import Linear

    if type(layer) is not Linear or not isinstance(base, nn.Linear) or len(layer.active_adapters) != 1:
        return None
    name = layer.active_adapters[0]
    if layer.disable_adapters or layer.merged or name in layer.lora_variant or name not in layer.lora_A:
        return None
    a, b = layer.lora_A[name], layer.lora_B[name]
    own = layer.get_base_layer()
    if a.bias is not None or b.bias is not None or own.weight.data_ptr() != base.weight.data_ptr():
        return None
    if base.weight.requires_grad or any(t.dtype != torch.float32 for t in (a.weight, b.weight, base.weight)):
        return None
    dropout = layer.lora_dropout[name]
    if isinstance(dropout, nn.Identity):
        dropout = nn.Identity().eval()
    return Factors(a.weight, b.weight, float(layer.scaling[name]), dropout)


def add_products(
    x: torch.Tensor, base: nn.Linear, parts: Sequence[tuple[slice, Factors | None]]
) -> torch.Tensor:
    """The base's output for x of shape [rows, …, inputs], with each part's own term on its rows.

    The parts cover the rows in order; None adds nothing.
    """
    spans, factors = [], []
    inner = x[0].numel() // x.shape[-1]
    for rows, own in parts:
        if own is not None:
            spans.append((rows.start * inner, rows.stop * inner, own.scale))
            factors += [own.a, own.b]
    flat = x.reshape(-1, x.shape[-1])
    y = _Products.apply(flat, base.weight, base.bias, form_of(base), tuple(spans), *factors)
    return y.view(*x.shape[:-1], y.shape[-1])


class _Products(torch.autograd.Function):
    """x of [n, inputs]; weight and bias frozen, the weight in fp32 where it has no form in int8; spans are (start,
    stop, scale) of the pairs A, B that follow."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        form: Int8Form | None,
        spans: tuple[tuple[int, int, float], ...],
        *factors: torch.Tensor,
    ) -> torch.Tensor:
        y = functional.linear(x, weight, bias) if form is None else form.forward(x, bias)
        inner = []
        for (start, stop, scale), a, b in zip(spans, factors[::2], factors[1::2], strict=True):
            low = x[start:stop] @ a.t()
            y[start:stop].addmm_(low, b.t(), alpha=scale)
            inner.append(low)
        ctx.spans, ctx.form = spans, form
        ctx.save_for_backward(x, weight, *factors, *inner)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = gradients
        x, weight, *rest = ctx.saved_tensors
        pairs, inner = rest[: 2 * len(ctx.spans)], rest[2 * len(ctx.spans) :]
        needed = ctx.needs_input_grad
        grad_x = None
        if needed[0]:
            grad_x = grad @ weight if ctx.form is None else ctx.form.backward(grad)
        found: list[torch.Tensor | None] = []
        for i, (start, stop, scale) in enumerate(ctx.spans):
            a, b = pairs[2 * i : 2 * i + 2]
            own = grad[start:stop]
            low = (own @ b).mul_(scale)
            if grad_x is not None:
                grad_x[start:stop].addmm_(low, a)
            found.append(low.t() @ x[start:stop] if needed[5 + 2 * i] else None)
            found.append((own.t() @ inner[i]).mul_(scale) if needed[6 + 2 * i] else None)
        return grad_x, None, None, None, None, *found
