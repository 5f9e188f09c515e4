"""Attention in fp32."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from trials.base.attention import Fp32Attention


def padding() -> torch.Tensor:
    return (torch.arange(7) < torch.tensor([[7], [5]]))[:, None, None]


OPTIONS = {
    "none": {},
    "causal": {"is_causal": True},
    "boolean mask": {"attn_mask": padding()},
    "additive mask": {"attn_mask": torch.zeros(2, 1, 5, 7).masked_fill(~padding(), -1e9).bfloat16()},
    "scale": {"scale": 0.3},
}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_bf16_is_computed_in_fp32_and_returned_in_bf16(name, autocast):
    torch.manual_seed(0)
    tensors = [torch.randn(2, 4, n, 8).bfloat16().requires_grad_() for n in (5, 7, 7)]
    exact = {
        key: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in OPTIONS[name].items()
    }
    wanted = functional.scaled_dot_product_attention(*(tensor.float() for tensor in tensors), **exact)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), Fp32Attention():
        got = functional.scaled_dot_product_attention(*tensors, **OPTIONS[name])
    torch.testing.assert_close(got, wanted.to(torch.bfloat16), rtol=0, atol=0)
    gradients = torch.autograd.grad(got.sum(), tensors)
    for one, other in zip(gradients, torch.autograd.grad(wanted.sum(), tensors), strict=True):
        torch.testing.assert_close(one, other)


def test_other_functions_are_not_changed():
    x = torch.randn(3, 4)
    with Fp32Attention():
        assert torch.equal(functional.softmax(x, -1), torch.softmax(x, -1))
