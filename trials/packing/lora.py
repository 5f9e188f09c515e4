"""Linear layers with plain LoRA, for several configurations at once and with few passes over memory.

Beside the products, peft's layer makes a scaled copy and a sum of the size of the output, and autograd does the same
in the backward pass. On a small model these passes take as long as the products. Here the product that computes the
low-rank term also adds it, forward and backward; the numbers are equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from trials.base.frozen_linear import Form, form_of


class Factors(NamedTuple):
    """The term that one configuration adds: y += scale · (x Aᵀ) Bᵀ.

    Args:
        a: A, shape [rank, inputs].
        b: B, shape [outputs, rank].
        scale: The factor of the term.
        dropout: The layer before A; while it is in training mode, the term is not what the layer computes.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    dropout: nn.Module


def plain_factors(layer: Any, base: nn.Module) -> Factors | None:
    """Return the factors of a peft LoRA layer that only adds its term to the output of `base`, else None.

    Other layers, which peft computes, are DoRA and further variants, layers with a trained bias, and layers with a
    base weight of their own (PiSSA).
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
    if base.weight.requires_grad or base.weight.dtype not in (torch.float32, torch.bfloat16):
        return None
    if any(factor.weight.dtype != torch.float32 for factor in (a, b)):
        return None
    dropout = layer.lora_dropout[name]
    if isinstance(dropout, nn.Identity):
        dropout = nn.Identity().eval()
    return Factors(a.weight, b.weight, float(layer.scaling[name]), dropout)


def computes_as_stored(base: nn.Module, x: torch.Tensor) -> bool:
    """Return whether a layer would multiply x in the dtype in which its matrix is stored, fp32 or bf16."""
    if not isinstance(base, nn.Linear):
        return False
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type) == base.weight.dtype
    return x.dtype == base.weight.dtype == torch.float32


def add_products(
    x: torch.Tensor, base: nn.Linear, parts: Sequence[tuple[slice, Factors | None]]
) -> torch.Tensor:
    """Return the base layer's output with each configuration's own term added to its rows.

    Args:
        x: The input, shape [rows, …, inputs].
        base: The base model's frozen layer.
        parts: The rows of each configuration, in order and without gaps, and its factors; None adds nothing.
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
    """The product of x, shape [n, inputs], with a frozen weight and bias, plus low-rank terms.

    `spans` holds (start, stop, scale) for each of the pairs A, B in `factors`, which are in fp32. All products are
    in the dtype of the weight, except those of a form.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        form: Form | None,
        spans: tuple[tuple[int, int, float], ...],
        *factors: torch.Tensor,
    ) -> torch.Tensor:
        ctx.source, x = x.dtype, x.to(weight.dtype)
        factors = tuple(factor.to(weight.dtype) for factor in factors)
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
            found.append((low.t() @ x[start:stop]).float() if needed[5 + 2 * i] else None)
            found.append((own.t() @ inner[i]).float().mul_(scale) if needed[6 + 2 * i] else None)
        return None if grad_x is None else grad_x.to(ctx.source), None, None, None, None, *found
