"""Linear layers whose frozen matrix is multiplied in another number format than fp32, on CPUs.

A layer has the matrix in fp32, which adapters read, and a form of it that is multiplied. Its input and output are
fp32, and so is everything else: adapters, normalizations, attention, the head and the optimizer. A frozen matrix has
no gradient, so there are two products: one with the matrix and one, of the gradient, with its transpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn


class Form(Protocol):
    """A frozen matrix as it is multiplied. It never changes, and copies of a model share it.

    Args:
        source: The matrix in fp32, shape [outputs, inputs].
    """

    source: torch.Tensor

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return x, shape [n, inputs], times the transposed matrix plus `bias`; fp32, shape [n, outputs]."""

    def backward(self, grad: torch.Tensor) -> torch.Tensor:
        """Return a gradient, shape [n, outputs], times the matrix; fp32, shape [n, inputs]."""

    def with_other(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return the product with another matrix of the same shape, which may be trained."""


class FrozenLinear(nn.Linear):
    """A linear layer whose frozen matrix is multiplied in a form of it.

    Args:
        linear: The layer whose weight and bias are shared.
        form: The form of its weight.
    """

    def __init__(self, linear: nn.Linear, form: Form) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.own_form = form

    @property
    def form(self) -> Form | None:
        """The form; None if an adapter trains or has replaced the matrix, which is then multiplied by itself."""
        same = self.weight.data_ptr() == self.own_form.source.data_ptr() and not self.weight.requires_grad
        return self.own_form if same else None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        form = self.form
        if form is None:
            return self.own_form.with_other(input, self.weight, self.bias)
        y: torch.Tensor = _Product.apply(input.reshape(-1, input.shape[-1]), self.bias, form)
        return y.view(*input.shape[:-1], y.shape[-1])


class _Product(torch.autograd.Function):
    """The product of x, shape [n, inputs], with a form, plus a bias that may be trained."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, form: Form) -> torch.Tensor:
        ctx.form = form
        return form.forward(x, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = gradients
        towards_x, towards_bias = ctx.needs_input_grad[:2]
        return (
            ctx.form.backward(grad) if towards_x else None,
            grad.sum(0) if towards_bias else None,
            None,
        )


def form_of(layer: nn.Linear) -> Form | None:
    """Return the form of a layer's matrix, or None if it is multiplied as it is stored."""
    return layer.form if isinstance(layer, FrozenLinear) else None


def replace_linear(part: nn.Module, make: Callable[[torch.Tensor], Form]) -> int:
    """Replace every linear layer inside `part` by one with a form, and return how many there are."""
    found = [(path, module) for path, module in part.named_modules() if type(module) is nn.Linear]
    for path, module in found:
        part.set_submodule(path, with_form(module, make))
    return len(found)


def with_form(linear: nn.Linear, make: Callable[[torch.Tensor], Form]) -> FrozenLinear:
    """Return the layer with a form of its weight; weight and bias are shared."""
    return FrozenLinear(linear, make(linear.weight.detach()))


def padded_rows(n: int) -> int:
    """Return the number of rows, at least n, that a product of n rows is computed with.

    oneDNN compiles a kernel for every number of rows. A kernel takes half a millisecond and two thirds of a MiB,
    and packs of texts without padding have a new number of tokens in every step. Here there are eight numbers per
    power of two, which adds 3 % on average.

    Example:
        >>> padded_rows(1000), padded_rows(1025), padded_rows(5)
        (1024, 1152, 16)
    """
    step = 1 << max((n - 1).bit_length() - 4, 4)
    return -(-n // step) * step
