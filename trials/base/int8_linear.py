"""Products with the frozen matrices in int8, on CPUs.

On a CPU a trial spends most of its time in products with the frozen matrices, and a CPU with VNNI instructions
multiplies 8-bit integers several times as fast as fp32. So each row of the input and of the matrix is divided by its
largest magnitude and rounded to 127 steps; the sums are exact, and the result is fp32 again. The gradient of the
input is a product of the same kind with the transposed matrix. This is SwitchBack (Wortsman et al., 2023, arXiv
2304.13013) without its third product, the weight's gradient, which a frozen matrix does not have. Adapters,
normalizations, attention, the head and the optimizer compute in fp32.

Each row has its own scale, so the result of a row does not depend on the other rows of the batch, up to the rounding
of the last products in fp32: on a processor with AMX, oneDNN gives few rows (up to 32, with up to 256 outputs in all)
to another kernel, which multiplies the exact sum by the two scales in another order. That is off by 5e-7 of a number
at most.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from search_spaces.errors import InvalidInputError, Problem
from trials.base import processor
from trials.base.frozen_linear import Form, padded_rows

_STEPS, _ZERO = 127, 128
_BLOCK = 1 << 17
"""The numbers that are rounded at a time, so that they stay in the cache between two passes."""
_LEAST = 1e-30
"""The divisor of a row of zeros."""


class Int8Matrix:
    """A matrix in int8 with one scale per output.

    Args:
        weight: The matrix in fp32, shape [outputs, inputs].
    """

    def __init__(self, weight: torch.Tensor) -> None:
        largest = weight.abs().amax(1).clamp_min(_LEAST)
        whole = (weight * (_STEPS / largest[:, None])).round().to(torch.int8).contiguous()
        self._weight = torch.ops.onednn.qlinear_prepack(whole, None)
        self._multiply = torch.ops.onednn.qlinear_pointwise.default
        self._scales = largest / _STEPS
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)

    def __call__(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with x, shape [n, inputs], plus `bias`, in fp32 with shape [n, outputs]."""
        n = len(x)
        whole, largest = _in_steps(x)
        y: torch.Tensor = self._multiply(
            whole,
            1.0 / _STEPS,
            _ZERO,
            self._weight,
            self._scales,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )[:n]
        return y.mul_(largest) if bias is None else torch.addcmul(bias, y, largest, out=y)


def _in_steps(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each row of x in steps of its largest magnitude, padded with rows, and these magnitudes, shape [n, 1].

    The steps are counted from 128, because oneDNN has no fast product of two signed factors. Adding 1.5 · 2^23 to a
    number removes its fractional bits, and leaves the rounded value in its lowest byte.
    """
    n, width = x.shape
    largest = torch.maximum(x.amax(1, keepdim=True), -x.amin(1, keepdim=True)).clamp_min_(_LEAST)
    padded = torch.empty(padded_rows(n), width, dtype=torch.uint8)
    padded[n:] = _ZERO
    steps = padded[:n]
    size = max(_BLOCK // width, 1)
    block, offset = torch.empty(min(size, n), width), torch.full((width,), 1.5 * 2**23 + _ZERO)
    for rows, factor, out in zip(
        x.split(size), (_STEPS / largest).split(size), steps.split(size), strict=True
    ):
        raised = torch.addcmul(offset, rows, factor, out=block[: len(rows)])
        out.view(torch.int8).copy_(raised.view(torch.int32))
    return padded, largest


class Int8Form(Form):
    """A frozen matrix in int8, for the forward and for the backward pass.

    Args:
        source: The matrix in fp32, shape [outputs, inputs].
    """

    def __init__(self, source: torch.Tensor) -> None:
        self.source = source
        self.matrix, self.transposed = Int8Matrix(source), Int8Matrix(source.t())

    def __deepcopy__(self, memo: dict[int, Any]) -> Int8Form:
        return self

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return x, shape [n, inputs], times the transposed matrix plus `bias`; fp32, shape [n, outputs]."""
        return self.matrix(x, bias)

    def backward(self, grad: torch.Tensor) -> torch.Tensor:
        """Return a gradient, shape [n, outputs], times the matrix; fp32, shape [n, inputs]."""
        return self.transposed(grad)

    def with_other(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return the product in fp32: rounding a matrix that changes in every step would take longer."""
        return functional.linear(x, weight, bias)


def check_int8(device: torch.device) -> None:
    """Refuse a machine that multiplies int8 no faster than fp32, or not exactly.

    Raises:
        InvalidInputError: the machine would compute on another device than the CPU, the CPU has no VNNI
            instructions, or oneDNN is kept from using them.
    """
    if device.type != "cpu":
        what = f"int8 is supported on CPUs only, and the device of this machine is {device.type}"
        raise InvalidInputError(Problem("model.precision", what, "Write bf16, or device: cpu."))
    if not processor.multiplies_int8():
        what = "this CPU multiplies int8 no faster than fp32 (it has no VNNI instructions)"
        raise InvalidInputError(Problem("model.precision", what, "Write fp32."))
    if not _sums_are_exact():
        what = "oneDNN multiplies int8 without the processor's VNNI instructions, and its sums saturate"
        raise InvalidInputError(Problem("model.precision", what, "Unset ONEDNN_MAX_CPU_ISA, or write fp32."))


def _sums_are_exact() -> bool:
    """Return whether a product of the largest factors is right: without VNNI, oneDNN adds pairs in 16 bits."""
    ones = torch.ones(64, 64)
    return torch.allclose(Int8Matrix(ones)(ones), ones.sum(1))
