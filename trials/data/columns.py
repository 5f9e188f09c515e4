"""The columns of a task in the rows that were read: they exist, and incomplete rows are dropped or refused."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from trials.data.notes import Notes
from trials.reading.forms import columns_read
from trials.reading.splits import complete_rows
from trials.reading.tables.rows import Rows, counted
from trials.tasks.specs import TaskSpec


def check_columns(raw: Mapping[str, Rows], task: TaskSpec) -> None:
    """Check that each split has rows and the columns of the task.

    Raises:
        InvalidInputError: It lacks them.
    """
    problems = []
    for split, rows in raw.items():
        if not len(rows):
            problems.append(Problem(f"task.{split}", "the split is empty", "Give a file with rows."))
        for column in task.columns:
            if column not in rows.column_names:
                problems.append(
                    Problem(
                        _field_of(column, task),
                        f"{split} has no column {column!r}",
                        did_you_mean(column, rows.column_names),
                    )
                )
    if problems:
        raise InvalidInputError(problems)


def _field_of(column: str, task: TaskSpec) -> str:
    fields = columns_read(task.model_dump())
    return f"task.{next(name for name, columns in fields.items() if column in columns)}"


def without_empty_rows(raw: Mapping[str, Rows], task: TaskSpec, notes: Notes) -> dict[str, Rows]:
    """Return the splits without the rows that have no text, which are counted in `notes`.

    Raises:
        InvalidInputError: A row has no label.
    """
    kept = {}
    for split, rows in raw.items():
        if task.label is not None:
            _check_labels(rows, split, task.label)
        indices = complete_rows(rows, task.required_columns)
        if len(indices) < len(rows):
            what = "an image" if task.image else "text"
            notes.note(f"{split}: {counted(len(rows) - len(indices), 'row')} without {what} dropped")
            rows = rows.select(indices)
        kept[split] = rows
    return kept


def _check_labels(rows: Rows, split: str, label: str) -> None:
    labeled = complete_rows(rows, [label])
    if len(labeled) == len(rows):
        return
    lacking = len(rows) - len(labeled)
    first = next(index for index, kept in enumerate([*labeled, -1]) if index != kept)
    raise InvalidInputError(
        Problem(
            "task.label",
            f"{counted(lacking, 'row')} of {split} {'has' if lacking == 1 else 'have'} no value in {label!r}, first "
            f"{rows.place(first)}",
            "Remove the rows or fill in their labels.",
        )
    )
