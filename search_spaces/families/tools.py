"""Small things that several families hand to peft."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.shapes import ModelShape, TaskType

if TYPE_CHECKING:
    from peft import TaskType as PeftTask


def peft_task(task: TaskType) -> PeftTask | None:
    """peft's name for a task: a regression is a classification with one output, and images have no name."""
    from peft import TaskType as PeftTask

    if task == "image-classification":
        return None
    return PeftTask.CAUSAL_LM if task == "causal-lm" else PeftTask.SEQ_CLS


def trained_modules(shape: ModelShape) -> list[str] | None:
    """A new list for `modules_to_save`, since peft appends to the one it is given; None without a head."""
    return list(shape.head_modules) or None
