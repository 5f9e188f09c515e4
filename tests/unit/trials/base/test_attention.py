"""Attention in separate products against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from trials.base import attention
from trials.base.attention import LONGEST, UnfusedAttention


def inputs(keys: int, key_heads: int = 4, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [(2, 4, 5, 8), (2, key_heads, keys, 8), (2, key_heads, keys, 6)]
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def padding(keys: int) -> torch.Tensor:
    return (torch.arange(keys) < torch.tensor([[keys], [keys - 2]]))[:, None, None]


MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "boolean": {"attn_mask": padding(7)},
    "additive": {"attn_mask": torch.zeros(2, 1, 5, 7).masked_fill(~padding(7), -1e9)},
    "scale": {"scale": 0.3},
    "groups": {"enable_gqa": True},
}


@pytest.mark.parametrize("name", MASKS)
def test_outputs_and_gradients_are_those_of_the_fused_kernel(name, monkeypatch):
    tensors, options = inputs(7, key_heads=2 if name == "groups" else 4), MASKS[name]
    wanted = functional.scaled_dot_product_attention(*tensors, **options)
    weights = torch.randn_like(wanted)
    called = []
    apply = attention._Attention.apply
    monkeypatch.setattr(attention._Attention, "apply", lambda *given: called.append(1) or apply(*given))
    with UnfusedAttention():
        got = functional.scaled_dot_product_attention(*tensors, **options)
    assert called
    torch.testing.assert_close(got, wanted)
    for one, other in zip(
        torch.autograd.grad((got * weights).sum(), tensors),
        torch.autograd.grad((wanted * weights).sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def trained_mask() -> torch.Tensor:
    return torch.zeros(1, 1, 5, 7, requires_grad=True)


@pytest.mark.parametrize(
    ("keys", "options"),
    [(LONGEST + 1, {}), (7, {"dropout_p": 1.0}), (7, {"attn_mask": trained_mask()})],
    ids=["long", "dropout", "trained mask"],
)
def test_the_rest_is_left_to_the_fused_kernel(keys, options, monkeypatch):
    monkeypatch.setattr(attention._Attention, "apply", None)
    tensors = inputs(keys)
    wanted = functional.scaled_dot_product_attention(*tensors, **options)
    with UnfusedAttention():
        got = functional.scaled_dot_product_attention(*tensors, **options)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("keys", [7, LONGEST + 1])
@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_is_computed_in_fp32_and_returned_in_bf16(keys, autocast):
    tensors = inputs(keys, dtype=torch.bfloat16)
    wanted = functional.scaled_dot_product_attention(*(tensor.float() for tensor in tensors))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), UnfusedAttention():
        got = functional.scaled_dot_product_attention(*tensors)
    torch.testing.assert_close(got, wanted.to(torch.bfloat16), rtol=0, atol=0)


def test_a_row_in_which_nothing_may_be_read_stays_finite():
    tensors = inputs(7)
    nothing = torch.zeros(2, 1, 5, 7, dtype=torch.bool)
    with UnfusedAttention():
        mixed = functional.scaled_dot_product_attention(*tensors, attn_mask=nothing)
    assert mixed.isfinite().all()


def test_other_functions_are_not_changed():
    x = torch.randn(3, 4)
    with UnfusedAttention():
        assert torch.equal(functional.softmax(x, -1), torch.softmax(x, -1))
