"""Attention with prefixes, registered with transformers under separate names.

transformers selects an attention function, and the function that builds its mask, by `config._attn_implementation`,
and passes it the attention module. The functions here read the module's prefix, prepend it to keys and values,
extend the mask, and call the original implementation. Masks have shape [batch, 1 or heads, queries, keys], with
True or 0 where a query attends to a key. Keys and values have shape [batch, heads, keys, head width].
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .layer import CompositeLayer
from .prefix import Prefix

_SUFFIX = "_with_prefix"
_MASKS: dict[str, Callable[..., torch.Tensor | None]] = {"eager": eager_mask, "sdpa": sdpa_mask}


def register_attention() -> None:
    """Register the attention functions and their masks with transformers."""
    for name in _MASKS:
        ALL_ATTENTION_FUNCTIONS.register(name + _SUFFIX, _attention(name))
        ALL_MASK_ATTENTION_FUNCTIONS.register(name + _SUFFIX, _mask(name))


def with_prefixes(model: nn.Module, attention: nn.Module) -> None:
    """Switch a model and one of its attention modules to the functions of this module.

    Raises:
        ValueError: The module has its own attention code, or an implementation other than eager and sdpa.
    """
    for module in (model, attention):
        config = getattr(module, "config", None)
        current = getattr(config, "_attn_implementation", None)
        if config is None or current is None:
            raise ValueError(
                f"a prefix needs transformers' attention interface; {type(module).__name__} has none"
            )
        if current.endswith(_SUFFIX):
            continue
        if current not in _MASKS:
            raise ValueError(
                f"a prefix needs attn_implementation eager or sdpa, not {current!r}; load the model with sdpa"
            )
        config._attn_implementation = current + _SUFFIX


def without_prefixes(model: nn.Module) -> None:
    """Restore the original attention implementation in the whole model."""
    for module in model.modules():
        config = getattr(module, "config", None)
        current = getattr(config, "_attn_implementation", None)
        if config is not None and isinstance(current, str):
            config._attn_implementation = current.removesuffix(_SUFFIX)


def _attention(name: str) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
    def forward(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        prefix = _prefix_of(module)
        if prefix is not None:
            keys, values = (tensor.to(key.dtype).expand(key.shape[0], -1, -1, -1) for tensor in prefix)
            attention_mask = _extended_mask(module, query, key, attention_mask, keys.shape[2], kwargs)
            key, value = torch.cat((keys, key), dim=2), torch.cat((values, value), dim=2)
            if kwargs.get("position_bias") is not None:  # a prefix has no position and so no bias
                kwargs["position_bias"] = nn.functional.pad(kwargs["position_bias"], (keys.shape[2], 0))
        if name == "eager":
            # Each architecture has its own eager function, in the file of its attention module.
            delegate = sys.modules[type(module).__module__].eager_attention_forward
        else:
            delegate = ALL_ATTENTION_FUNCTIONS[name]
        return delegate(module, query, key, value, attention_mask, **kwargs)

    return forward


def _mask(name: str) -> Callable[..., torch.Tensor | None]:
    def mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
        # The kernel must not apply the causal mask itself: with a prefix the keys start before the queries.
        return _MASKS[name](*args, **{**kwargs, "allow_is_causal_skip": False})

    return mask


def _prefix_of(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return keys and values of an attention module's active prefixes, [1, heads, virtual, head width] each."""
    found = [
        own
        for child in module.children()
        if isinstance(child, CompositeLayer)
        for part, own in child.active()
        if isinstance(part, Prefix)
    ]
    if not found:
        return None
    keys, values = (torch.cat([own[name] for own in found], dim=1)[None] for name in ("keys", "values"))
    return keys, values


def _extended_mask(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    virtual: int,
    options: dict[str, Any],
) -> torch.Tensor | None:
    """Return the mask with `virtual` visible columns before it, or None if every query attends to every key."""
    queries, keys = query.shape[2], key.shape[2]
    if mask is None:
        causal = options.get("is_causal")
        if not (getattr(module, "is_causal", False) if causal is None else causal) or queries == 1:
            options["is_causal"] = False
            return None
        mask = torch.ones(queries, keys, dtype=torch.bool, device=key.device).tril(keys - queries)[None, None]
    visible = torch.ones if mask.dtype == torch.bool else torch.zeros
    front = visible((*mask.shape[:-1], virtual), dtype=mask.dtype, device=mask.device)
    return torch.cat((front, mask), dim=-1)
