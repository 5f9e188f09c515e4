"""Models without their upper layers: the same embeddings, lowest layers, final normalization and head.

A share such as 25 % becomes values of the model's configuration, which `from_pretrained` takes as keyword arguments.
So a truncated model is loaded from the files of the whole one, which stay as they are, and only the weights of its
own layers are kept.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from search_spaces.percentages import parse_percentage

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_DEPTHS = ("num_hidden_layers", "encoder_layers")
_DECODER_DEPTHS = ("num_decoder_layers", "decoder_layers")
_PER_LAYER = (
    "layer_types",
    "layers_block_type",
    "mlp_layer_types",
    "indexer_types",
    "no_rope_layers",
    "attention_layers",
    "attention_window",
)
"""Lists in a configuration with an entry for each layer."""
_INDICES = ("attn_layer_indices", "hybrid_layer_ids", "mlp_only_layers")
"""Lists in a configuration of the layers that have something."""
_FROM_THE_TOP = ("num_kv_shared_layers",)
"""Numbers of layers counted from the top, which would reach other layers in a truncated model."""


def is_share_of_layers(name: str) -> bool:
    """Return whether the name of a base model is a share of the layers of the sweep's own model, such as `25%`."""
    return parse_percentage(name) is not None


def layers_kept(depth: int, share: float) -> int:
    """Return the number of the lowest layers that a share keeps: the nearest number, and at least one."""
    return min(max(round(share * depth), 1), depth)


def truncated_settings(config: PretrainedConfig, share: float) -> dict[str, Any]:
    """Return the values of a model's configuration that leave its lowest layers.

    Args:
        config: the configuration of the whole model.
        share: the share of the layers that stay; of each stack, for an encoder-decoder.

    Returns:
        Keyword arguments of `from_pretrained`, by name; empty if every layer stays.

    Raises:
        ValueError: the architecture has no simple stack of layers.

    Example:
        >>> truncated_settings(AutoConfig.from_pretrained("roberta-base"), 0.25)
        {'num_hidden_layers': 3}
    """
    _check_simple(config)
    depth = int(config.num_hidden_layers)
    kept = layers_kept(depth, share)
    found: dict[str, Any] = {name: kept for name in _DEPTHS if hasattr(config, name)}
    found |= {
        name: layers_kept(int(number), share)
        for name in _DECODER_DEPTHS
        if (number := getattr(config, name, None)) is not None
    }
    if all(getattr(config, name) == number for name, number in found.items()):
        return {}
    for name in _PER_LAYER:
        values = _stored_list(config, name)
        if len(values) == depth:
            found[name] = values[:kept]
    for name in _INDICES:
        values = _stored_list(config, name)
        if values:
            found[name] = [index for index in values if index < kept]
    if hasattr(config, "attention_types") and "attention_layers" in found:  # GPT-Neo's form of the same list
        found["attention_types"] = [[[kind], 1] for kind in found["attention_layers"]]
    return found


def truncated_config(config: PretrainedConfig, share: float) -> PretrainedConfig:
    """Return the configuration of a model without its upper layers; arguments and errors as `truncated_settings`."""
    settings = truncated_settings(config, share)
    found = copy.deepcopy(config)
    for name, value in settings.items():
        setattr(found, name, value)
    return found


def _stored_list(config: PretrainedConfig, name: str) -> list[Any]:
    """Return a list of a configuration; empty if it has none, or derives it from other values."""
    derived = getattr(type(config), config.attribute_map.get(name, name), None)
    if isinstance(derived, property) and derived.fset is None:
        return []
    values = getattr(config, name, None)
    return list(values) if isinstance(values, list | tuple) else []


def _check_simple(config: PretrainedConfig) -> None:
    """Refuse a model whose layers are not one stack, or one per side, that can be cut.

    Raises:
        ValueError: with the reason.
    """
    reason = None
    if config.get_text_config() is not config and not getattr(config, "is_encoder_decoder", False):
        reason = "it has further networks beside the one that reads text"
    elif not getattr(config, "num_hidden_layers", None) or getattr(config, "depths", None) is not None:
        reason = "its configuration has no single number of layers"
    elif getattr(config, "num_hidden_groups", None) is not None:
        reason = "its layers share their weights"
    elif any(getattr(config, name, 0) for name in _FROM_THE_TOP):
        reason = "its upper layers share the keys and values of lower ones"
    if reason is not None:
        raise ValueError(f"model: {config.model_type} cannot be used without its upper layers: {reason}")
