"""Prefix tuning: trained keys and values before those of every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import AdapterCost, Family, register
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Int, Value

if TYPE_CHECKING:
    from peft import PeftConfig

_DEFAULT_TOKENS = 8


@register
class PrefixTuning(Family):
    """Trains `tokens` virtual keys and values in every layer (Li and Liang, 2021, arXiv 2101.00190).

    They are trained directly, without the reparametrization network of the paper.
    """

    name = "prefix"
    title = "prefix tuning (Li and Liang, 2021)"
    quantized = True
    parameters = (
        Int(name="tokens", low=1, high=64, log=True, default=_DEFAULT_TOKENS),
        Float(name="learning_rate", low=1e-3, high=1e-2, log=True, default=3e-3),
    )

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if shape.accepts_prefix:
            return None
        return (
            f"{shape.model_type} accepts no keys and values from outside (its forward has no past_key_values "
            "that peft can set)"
        )

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        """tokens · layers · 2 · d_kv parameters; only attention reads them, as additional keys and values."""
        tokens = int(config.get("tokens", _DEFAULT_TOKENS))
        return AdapterCost(
            parameters=tokens * shape.depth * 2 * shape.kv_width,
            lowest_layer=0,
            lowest_sites=frozenset({"prefix"}),
            extra_keys=tokens,
        )

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            task_type=peft_task(task),
            num_virtual_tokens=int(config.get("tokens", _DEFAULT_TOKENS)),
            num_layers=shape.depth,
            num_attention_heads=shape.heads,
            token_dim=shape.width,  # peft reduces it where key and value heads are fewer
            modules_to_save=trained_modules(shape),
        )
