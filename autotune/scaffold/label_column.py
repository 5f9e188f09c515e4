"""Inference of the label column of a table for `autotune init`, and refusal of columns that are no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.errors import InvalidInputError, Problem
from trials.reading.labels import is_number_text, structure
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TrialTask

if TYPE_CHECKING:
    import pandas as pd

FEW_VALUES = 50
"""A column with at most this many different values can be a label even in a short file."""
IDS = ("id", "idx", "index", "guid", "uid", "uuid", "url", "key", "timestamp", "date")
"""Names of columns that identify a row."""
_LABELS = (
    "label", "labels", "target", "targets", "class", "category", "sentiment", "score", "rating", "stars", "y",
    "gold", "intent", "topic", "polarity", "emotion", "toxic", "spam", "similarity",
)  # fmt: skip
_SEVERAL = ("tags", "entities", "spans", "categories", "classes", "topics", "emotions")
"""Further names of columns that hold several labels per row."""
_MOSTLY = 0.9
"""The share of numbers above which other text in a column is taken for a mistake."""


def find_label(
    data: Rows, frame: pd.DataFrame, wanted: TrialTask | None, *, may_be_lone: bool = True
) -> str | None:
    """Return the column that is most likely the label, or None.

    Args:
        data: the rows.
        frame: the first of them as a data frame.
        wanted: the task if the user named it.
        may_be_lone: whether the only column of numbers can be the label, whatever its name.

    Raises:
        InvalidInputError: the most likely column holds lists or dictionaries, or numbers beside other text.
    """
    possible = [c for c in frame.columns if _can_be_label(data, frame[c], wanted) and c.lower() not in IDS]
    named = [c for c in possible if _is_named(c)]
    if named:
        return named[0]
    _refuse_several_labels(data, bool(possible))
    if possible:  # without a usual name, the last column with few different values is the most likely label
        return possible[-1]
    _refuse_mixed_numbers(data)
    return _lone_number(frame) if may_be_lone and wanted is None else None


def _lone_number(frame: pd.DataFrame) -> str | None:
    """Return the only column of numbers that does not count the rows, or None."""
    numbers = [
        str(name)
        for name in frame.columns
        if str(name).lower() not in IDS
        and is_number(frame[name])
        and not (frame[name].diff().dropna() == 1).all()
        and frame[name].nunique() > 1
    ]
    return numbers[0] if len(numbers) == 1 else None


def _is_named(column: str) -> bool:
    return column.lower() in _LABELS or column.lower().endswith("_label")


def _can_be_label(data: Rows, column: pd.Series, wanted: TrialTask | None) -> bool:
    values = column.dropna()
    if values.empty or structure(data[str(column.name)]) is not None:
        return False
    different = int(values.nunique())
    if is_number(values):
        fraction = bool((values != values.round()).any())
        if wanted == "regression" or (wanted is None and (_is_named(str(column.name)) or fraction)):
            return different > 1
    few = 2 <= different <= max(FEW_VALUES, len(values) // 100) and different <= len(values) // 2
    return few and wanted != "regression"


def is_number(values: pd.Series) -> bool:
    """Return whether a column holds numbers."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(values) and not is_bool_dtype(values))


def _refuse_several_labels(data: Rows, has_other: bool) -> None:
    """Refuse a column of lists or dictionaries whose name is that of labels, or that has a label for each word."""
    words = _words_column(data)
    for name in data.column_names:
        is_telling = _is_named(name) or name.lower().split("_")[-1] in _SEVERAL
        found = structure(data[name], data[words] if words not in (None, name) else ())
        if found is not None and (is_telling or (not has_other and "one label per word" in found[1])):
            index, kind, fix = found
            what = f"column {name!r} has {str(data[name][index])[:60]} in {data.place(index)}: {kind}"
            raise InvalidInputError(Problem("--data", what, fix))


def _words_column(data: Rows) -> str | None:
    """Return the first column that holds lists of words, or None."""
    for name in data.column_names:
        first = next((value for value in data[name] if value), None)
        if isinstance(first, list) and isinstance(first[0], str):
            return name
    return None


def _refuse_mixed_numbers(data: Rows) -> None:
    """Refuse a column of numbers in which some cells are other text, such as `inf` or `1,200`."""
    for name in data.column_names:
        values = [value for value in data[name] if value is not None]
        if not all(isinstance(value, str) for value in values) or name.lower() in IDS:
            continue
        numbers = sum(map(is_number_text, values))
        if _MOSTLY * len(values) <= numbers < len(values):
            index = next(i for i, v in enumerate(data[name]) if isinstance(v, str) and not is_number_text(v))
            what = f"column {name!r} holds numbers, but {data[name][index]!r} in {data.place(index)}"
            raise InvalidInputError(
                Problem("--data", what, "Write it as a number such as 1200.5, or remove the row.")
            )
