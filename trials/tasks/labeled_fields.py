"""Checks of the fields of a task with labels: what is read, and what is predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.errors import Problem
from trials.kinds.registry import find_kind

_OF_LANGUAGE_MODELS = (
    *("prompt", "completion", "messages", "chosen", "rejected"),
    *("system", "history", "tools"),
)


def labeled_problems(task: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the fields of a task with labels."""
    problems = _image_problems(task) if find_kind(task["type"]).reads == "images" else _text_problems(task)
    label, several = task["label"], list(task["label_columns"])
    if not label:
        problems.append(Problem("task.label", "missing", "Name the column to predict."))
    elif label in (*task["text"], task["image"]):
        column = "an image" if label == task["image"] else "a text"
        what = f"{label!r} is also {column} column, so that the model reads what it predicts"
        problems.append(Problem("task.label", what, "Name another column."))
    if several and find_kind(task["type"]).label_form != "set":
        fix = "Name one column, or set type: multi-label-classification for columns of 0 and 1."
        problems.append(Problem("task.label", f"{several} is more than one", fix))
    for field in _OF_LANGUAGE_MODELS:
        if task[field]:
            problems.append(
                Problem(f"task.{field}", f"is not for {task['type']}", "Remove it, or set type: causal-lm.")
            )
    return problems


def _text_problems(task: Mapping[str, Any]) -> list[Problem]:
    problems, text = [], list(task["text"])
    if not text:
        problems.append(Problem("task.text", "missing", "Name one text column, or a list of two."))
    if len(text) > 1 and find_kind(task["type"]).label_form == "words":
        fix = "Name the column with the lists of words."
        problems.append(Problem("task.text", f"{list(task['text'])} is more than one", fix))
    elif len(text) > 2:
        fix = "Name one text column, or two that are encoded as a pair."
        problems.append(Problem("task.text", f"{list(task['text'])} is more than two", fix))
    if task["image"]:
        fix = "Remove it, or set type: image-classification."
        problems.append(Problem("task.image", f"is not for {task['type']}", fix))
    return problems


def _image_problems(task: Mapping[str, Any]) -> list[Problem]:
    problems = []
    if not task["image"]:
        problems.append(Problem("task.image", "missing", "Name the column of images."))
    if task["text"]:
        problems.append(Problem("task.text", f"is not for {task['type']}", "Remove it."))
    return problems


def _unread(task: Mapping[str, Any]) -> str:
    return f"is not for {task['type']}"
