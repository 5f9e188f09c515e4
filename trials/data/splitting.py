"""Carving of validation and test splits out of the training split.

Rows with equal or similar texts stay together (see `leakage`), so that no text of a carved split is also in train.
Classes are stratified: each carved split has its share of every class, and every class keeps a text in train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import AutotuneError, InvalidInputError, Problem
from trials.data.leakage import group_rows
from trials.data.notes import Notes
from trials.kinds.registry import find_kind
from trials.reading.tables.rows import Rows
from trials.tasks.specs import ROWS_APART, TaskSpec

Indices = NDArray[np.int64]

_NAMED = 5
"""The number of classes that a note names."""
_TOLERANCE = 0.1
"""The relative deviation of a split's size from the requested size above which a note gives the reason."""


class CannotCarveError(AutotuneError, ValueError):
    """No rows can be carved out."""


def carve(
    raw: Mapping[str, Rows],
    keys: Sequence[bytes],
    sources: dict[str, dict[str, Any]],
    task: TaskSpec,
    notes: Notes,
) -> dict[str, Rows]:
    """Carve missing validation and test splits out of the training split, and remove its entry from `sources`.

    Args:
        raw: The rows by split.
        keys: The keys of the rows of train, `similar` of `text_keys`.
        sources: Where the splits can be read again.
        task: The task.
        notes: Receives what was carved.

    Raises:
        InvalidInputError: The training split has too few rows, or too few different texts.
    """
    splits = dict(raw)
    missing = [name for name in ("validation", "test") if name not in splits]
    if not missing:
        return splits
    train = splits["train"]
    size = round(len(train) * task.carve)
    if size < 1 or len(train) - size * len(missing) < 1:
        what = (
            f"{len(train)} rows are too few to carve a {' and a '.join(missing)} split of {task.carve:.0%} "
            "out of them"
        )
        raise InvalidInputError(Problem("task.train", what, "Give more rows, or files for the other splits."))
    rng, together = np.random.default_rng(task.split_seed), ""
    if task.data_version == ROWS_APART:
        order = rng.permutation(len(train))
        parts = [order[size * place : size * (place + 1)] for place in range(len(missing))]
    else:
        groups, classes = group_rows(keys), _class_codes(train, task)
        try:
            parts = choose_rows(groups, classes, size, len(missing), rng)
        except CannotCarveError as error:
            what = f"no {' and '.join(missing)} split can be carved out of train: {error}"
            raise InvalidInputError(
                Problem("task.train", what, "Give more texts, or files for the other splits.")
            ) from error
        together = ", equal texts in one split" if len(np.unique(groups)) < len(groups) else ""
        _note_classes(train, task, groups, classes, dict(zip(missing, parts, strict=True)), notes)
    for name, part in zip(missing, parts, strict=True):
        splits[name] = train.select(np.sort(part).tolist())
        notes.note(
            f"{name}: {len(part):,} rows carved out of train (seed {task.split_seed}){together}{_reason(part, size)}"
        )
    left = np.setdiff1d(np.arange(len(train)), np.concatenate(parts))
    splits["train"] = train.select(left.tolist())
    sources.pop("train", None)
    return splits


def _reason(part: Indices, size: int) -> str:
    if abs(len(part) - size) <= max(1, _TOLERANCE * size):
        return ""
    return f"; {size:,} were requested, but equal texts stay together and every class stays in train"


def _class_codes(train: Rows, task: TaskSpec) -> Indices:
    """Return the class of each row as a number, shape [n]; all 0 for tasks without classes."""
    if not find_kind(task.type).has_classes:
        return np.zeros(len(train), dtype=np.int64)
    assert task.label is not None
    codes: dict[Any, int] = {}
    return np.array([codes.setdefault(label, len(codes)) for label in train[task.label]], dtype=np.int64)


def choose_rows(
    groups: Indices, classes: Indices, size: int, count: int, rng: np.random.Generator
) -> list[Indices]:
    """Choose the rows of carved splits: about `size` each, whole groups, with each class's share of rows.

    A group is taken if that moves the number of chosen rows of its class nearer to the class's share. So a split is
    off by at most half a group per class, and exact where every group is one row. Every class of a chosen row also
    has a row that is not chosen.

    Args:
        groups: The group of each row, numbered from 0, shape [n].
        classes: The class of each row, numbered from 0, shape [n].
        size: The wanted number of rows of each split.
        count: The number of splits.
        rng: The source of randomness.

    Returns:
        The indices of the rows of each split.

    Raises:
        CannotCarveError: A split would have no rows.

    Example:
        >>> groups, classes = np.array([0, 1, 2, 3, 0, 4]), np.array([0, 0, 0, 1, 0, 1])
        >>> [part.tolist() for part in choose_rows(groups, classes, 2, 1, np.random.default_rng(0))]
        [[2, 5]]
    """
    members = _Members(groups, classes)
    order = rng.permutation(len(members.sizes)).tolist()
    totals = np.bincount(classes)
    chosen = np.full(len(order), -1)
    for split in range(count):
        limits = np.array(members.left) - 1
        quotas = _quotas(totals * size / len(classes), size, limits, rng).tolist()
        open_seats, taken = sum(quotas), []
        for group in order:
            if not open_seats:
                break
            kind, rows = members.kinds[group], members.sizes[group]
            if rows <= 2 * quotas[kind] and members.leaves_classes(group):
                members.take(group)
                taken.append(group)
                open_seats -= min(rows, quotas[kind])
                quotas[kind] -= min(rows, quotas[kind])
        taken = taken or [_take_smallest(members, order)]
        chosen[taken] = split
        order = [group for group in order if chosen[group] < 0]
    return [np.flatnonzero(chosen[groups] == split) for split in range(count)]


