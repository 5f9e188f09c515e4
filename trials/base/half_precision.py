"""Frozen matrices in bf16.

Autocast casts a weight in every forward pass, and keeps the cast one only where the weight needs a gradient, so a
frozen matrix is cast once and for all here. There are two ways:

* On a CPU, `Bf16Form` multiplies the matrix in bf16, and everything else is fp32 (see `frozen_linear.py`): oneDNN
  compiles a kernel for every shape in bf16, and adapters and attention have many shapes, of little work each.
* Elsewhere autocast multiplies everything in bf16, and `store_in_bf16` stores the matrices of the layers in it. The
  products are the same to the last bit, and a matrix takes half the memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from search_spaces.model.shape import ModelShape
from trials.base.frozen_linear import Form, padded_rows, replace_linear, with_form


class Bf16Form(Form):
    """A frozen matrix in bf16, for the forward and for the backward pass.

    Args:
        source: The matrix in fp32, shape [outputs, inputs].
    """

    def __init__(self, source: torch.Tensor) -> None:
        self.source, self._weight = source, source.to(torch.bfloat16)

    def __deepcopy__(self, memo: dict[int, Any]) -> Bf16Form:
        return self

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return x, shape [n, inputs], times the transposed matrix plus `bias`; fp32, shape [n, outputs]."""
        y = functional.linear(_padded(x), self._weight)[: len(x)].float()
        return y if bias is None else y.add_(bias)

    def backward(self, grad: torch.Tensor) -> torch.Tensor:
        """Return a gradient, shape [n, outputs], times the matrix; fp32, shape [n, inputs]."""
        return (_padded(grad) @ self._weight)[: len(grad)].float()

    def with_other(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return the product of x and another matrix in bf16, plus the bias, in fp32."""
        y = functional.linear(x.to(torch.bfloat16), weight.to(torch.bfloat16)).float()
        return y if bias is None else y + bias


def _padded(x: torch.Tensor) -> torch.Tensor:
    """Return x, shape [n, width], in bf16 with rows of zeros up to a number of rows that has a kernel."""
    n = len(x)
    padded = torch.empty(padded_rows(n), x.shape[1], dtype=torch.bfloat16)
    padded[:n].copy_(x)
    padded[n:].zero_()
    return padded


def store_in_bf16(model: nn.Module, shape: ModelShape) -> None:
    """Store the weights and biases of the layers' linear modules in bf16, in place."""
    for part in layer_lists(model, shape):
        for module in part.modules():
            if type(module) not in (nn.Linear, Conv1D):
                continue
            for parameter in module.parameters(recurse=False):
                if parameter.is_floating_point():
                    parameter.data = parameter.data.to(torch.bfloat16)


def multiply_in_bf16(model: nn.Module, shape: ModelShape) -> bool:
    """Multiply the frozen matrices of the layers, and of a language model's output, in bf16 on a CPU.

    Returns:
        Whether the layers have linear modules; those of GPT-2 have others, and are left as they are.
    """
    if not sum(replace_linear(part, Bf16Form) for part in layer_lists(model, shape)):
        return False
    for name in (matrix.name for matrix in shape.head if matrix.name not in shape.head_modules):
        module = model.get_submodule(name)
        if type(module) is nn.Linear:
            model.set_submodule(name, with_form(module, Bf16Form))
    return True


def layer_lists(model: nn.Module, shape: ModelShape) -> list[nn.Module]:
    """Return the lists of layers of a model, of its encoder and of its decoder."""
    paths = [shape.layers_path] + ([shape.decoder_path] if shape.decoder_path is not None else [])
    return [model.get_submodule(path) for path in paths]
