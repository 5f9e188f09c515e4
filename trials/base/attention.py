"""Attention in fp32 on CPUs, and which implementations of attention this machine can train with.

The backward pass of PyTorch's fused attention (flash attention, Dao et al., 2022, arXiv 2205.14135) takes up to seven
times as long in bf16 as in fp32 on a CPU, even on one with instructions for bf16. `python -m benchmarks.attention`
measures both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from trials.tasks.specs import AUTO, ModelSpec

USUAL = (AUTO, "eager", "sdpa")
"""Implementations that train on every device."""
_FIELD = "model.attn_implementation"


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


def check_attention(spec: ModelSpec, device: torch.device) -> None:
    """Reject an implementation of attention that transformers lacks or this machine cannot train with.

    Raises:
        InvalidInputError: The implementation is unknown, or its package, device or number format is missing.
    """
    name = spec.attn_implementation
    if name in USUAL:
        return
    known = _registered()
    if name not in known:
        what = f"transformers has no attention {name!r}"
        raise InvalidInputError(Problem(_FIELD, what, did_you_mean(name, known)))
    reason = _flash_problem(name, spec, device) if name.startswith("flash_attention") else None
    if name == "flex_attention" and device.type == "cpu":
        reason = "PyTorch has no backward pass of flex_attention on CPUs"
    if reason is not None:
        raise InvalidInputError(Problem(_FIELD, reason, "Write sdpa, or auto."))


def _registered() -> list[str]:
    """Return the implementations that transformers has, without those that only generate text."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return sorted({*USUAL, *(name for name in ALL_ATTENTION_FUNCTIONS.valid_keys() if "|" not in name)})


def _flash_problem(name: str, spec: ModelSpec, device: torch.device) -> str | None:
    """Return why flash attention of the package's version in the name cannot run, or None if it can."""
    import transformers.utils as utils

    if device.type != "cuda":
        return f"{name} runs on CUDA devices only, and the device is {device.type}"
    is_installed = getattr(utils, f"is_flash_attn_{name.rpartition('_')[2]}_available", lambda: True)
    if not is_installed():
        return f"{name} needs its package (flash-attn), which is not installed for this GPU"
    if "bf16" not in (spec.weights, spec.precision) and spec.precision != AUTO:
        return f"{name} computes in bf16, and precision is {spec.precision}"
    return None


def attends_in_fp32(device: torch.device, autocast: torch.dtype) -> bool:
    """Return whether attention is computed in fp32 although autocast is on.

    Args:
        device: The device of the model.
        autocast: The dtype of autocast; fp32 means none.
    """
    return device.type == "cpu" and autocast != torch.float32


def attention_context(device: torch.device, autocast: torch.dtype) -> AbstractContextManager[object]:
    """Return the context in which attention is computed; arguments as in `attends_in_fp32`."""
    return Fp32Attention() if attends_in_fp32(device, autocast) else nullcontext()


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
