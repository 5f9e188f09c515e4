"""Arguments of peft configurations that several families share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.model.shape import ModelShape, TaskType

if TYPE_CHECKING:
    from peft import TaskType as PeftTask


def peft_task(task: TaskType) -> PeftTask | None:
    """Return peft's type of a task: regression is a classification with one output, and images have no type."""
    from peft import TaskType as PeftTask

    if task == "image-classification":
        return None
    kinds = {
        "causal-lm": PeftTask.CAUSAL_LM,
        "seq2seq": PeftTask.SEQ_2_SEQ_LM,
        "token-classification": PeftTask.TOKEN_CLS,
    }
    return kinds.get(task, PeftTask.SEQ_CLS)


def without_token_labels(task: TaskType) -> str | None:
    """Return why virtual tokens do not work where each token has a label, or None for other tasks."""
    if task != "token-classification":
        return None
    return (
        "peft puts virtual tokens before the text; the head scores them too, but there are no labels for them"
    )


def trained_modules(shape: ModelShape) -> list[str] | None:
    """Return a new list for `modules_to_save`, to which peft appends, or None without a head."""
    return list(shape.head_modules) or None


def unadaptable(shape: ModelShape, method: str) -> str | None:
    """Return why a method that peft supports only for `torch.nn.Linear` does not work on a model, or None."""
    if not shape.conv1d:
        return None
    return f"{shape.model_type} stores its matrices transposed (Conv1D); peft supports {method} for nn.Linear only"
