"""Attention in fp32 on CPUs.

The backward pass of PyTorch's fused attention (flash attention, Dao et al., 2022, arXiv 2205.14135) takes up to seven
times as long in bf16 as in fp32 on a CPU, even on one with instructions for bf16. `python -m benchmarks.attention`
measures both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Fp32Attention(TorchFunctionMode):
    """A context in which scaled dot-product attention is computed in fp32 and returned in the dtype of the values.

    Example:
        >>> query = torch.ones(1, 1, 2, 4, dtype=torch.bfloat16)
        >>> with torch.autocast("cpu", torch.bfloat16), Fp32Attention():
        ...     functional.scaled_dot_product_attention(query, query, query).dtype
        torch.bfloat16
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
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    if attn_mask is not None and attn_mask.is_floating_point():
        attn_mask = attn_mask.float()
    with torch.autocast(query.device.type, enabled=False):
        mixed = functional.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask, *args, **kwargs
        )
    return mixed.to(value.dtype)
