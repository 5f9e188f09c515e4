"""What the objectives of a sweep say of its task: generated text, the metric of tags, the earlier name of a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autotune.objectives import Objective
from trials.tasks.generation_spec import TEACHER_FORCED, is_before_generation, with_generation
from trials.tasks.specs import TaskSpec


def with_generated_scores(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a sweep file whose task generates text if an objective scores it.

    The metric of tags without entities follows from the objectives, if the task names none.

    In data of versions 1 and 2, `exact_match` was the teacher-forced score: it gets that name.

    Args:
        data: The content, with objectives.
    """
    task, objectives = data.get("task"), data["objectives"]
    fields = task.model_dump(exclude_unset=True) if isinstance(task, TaskSpec) else task
    if not isinstance(fields, Mapping) or not isinstance(objectives, list | tuple):
        return dict(data)
    if is_before_generation(fields):
        objectives = [with_earlier_name(item) for item in objectives]
    names = [name for item in objectives if isinstance(name := _name(item), str)]
    completed = with_generation(_with_metric_of_tags(fields, names), [*names, fields.get("metric", "")])
    if completed != fields:
        task = TaskSpec.model_validate(completed) if isinstance(task, TaskSpec) else completed
    return {**data, "task": task, "objectives": objectives}


def _with_metric_of_tags(fields: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """Return a task without a metric with `token_accuracy` if it is an objective, and no score of entities is."""
    is_of_tags = fields.get("type") == "token-classification" and not fields.get("metric")
    if not is_of_tags or "token_accuracy" not in names or any(name.startswith("entity_") for name in names):
        return fields
    return {**fields, "metric": "token_accuracy"}


def _name(item: object) -> object:
    if isinstance(item, Objective):
        return item.name
    return item.get("name") if isinstance(item, Mapping) else item


def with_earlier_name(item: object) -> object:
    """Return an objective of a sweep before generation, whose `exact_match` was the teacher-forced score."""
    if _name(item) != "exact_match":
        return item
    if isinstance(item, Objective):
        return item.model_copy(update={"name": TEACHER_FORCED})
    return {**item, "name": TEACHER_FORCED} if isinstance(item, Mapping) else TEACHER_FORCED
