"""Inference of several labels per row for `autotune init`: words with tags, lists of labels, columns of 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trials.kinds.scoring.tags import has_prefix
from trials.reading.images import ENDINGS
from trials.reading.tables.rows import Rows

_TAGS = ("ner_tags", "ner", "tags", "labels", "pos_tags", "pos")
"""Names of columns of tags, the usual ones first."""

_SETS = ("label", "labels", "tags", "categories", "classes", "topics", "emotions", "genres")
"""Ends of names of columns with lists of labels."""
_SINGLE = ("label", "target", "class", "category", "sentiment", "y", "gold", "intent")
"""Names of columns that hold the label, beside which columns of 0 and 1 are something else."""


def find_tags(data: Rows) -> tuple[str, str] | None:
    """Return the column of words and that of their tags, or None: lists of the same length in every row."""
    lists = [name for name in data.column_names if _has_lists(data[name])]
    words = next(
        (name for name in lists if _item(data[name], str) and not _looks_like_tags(data[name])), None
    )
    if words is None:
        return None
    sizes = [len(value or ()) for value in data[words]]
    tags = [
        name
        for name in lists
        if name != words
        and [len(value or ()) for value in data[name]] == sizes
        and _item(data[name], str | int)
    ]
    known = [name for name in _TAGS if name in map(str.lower, tags)]
    return next(((words, tag) for name in known for tag in tags if tag.lower() == name), None) or (
        (words, tags[0]) if len(tags) == 1 and max(sizes, default=0) > 1 else None
    )


def find_images(data: Rows) -> str | None:
    """Return the column of images: paths of image files, or the content of images in a Parquet file; else None."""
    for name in data.column_names:
        values = [value for value in data[name] if value is not None]
        if values and all(map(_is_image, values)):
            return name
    return None


def _is_image(value: Any) -> bool:
    if isinstance(value, Mapping):
        return isinstance(value.get("bytes"), bytes)
    return isinstance(value, str) and value.lower().endswith(ENDINGS) and len(value.splitlines()) == 1


def find_sets(data: Rows, *, is_wanted: bool) -> list[str]:
    """Return the column of lists of labels, or the columns of 0 and 1 that are labels; empty if there are none.

    Args:
        data: The rows.
        is_wanted: Whether the user named the task, so that two columns of 0 and 1 suffice, whatever their names are.
    """
    lists = [
        name
        for name in data.column_names
        if _has_lists(data[name])
        and _item(data[name], str | int)
        and max(map(len, filter(None, data[name]))) > 1
    ]
    telling = [name for name in lists if name.lower().split("_")[-1] in _SETS]
    if telling or (is_wanted and lists):
        return (telling or lists)[:1]
    if not is_wanted and any(name.lower() in _SINGLE for name in data.column_names):
        return []
    flags = [name for name in data.column_names if _are_flags(data[name])]
    return flags if len(flags) > 2 - is_wanted else []


def tags_metric(data: Rows, column: str) -> str:
    """Return the usual metric: that of entities if a tag has a prefix, by its name where the data set has names."""
    names = data.class_names.get(column, ()) or {str(tag) for tags in data[column] for tag in tags or ()}
    return "entity_f1" if any(map(has_prefix, names)) else "token_accuracy"


def _has_lists(values: Sequence[Any]) -> bool:
    return any(isinstance(value, list | tuple) and value for value in values) and all(
        value is None or isinstance(value, list | tuple) for value in values
    )


def _item(values: Sequence[Any], kind: Any) -> bool:
    return all(isinstance(item, kind) for value in values for item in value or ())


def _looks_like_tags(values: Sequence[Any]) -> bool:
    """Return whether all items are `O` or have a prefix."""
    return all(item == "O" or has_prefix(item) for value in values for item in value or ())


def _are_flags(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float | bool) for value in values) and set(values) == {0, 1}
