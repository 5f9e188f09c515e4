"""Training of only the head on frozen features, the cheapest point of every front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.families.framework.base import AdapterCost, Family, register
from search_spaces.families.framework.peft_helpers import peft_task, trained_modules
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Float, Value

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class HeadOnly(Family):
    """Trains the head only; it is a LoRA without targets, so that it is saved and loaded like other adapters."""

    name = "head"
    title = "head only (linear probe)"
    quantized = True
    parameters = (Float(name="learning_rate", low=1e-4, high=1e-2, log=True, default=1e-3),)

    def unsupported(self, shape: ModelShape, task: TaskType) -> str | None:
        if task in ("causal-lm", "seq2seq"):
            return "a language model has no head to train; its output embeddings belong to the base model"
        return None

    def cost(self, config: Mapping[str, Value], shape: ModelShape) -> AdapterCost:
        return AdapterCost(parameters=0, lowest_layer=shape.depth, mergeable=True)

    def peft_config(self, config: Mapping[str, Value], shape: ModelShape, task: TaskType) -> PeftConfig:
        from peft import LoraConfig
        from peft.utils.constants import DUMMY_TARGET_MODULES

        return LoraConfig(
            task_type=peft_task(task),
            target_modules=DUMMY_TARGET_MODULES,
            r=1,
            modules_to_save=trained_modules(shape),
        )