class _Members:
    """The rows of each group, and the rows of each class that are left in train.

    Args:
        groups: The group of each row, shape [n].
        classes: The class of each row, shape [n].
    """

    def __init__(self, groups: Indices, classes: Indices) -> None:
        sizes = np.bincount(groups)
        self._classes = classes[np.argsort(groups, kind="stable")]
        self._starts = (np.cumsum(sizes) - sizes).tolist()
        first = self._classes[self._starts]
        self.sizes: list[int] = sizes.tolist()
        """The number of rows of each group."""
        self.kinds: list[int] = first.tolist()
        """The class of the first row of each group."""
        self.left: list[int] = np.bincount(classes).tolist()
        """The number of rows of each class that are left."""
        self._mixed = set(groups[classes != first[groups]].tolist())

    def _counts(self, group: int) -> dict[int, int]:
        """Return the number of rows of a group by class."""
        if group not in self._mixed:
            return {self.kinds[group]: self.sizes[group]}
        start = self._starts[group]
        found, counts = np.unique(self._classes[start : start + self.sizes[group]], return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))

    def leaves_classes(self, group: int) -> bool:
        """Return whether every class of a group has other rows among those that are left."""
        return all(self.left[kind] > count for kind, count in self._counts(group).items())

    def take(self, group: int) -> None:
        """Subtract the rows of a group from those that are left."""
        for kind, count in self._counts(group).items():
            self.left[kind] -= count


def _take_smallest(members: _Members, candidates: Sequence[int]) -> int:
    """Take the smallest group that leaves a row of each of its classes, and return it."""
    fitting = [group for group in candidates if members.leaves_classes(group)]
    if not fitting:
        rows, texts = sum(members.sizes), len(members.sizes)
        if texts == 1:
            raise CannotCarveError(f"all {rows:,} rows have the same text")
        raise CannotCarveError(
            f"its {rows:,} rows have {texts:,} different texts, and each class keeps one in train"
        )
    group = min(fitting, key=lambda one: members.sizes[one])
    members.take(group)
    return group


def _quotas(shares: NDArray[np.float64], size: int, limits: Indices, rng: np.random.Generator) -> Indices:
    """Return whole numbers near `shares`, at most `limits`, that sum to `size` where the limits permit it.

    Seats that the fractions leave go to the classes with the largest remainders, ties at random.
    """
    quotas = np.minimum(np.floor(shares + 1e-9).astype(np.int64), limits)
    by_remainder = np.lexsort((rng.random(len(shares)), -(shares - quotas)))
    while (seats := size - int(quotas.sum())) > 0:
        open_classes = by_remainder[quotas[by_remainder] < limits[by_remainder]][:seats]
        if not len(open_classes):
            break
        quotas[open_classes] += 1
    return quotas


def _note_classes(
    train: Rows,
    task: TaskSpec,
    groups: Indices,
    classes: Indices,
    parts: Mapping[str, Indices],
    notes: Notes,
) -> None:
    """Report classes that stay in train because they have one text, and classes that a carved split lacks."""
    if not find_kind(task.type).has_classes:
        return
    assert task.label is not None
    count = int(classes.max()) + 1
    names = list(dict.fromkeys(train[task.label]))
    pairs = np.unique(np.stack([classes, groups]), axis=1)
    single = np.flatnonzero(np.bincount(pairs[0], minlength=count) == 1)
    if len(single):
        shown = ", ".join(repr(names[code]) for code in single[:_NAMED])
        more = f" and {len(single) - _NAMED:,} more" if len(single) > _NAMED else ""
        have = "class has" if len(single) == 1 else "classes have"
        notes.note(
            f"train: {len(single):,} of {count:,} {have} a single text, which stays in train: {shown}{more}"
        )
    for name, part in parts.items():
        present = len(np.unique(classes[part]))
        if present < count:
            notes.note(f"{name}: has rows of {present:,} of {count:,} classes")
