"""Small things that several families hand to peft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search_spaces.model.shape import ModelShape, TaskType

if TYPE_CHECKING:
    from peft import TaskType as PeftTask
    from torch import nn


def peft_task(task: TaskType) -> PeftTask | None:
    """peft's name for a task: a regression is a classification with one output, and images have no name."""
    from peft import TaskType as PeftTask

    if task == "image-classification":
        return None
    return PeftTask.CAUSAL_LM if task == "causal-lm" else PeftTask.SEQ_CLS


def trained_modules(shape: ModelShape) -> list[str] | None:
    """A new list for `modules_to_save`, since peft appends to the one it is given; None without a head."""
    return list(shape.head_modules) or None


def unadaptable(shape: ModelShape, method: str) -> str | None:
    """Why a method that peft has only for `torch.nn.Linear` cannot work on this model, or None if it can."""
    if not shape.conv1d:
        return None
    return (
        f"{shape.model_type} stores its matrices transposed (Conv1D); peft's {method} takes nn.Linear alone"
    )


def freeze(model: nn.Module, factors: Mapping[str, float]) -> None:
    """Freeze the parameters whose factor is 0; `factors` as `Family.learning_rate_factors` gives them."""
    frozen = {part for part, factor in factors.items() if factor == 0}
    if frozen:
        for name, parameter in model.named_parameters():
            if frozen.intersection(name.split(".")):
                parameter.requires_grad_(False)
