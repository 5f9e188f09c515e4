"""Rows with several labels: one per word of a text, or any number per text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search_spaces.errors import InvalidInputError, Problem
from trials.data.notes import Notes
from trials.kinds.registry import find_kind
from trials.kinds.scoring.tags import OUTSIDE, has_prefix
from trials.reading.tables.rows import Rows
from trials.tasks.metrics import default_metric
from trials.tasks.specs import TaskSpec

_LISTS = "Write lists, as in JSON lines or Parquet; a cell of a CSV file cannot hold one."


def each_label(rows: Rows, task: TaskSpec) -> Iterator[tuple[int, Any]]:
    """Yield the index of a row and a label, for each label of each row."""
    assert task.label is not None
    has_lists = find_kind(task.type).label_form != "single"
    for index, value in enumerate(rows[task.label]):
        yield from ((index, label) for label in (value if has_lists else (value,)))


def check_words(rows: Rows, split: str, task: TaskSpec) -> None:
    """Check that each row has a list of words, and as many labels.

    Raises:
        InvalidInputError: It does not.
    """
    assert task.label is not None
    text = task.text[0]
    for index, (words, tags) in enumerate(zip(rows[text], rows[task.label], strict=True)):
        if words is None:
            continue  # the row is dropped, and counted
        place = f"{rows.place(index)} of {split}"
        for field, column, value in (("text", text, words), ("label", task.label, tags)):
            if not isinstance(value, list | tuple) or not all(map(_is_single, value)):
                what = f"{place} has {_short(value)} in {column!r}, which is no list of {_ITEMS[field]}"
                raise InvalidInputError(Problem(f"task.{field}", what, _LISTS))
        if len(words) != len(tags):
            what = f"{place} has {len(words):,} words in {text!r} and {len(tags):,} tags in {task.label!r}"
            raise InvalidInputError(Problem("task.label", what, "Give each word one tag, or remove the row."))


def check_sets(rows: Rows, split: str, task: TaskSpec) -> None:
    """Check that each row has a list of labels, which may be empty.

    Raises:
        InvalidInputError: It does not.
    """
    assert task.label is not None
    values = rows[task.label]
    for index, value in enumerate(values):
        if not isinstance(value, list | tuple) or not all(map(_is_single, value)):
            what = f"{rows.place(index)} of {split} has {_short(value)} in {task.label!r}, which is no list of labels"
            raise InvalidInputError(
                Problem(
                    "task.label",
                    what,
                    f"{_LISTS} [] is no label. Columns of 0 and 1 are label: [first, second].",
                )
            )
    lengths = {len(value) for value in values}
    if len(lengths) == 1 and _are_flags(values):
        what = f"{split} has lists of 0 and 1 in {task.label!r}, such as {_short(values[0])}, which name no label"
        fix = "List the labels that apply, by name or number, or write one column of 0 and 1 per label."
        raise InvalidInputError(Problem("task.label", what, fix))


def _are_flags(values: Sequence[Sequence[Any]]) -> bool:
    """Return whether lists are of 0 and 1 and repeat one of them, as a list of labels does not."""
    return all(item in (0, 1) for value in values for item in value) and any(
        len(set(value)) < len(value) for value in values
    )


def warn_of_absent_labels(
    raw: Mapping[str, Rows], task: TaskSpec, classes: Sequence[Any] | None, notes: Notes
) -> None:
    """Warn of labels that no row of train has, since all their rows are in carved splits."""
    if classes is None:
        return
    present = {label for _, label in each_label(raw["train"], task)}
    absent = [label for label in classes if label not in present]
    if absent:
        notes.warn(
            f"label: {', '.join(map(repr, absent[:5]))}{' and others' * (len(absent) > 5)} "
            f"{'is' if len(absent) == 1 else 'are'} in no row of train once validation and test are carved out; "
            "give more rows, or another split_seed"
        )


_ITEMS = {"text": "words", "label": "tags"}


def _is_single(value: object) -> bool:
    return isinstance(value, str | int | float)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def check_tags(names: Sequence[str] | None, task: TaskSpec, notes: Notes) -> None:
    """Note the kinds of entities that the tags name, and refuse scores of entities where they name none.

    Args:
        names: The names of the tags; None for tasks without tags.
        task: The task.
        notes: Receives the kinds of entities.

    Raises:
        InvalidInputError: The metric scores entities, and no tag has a prefix.
    """
    if names is None or find_kind(task.type).label_form != "words":
        return
    kinds = sorted({name[2:] for name in names if has_prefix(name)})
    others = [name for name in names if not has_prefix(name) and name != OUTSIDE]
    if not kinds and task.metric.startswith("entity_"):
        shown = ", ".join(map(repr, names[:5]))
        what = f"{task.metric!r}: no tag has a prefix, as in B-person ({shown}), so there are no entities"
        if task.metric == default_metric(task.type):
            what += " for the usual metric of the task"
        fix = "Set metric: token_accuracy, or write the tags as B-type, I-type and O."
        raise InvalidInputError(Problem("task.metric", what, fix))
    if not kinds:
        notes.note(
            f"entities: none, since no tag has a prefix such as B-; trials are scored by {task.metric}"
        )
    else:
        notes.note(
            f"entities: {len(kinds)} types ({', '.join(kinds)}), scored as in seqeval by type and extent"
        )
    if kinds and others:
        notes.warn(
            f"label: {', '.join(map(repr, others[:5]))} have no prefix such as B- or I-, and count as inside of "
            "entities of their own"
        )
