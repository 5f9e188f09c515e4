"""Equal texts: repeated within a split, shared between splits, or labeled differently.

Two rows have equal texts if all that the model reads of them is equal, apart from white space and the form in which
Unicode composes characters (both are normalized, NFC); the label is no part of it. So a pair counts as both of its
columns, a prompt with its completion, and a chat with all of its turns.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trials.data.notes import Notes
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TaskSpec

_SEPARATOR = "\x1f"
"""Stands between the columns of a row; text does not contain it."""
_DIGEST_BYTES = 16


def normalize_text(text: str) -> str:
    r"""Return a text in Unicode's composed form (NFC), with one space for each run of white space.

    Example:
        >>> normalize_text(" a  warm\tfilm ")
        'a warm film'
    """
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def text_keys(rows: Rows, task: TaskSpec) -> list[bytes]:
    """Return a key for each row, equal for rows with equal texts; see the top of this file."""
    columns = [rows[name] for name in task.columns if name != task.label]
    keys = []
    for values in zip(*columns, strict=True):
        text = _SEPARATOR.join(
            normalize_text(value) if isinstance(value, str) else _canonical(value) for value in values
        )
        keys.append(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest())
    return keys


def _canonical(value: Any) -> str:
    """Return a chat, a list or another value as JSON whose texts are normalized and whose keys are sorted."""
    return json.dumps(_normalized(value), sort_keys=True, ensure_ascii=False, default=str)


def _normalized(value: Any) -> Any:
    if isinstance(value, str):
        return normalize_text(value)
    if isinstance(value, Mapping):
        return {str(key): _normalized(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_normalized(inner) for inner in value]
    return value


def group_rows(keys: Sequence[bytes]) -> NDArray[np.int64]:
    """Return the group of each row, shape [n]: rows with equal keys share a group; numbered by first occurrence."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def report_equal_texts(
    splits: Mapping[str, Rows], keys: Mapping[str, Sequence[bytes]], task: TaskSpec, notes: Notes
) -> None:
    """Report texts that are repeated in train, shared between splits, or labeled differently.

    Args:
        splits: The rows by split, as they were given.
        keys: The keys of the rows by split, from `text_keys`.
        task: The task.
        notes: Receives the messages.
    """
    first = {name: _first_rows(split_keys) for name, split_keys in keys.items()}
    repeats = len(keys["train"]) - len(first["train"])
    if repeats:
        notes.note(f"train: {repeats:,} of {len(keys['train']):,} rows repeat the text of an earlier row")
    for name, rows in splits.items():
        if task.label is not None:
            _report_contradictions(name, rows, keys[name], first[name], task, notes)
    for name, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if name in splits and other in splits:
            _report_overlap(name, other, splits, keys, first[other], task, notes)


def _first_rows(keys: Sequence[bytes]) -> dict[bytes, int]:
    first: dict[bytes, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)
    return first


def _report_contradictions(
    name: str, rows: Rows, keys: Sequence[bytes], first: Mapping[bytes, int], task: TaskSpec, notes: Notes
) -> None:
    assert task.label is not None
    labels = rows[task.label]
    pairs: dict[bytes, tuple[int, int]] = {}
    for index, key in enumerate(keys):
        if labels[index] != labels[first[key]]:
            pairs.setdefault(key, (first[key], index))
    if not pairs:
        return
    a, b = next(iter(pairs.values()))
    count = "1 text has" if len(pairs) == 1 else f"{len(pairs):,} texts have"
    text = (
        f"{name}: {count} different labels in different rows, first {labels[a]!r} in {rows.place(a)} and "
        f"{labels[b]!r} in {rows.place(b)}"
    )
    # Repeated measurements of a number are usual; two classes of one text are an error of the labels.
    (notes.note if task.type == "regression" else notes.warn)(text)


def _report_overlap(
    name: str,
    other: str,
    splits: Mapping[str, Rows],
    keys: Mapping[str, Sequence[bytes]],
    first: Mapping[bytes, int],
    task: TaskSpec,
    notes: Notes,
) -> None:
    """Warn of the texts of the split `name` that are in the split `other`, whose first rows by key are `first`."""
    shared = [index for index, key in enumerate(keys[name]) if key in first]
    if not shared:
        return
    rows, there = splits[name], splits[other]
    place = f"{rows.place(shared[0])} and {there.place(first[keys[name][shared[0]]])}"
    differing = ""
    if task.label is not None:
        labels, known = rows[task.label], there[task.label]
        count = sum(labels[index] != known[first[keys[name][index]]] for index in shared)
        differing = f", {count:,} of them with another label" if count else ""
    reason = f"scores on {name} are too good" if other == "train" else "the test scores are not independent"
    notes.warn(
        f"{name}: {len(shared):,} of {len(rows):,} texts ({len(shared) / len(rows):.1%}) are also in {other}"
        f"{differing}, first {place}; {reason} unless they are removed from one of the two"
    )
