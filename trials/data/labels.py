"""The labels of a task: the classes, and checks of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.errors import InvalidInputError, Problem
from trials.reading.rows import Rows
from trials.tasks.specs import TaskSpec


def find_classes(raw: Mapping[str, Rows], task: TaskSpec) -> tuple[Any, ...] | None:
    """Return the label values of a classification task in order, else None.

    Raises:
        InvalidInputError: A label is not a number in regression, or a split has labels that train does not have.
    """
    if task.type == "causal-lm":
        return None
    assert task.label is not None
    if task.type == "regression":
        for split, rows in raw.items():
            _check_numbers(rows[task.label], split, task.label)
        return None
    classes = tuple(sorted(set(raw["train"][task.label]), key=lambda label: (str(type(label)), label)))
    if len(classes) < 2:
        raise InvalidInputError(
            Problem(
                "task.label",
                f"train has only one label, {classes[0]!r}",
                "Name the column with the classes.",
            )
        )
    if len(classes) > max(100, len(raw["train"]) // 2):
        raise InvalidInputError(
            Problem(
                "task.label",
                f"train has {len(classes):,} different labels",
                "Name a column of classes, or set type: regression for numbers.",
            )
        )
    for split in raw:
        unseen = sorted(set(map(repr, raw[split][task.label])) - set(map(repr, classes)))
        if unseen:
            raise InvalidInputError(
                Problem(
                    "task.label",
                    f"{split} has labels that train does not have: {', '.join(unseen[:5])}",
                    f"Correct the labels, or use data whose labels are among {list(classes)[:10]}.",
                )
            )
    return classes


def _check_numbers(values: Any, split: str, column: str) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInputError(
                Problem(
                    "task.label",
                    f"{split} has {value!r} in {column!r}, which is not a number",
                    "Regression needs numbers; set type: sequence-classification for classes.",
                )
            )
