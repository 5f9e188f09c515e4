"""The values of a label column as classes or numbers: the same in the search and in an exported run.

Classes are matched by their text, so that 1, 1.0 and "1" are one class, whatever file each of them is read from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .tables.errors import DataError
from .tables.rows import Rows

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
"""A number as it may be written in text: without separators of thousands, and finite."""


def is_number_text(text: str) -> bool:
    """Return whether a text is a finite number without separators of thousands.

    Example:
        >>> is_number_text("-1.5e3"), is_number_text("1,200"), is_number_text("inf")
        (True, False, False)
    """
    return _NUMBER.fullmatch(text) is not None


def label_text(label: Any) -> str:
    """Return the text by which a label is matched.

    Example:
        >>> label_text(1), label_text(1.0), label_text(True), label_text("pos ")
        ('1', '1', 'true', 'pos ')
    """
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)


def class_positions(classes: Sequence[Any]) -> dict[str, int]:
    """Return the index of each class by the texts that name it; a true or false is also named by True or TRUE."""
    positions = {label_text(value): index for index, value in enumerate(classes)}
    for text in ("true", "false"):
        spellings = (text, text.title(), text.upper())
        named = {positions[spelling] for spelling in spellings if spelling in positions}
        if len(named) == 1:
            positions |= dict.fromkeys(spellings, named.pop())
    return positions


@dataclass(frozen=True)
class TargetScale:
    """The scale of a regression's targets: a model predicts them as deviations from the mean of train.

    Args:
        mean: The mean of train's targets, in their units.
        deviation: The standard deviation of train's targets, in their units.

    Example:
        >>> scale = TargetScale(mean=200_000.0, deviation=50_000.0)
        >>> scale.standardize(250_000.0), scale.restore(1.0)
        (1.0, 250000.0)
    """

    mean: float
    deviation: float

    def standardize(self, targets: Any) -> Any:
        """Return targets, a number or an array, as the model predicts them."""
        return (targets - self.mean) / self.deviation

    def restore(self, outputs: Any) -> Any:
        """Return outputs of the model, a number or an array, in the units of the targets."""
        return outputs * self.deviation + self.mean


def as_targets(rows: Rows, task: Mapping[str, Any], classes: Sequence[Any] | None) -> Rows:
    """Return rows whose labels are among the classes, or numbers for a regression.

    Args:
        rows: The rows of a split, each with a label.
        task: The fields of the task's spec.
        classes: The label values in order for classification, else None.

    Raises:
        DataError: A label is not a class, or not a number.
    """
    column = task["label"]
    if column is None:
        return rows
    if classes is None:
        return rows.with_column(column, [_number(rows, column, index) for index in range(len(rows))])
    positions = class_positions(classes)

    def as_class(value: Any, index: int) -> Any:
        if isinstance(value, list | tuple):
            found = [as_class(item, index) for item in value]
            # The order of a set says nothing, and equal sets are to be equal.
            return found if task["type"] != "multi-label-classification" else _in_order(found, classes)
        position = positions.get(label_text(value))
        if position is None:
            raise DataError(
                f"{rows.place(index)} has the label {value!r}, which train does not have",
                f"Correct the label, or use data whose labels are among {list(classes)[:10]}.",
            )
        return classes[position]

    return rows.with_column(column, [as_class(value, index) for index, value in enumerate(rows[column])])


def _in_order(labels: Sequence[Any], classes: Sequence[Any]) -> list[Any]:
    return [label for label in classes if label in labels]


def _number(rows: Rows, column: str, index: int) -> float:
    """Return a label as a finite number."""
    value = rows[column][index]
    if isinstance(value, str) and is_number_text(value):
        value = float(value)
    where = f"{rows.place(index)} has {value!r} in {column!r}"
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise DataError(
            f"{where}, which is not a number",
            "Write it as 1200.5, or set type: sequence-classification for classes.",
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DataError(f"{where}, which is not a finite number", "Correct the value, or remove the row.")
    return number


def structure(labels: Sequence[Any], texts: Sequence[Any] = ()) -> tuple[int, str, str] | None:
    """Return what a column of lists or dictionaries looks like, else None.

    Args:
        labels: The values of the label column.
        texts: The values of the text column, if there is one.

    Returns:
        The index of the first value that is no single label, what it looks like, and what to do.
    """
    nested = (i for i, value in enumerate(labels) if isinstance(value, Mapping | list | tuple))
    index = next(nested, None)
    if index is None:
        return None
    value = labels[index]
    if isinstance(value, Mapping):
        return index, "a dictionary, as in data with several labels", _ONE_LABEL
    text = texts[index] if index < len(texts) else None
    if isinstance(text, list | tuple) and len(text) == len(value):
        return index, "one label per word, as in token classification", "Set type: token-classification."
    if any(isinstance(inner, Mapping) for inner in value):
        return index, "a list of spans, as in token classification", _ONE_LABEL
    if all(isinstance(each, list | tuple) and len(each) == 1 for each in labels):
        return index, "a list with one label", "Take the label out of its list."
    if value and all(isinstance(inner, float) for inner in value):
        return index, "a list of numbers, as in a regression with several targets", _ONE_LABEL
    return index, "a list, as in multi-label classification", "Set type: multi-label-classification."


_ONE_LABEL = "This task is not supported; name a column with one class or one number per row."
