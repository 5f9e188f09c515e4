"""Notes on what the prompts of a task hold and leave out: unused columns, and prompts with many completions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from trials.data.notes import Notes, listed
from trials.reading.forms import Chat, read_example
from trials.reading.messages import is_chat
from trials.reading.tables.errors import RowError
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TaskSpec

_SAMPLE = 1_000
"""Rows by which a column is judged to hold text."""
_SPACED = 0.2
"""A column holds text if this share of its strings has white space: names and codes have none."""
_MANY = 0.05
"""A share of rows with ambiguous prompts above which the user is warned."""


def note_prompts(train: Rows, task: TaskSpec, notes: Notes) -> None:
    """Note the columns with text that the task does not use, how prompts are joined, and ambiguous prompts.

    Args:
        train: The rows of the training split.
        task: The task.
        notes: Receives the messages.
    """
    unused = unused_texts(train, task.columns)
    if unused:
        names = listed([repr(name) for name in unused])
        notes.note(f"columns with text that the task does not use: {names}")
    if task.type != "causal-lm":
        return
    for name in ("prompt", "completion"):
        columns = getattr(task, name)
        if isinstance(columns, tuple) and len(columns) > 1:
            named = listed([repr(column) for column in columns])
            notes.note(f"{name}: a blank line joins the texts of {named}, of which empty ones are left out")
    if not task.text:
        _warn_of_shared_prompts(train, task, unused, notes)


def unused_texts(rows: Rows, used: Sequence[str]) -> list[str]:
    """Return the columns with texts, chats or lists that are not among those used."""
    return [name for name in rows.column_names if name not in used and _has_text(rows[name][:_SAMPLE])]


def _has_text(values: Sequence[Any]) -> bool:
    present = [value for value in values if value is not None and value not in ("", [])]
    if not present:
        return False
    if any(is_chat(value) or isinstance(value, list | Mapping) for value in present):
        return True
    texts = [value for value in present if isinstance(value, str)]
    spaced = sum(any(sign.isspace() for sign in text.strip()) for text in texts)
    return spaced > _SPACED * len(present)


def _warn_of_shared_prompts(rows: Rows, task: TaskSpec, unused: Sequence[str], notes: Notes) -> None:
    answers = defaultdict[str, dict[str, int]](dict)
    for row in rows:
        try:
            prompt, answer = _parts(row, task)
        except RowError:
            continue  # encoding reports it
        answers[prompt][answer] = answers[prompt].get(answer, 0) + 1
    ambiguous = [found for found in answers.values() if len(found) > 1]
    if not ambiguous:
        return
    count, most = sum(sum(found.values()) for found in ambiguous), max(len(found) for found in ambiguous)
    prompts = "1 prompt has" if len(ambiguous) == 1 else f"{len(ambiguous):,} prompts have"
    missing = f"; does the prompt lack {listed([repr(name) for name in unused])}?" if unused else ""
    text = (
        f"train: {prompts} different completions, up to {most:,}, in {count:,} of {len(rows):,} rows, so that the "
        f"prompt does not tell which is right{missing}"
    )
    (notes.warn if count > _MANY * len(rows) else notes.note)(text)


def _parts(row: Mapping[str, Any], task: TaskSpec) -> tuple[str, str]:
    """Return what precedes the last answer of a row, and the answer, as texts that can be compared."""
    example = read_example(row, task.model_dump(), as_chat=True)
    if not isinstance(example, Chat):
        return example.prompt, example.completion
    last = max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
    before = json.dumps([example.tools, example.messages[:last]], sort_keys=True, default=str)
    return before, json.dumps(example.messages[last], sort_keys=True, default=str)
