"""What the README of an exported run says about the classes and the head of the model."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.model.shape import ModelShape
from trials.kinds.registry import find_kind
from trials.reading.labels import TargetScale, label_text
from trials.tasks.specs import TaskSpec


def head_notes(shape: ModelShape, names: Sequence[str] | None) -> str:
    """Return the sections on the classes and on the parts of the head that the base model's checkpoint lacks.

    Args:
        shape: the shape of the base model.
        names: the names of the classes in the order of the head's outputs; None without classes.
    """
    return _classes_section(names) + _new_parts(shape)


def target_notes(task: TaskSpec, scale: TargetScale | None) -> str:
    """Return the sections on the class that f1 scores, and on the scale of a regression's targets.

    Args:
        task: the task; it names its positive class, if it has one.
        scale: the scale by which targets are standardized; None if they are not.
    """
    notes = ""
    if task.positive is not None:
        notes += f"`f1` is that of class {_cell(label_text(task.positive))}.\n\n"
    if find_kind(task.type).label_form == "set":
        notes += "A label is predicted where the sigmoid of its logit is above one half.\n\n"
    if scale is not None:
        notes += (
            "## Targets\n\nThe model predicts standardized targets, whose unit is the standard deviation of the "
            f"training targets. Restore its output with\n\n    {task.label} = {scale.deviation!r} * output + "
            f"{scale.mean!r}\n\nIn `scores.json`, `mse` is in squared units of `{task.label}` and `eval_loss` in "
            "units of the variance of the training targets.\n\n"
        )
    return notes


def _classes_section(names: Sequence[str] | None) -> str:
    if not names:
        return ""
    rows = "\n".join(f"| {index} | {_cell(name)} |" for index, name in enumerate(names))
    return (
        f"## Classes\n\n| output | class |\n| --- | --- |\n{rows}\n\n"
        "They are `id2label` and `label2id` in `adapter/config.json`, which train.py writes beside the adapter.\n\n"
    )


def _new_parts(shape: ModelShape) -> str:
    return "".join(
        f"The checkpoint of the base model has no weights of `{name}`: train.py initializes it and trains it with "
        "the head, and the adapter contains it.\n\n"
        for name in shape.new_head_parts
    )


def _cell(text: str) -> str:
    """Return a text on one line without the separator of a table's cells."""
    return " ".join(text.split()).replace("|", "\\|")
