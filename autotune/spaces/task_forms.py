"""What a task's type says about the costs of a space without a sweep file."""

from __future__ import annotations

from typing import NamedTuple, cast

from search_spaces.model.task_types import TaskType
from search_spaces.parameters.preference import DEFAULT_LOSS


class TaskForm(NamedTuple):
    """A task as spaces and costs need it.

    Args:
        shape_task: decides the head of the model.
        loss: the default loss of a task on preference pairs, which adds parameters to spaces.
        rows: number of texts of an example.
        has_reference: whether training includes a pass of the base model over every example.
    """

    shape_task: TaskType
    loss: str | None = None
    rows: int = 1
    has_reference: bool = False


def usual_form(task: str) -> TaskForm:
    """Return the form of a task with its default loss.

    Args:
        task: the `type` in a sweep file.

    Example:
        >>> usual_form("preference")
        TaskForm(shape_task='causal-lm', loss='dpo', rows=2, has_reference=True)
    """
    from trials.kinds.registry import find_kind

    kind = find_kind(task)
    loss = DEFAULT_LOSS if task == "preference" else None
    has_reference = kind.needs_reference({"loss": loss})
    return TaskForm(cast(TaskType, kind.shape_task), loss, kind.rows_per_example, has_reference)
