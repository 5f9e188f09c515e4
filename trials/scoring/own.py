"""Scores that a function of the user computes: which function, what it is called with, and what it may return.

A reference is `module:function`. A function may have the attributes `direction`, `best` and `worst`, each one value
for a score with the reference's name, or a mapping by name for a function that returns several scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from ..kinds.generation import Generated
from ..kinds.kind import Columns, Metric, Scoring, TaskKind
from ..reading.encoding import Encoded
from ..reading.tables.rows import Rows

Function = Callable[..., Any]
Answers = tuple[list[Any], list[Any], list[Any]]
"""(texts, predictions, references), one entry per example each."""


class OwnScoreError(ValueError):
    """A function of the user cannot be imported, raised an exception, or returned something else than scores."""


def is_reference(name: object) -> bool:
    """Return whether a name is a reference to a function.

    Example:
        >>> is_reference("my_score:weighted_f1"), is_reference("accuracy")
        (True, False)
    """
    if not isinstance(name, str):
        return False
    module, colon, function = name.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def load_function(reference: str) -> Function:
    """Import the function of a reference.

    Raises:
        OwnScoreError: The module cannot be imported, or has no such function.
    """
    module, _, name = reference.partition(":")
    try:
        function = getattr(import_module(module), name, None)
    except Exception as error:  # the module is code of the user, which can raise anything
        raise OwnScoreError(f"{module} cannot be imported ({_words(error)})") from error
    if not callable(function):
        raise OwnScoreError(f"{module} has no function {name!r}")
    found: Function = function
    return found


def stated_metrics(function: Function, name: str) -> dict[str, Metric]:
    """Return the direction and the bounds that the attributes of a function state, by score.

    Args:
        function: The function.
        name: The score of a function that returns a single one.

    Raises:
        OwnScoreError: An attribute has a value of another kind.
    """
    stated = {part: _by_name(getattr(function, part, None), name) for part in ("direction", "best", "worst")}
    found = {}
    for score, direction in stated["direction"].items():
        best, worst = bounds = [stated[part].get(score) for part in ("best", "worst")]
        if direction not in ("maximize", "minimize"):
            raise OwnScoreError(f"its direction is {direction!r}, not maximize or minimize")
        if not all(bound is None or _is_number(bound) for bound in bounds):
            raise OwnScoreError(f"its bounds (best, worst) are {bounds}, not numbers")
        found[score] = Metric(direction, best, worst)
    return found


def call(function: Function, reference: str, *arguments: object) -> dict[str, float]:
    """Call a function and return its scores by name; a single number has the reference as its name.

    Raises:
        OwnScoreError: The function raised an exception, or returned something else than finite numbers.
    """
    try:
        returned = function(*arguments)
    except Exception as error:  # as in `load_function`
        raise OwnScoreError(f"{reference} raised {_words(error)}") from error
    scores = returned if isinstance(returned, Mapping) else {reference: returned}
    for name, value in scores.items():
        if not isinstance(name, str) or not _is_number(value):
            what = f"{name!r}: {value!r}" if isinstance(returned, Mapping) else repr(returned)
            raise OwnScoreError(f"{reference} returned {what[:200]}, not a number or a mapping of numbers")
        if not math.isfinite(value):
            raise OwnScoreError(f"{reference} returned {value} as {name!r}")
    return {name: float(value) for name, value in scores.items()}


def answers_of(
    kind: TaskKind, columns: Columns, examples: Sequence[Encoded], rows: Rows, scoring: Scoring
) -> Answers:
    """Return the model's answers on a split, as a function of the user receives them.

    Args:
        kind: The kind of the task.
        columns: Those of all batches of the split, as for `TaskKind.finish`.
        examples: The split's examples, in the same order.
        rows: The split's rows, in the same order.
        scoring: What the scores of the task need to know.

    Raises:
        OwnScoreError: The kind of the task has no answers without generated text.
    """
    answers = kind.answers(columns, examples, scoring)
    if answers is None:
        raise OwnScoreError(f"a model of the kind {kind.name} has no answers unless it generates text")
    return texts_of(rows, scoring.task), *answers


def generated_answers(generated: Sequence[Generated]) -> Answers:
    """Return generated texts as a function of the user receives them: prompts, texts, and the right answers."""
    return (
        [each.prompt for each in generated],
        [each.text for each in generated],
        [each.reference for each in generated],
    )


def texts_of(rows: Rows, task: Mapping[str, Any]) -> list[Any]:
    """Return the input of each row: its text, a tuple for a pair of texts, or else its columns by name."""
    columns = list(task.get("text") or ())
    if not columns:
        return [dict(row) for row in rows]
    texts: Sequence[Sequence[Any]] = [rows[column] for column in columns]
    return list(texts[0]) if len(texts) == 1 else list(zip(*texts, strict=True))


def _by_name(stated: object, name: str) -> dict[str, Any]:
    if stated is None:
        return {}
    return dict(stated) if isinstance(stated, Mapping) else {name: stated}


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) or (
        hasattr(value, "item") and getattr(value, "ndim", None) == 0 and not isinstance(value, str)
    )


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
