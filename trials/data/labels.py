"""The labels of a task: their types and values, the classes, the positive class, and the scale of a regression."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from unicodedata import category, normalize

import numpy as np

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from trials.data.label_lists import check_sets, check_words, each_label
from trials.data.notes import Notes, listed
from trials.kinds.registry import find_kind
from trials.reading.labels import TargetScale, as_targets, class_positions, label_text, structure
from trials.reading.tables.errors import DataError
from trials.reading.tables.rows import Rows
from trials.tasks.specs import ROWS_APART, TaskSpec

_MANY_CLASSES = 100
"""More classes need a share of the rows: otherwise the column is no label."""
_SEPARATORS = re.compile(r"[,;|+/]")
"""What stands between several labels in one text."""
_INVISIBLE = ("Cc", "Cf", "Cn", "Co")
"""Unicode's categories of characters without a shape."""
_VARIANTS = frozenset(map(chr, range(0xFE00, 0xFE10)))
"""Characters that choose the shape of the character before them, such as that of an emoji."""
_SHOWN = 5
"""The number of labels that a message names."""


def check_label_types(raw: Mapping[str, Rows], task: TaskSpec) -> None:
    """Check that labels are single values and texts are no lists, before any value is compared.

    Raises:
        InvalidInputError: They are, with the task that such columns belong to.
    """
    if task.label is None:
        return
    for split, rows in raw.items():
        if find_kind(task.type).label_form == "words":
            check_words(rows, split, task)
            continue
        for column in task.text:
            _check_text_type(rows, split, column, task.label)
        if find_kind(task.type).label_form == "set":
            check_sets(rows, split, task)
            continue
        _check_label_values(rows, split, task.label)
        found = structure(rows[task.label], rows[task.text[0]] if task.text else ())
        if found is not None:
            index, kind, fix = found
            what = f"{rows.place(index)} of {split} has {_short(rows[task.label][index])} in {task.label!r}: {kind}"
            raise InvalidInputError(Problem("task.label", what, fix))


def _check_text_type(rows: Rows, split: str, column: str, label: str) -> None:
    for index, value in enumerate(rows[column]):
        if isinstance(value, list | tuple | dict):
            labels = rows[label][index]
            per_word = isinstance(labels, list | tuple) and len(labels) == len(value)
            kind = "words with one label each, as in token classification" if per_word else "no text"
            what = f"{rows.place(index)} of {split} has {_short(value)} in {column!r}: {kind}"
            fix = "Set type: token-classification." if per_word else "Name a column of texts."
            raise InvalidInputError(Problem("task.text", what, fix))
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
            shown = (
                str(value).lower() if isinstance(value, bool) else f"{type(value).__name__} ({_short(value)})"
            )
            what = f"column {column!r} of {split} has {shown} in {rows.place(index)}, which is not text"
            raise InvalidInputError(
                Problem("task.text", what, "Write it as text in quotation marks, or name a column of texts.")
            )


def _check_label_values(rows: Rows, split: str, column: str) -> None:
    for index, value in enumerate(rows[column]):
        if isinstance(value, bytes | timedelta):
            what = (
                f"column {column!r} of {split} has {type(value).__name__} ({_short(value)}) in {rows.place(index)}, "
                "which is no class and no number"
            )
            fix = "Store the labels as text or numbers, or name another column."
            raise InvalidInputError(Problem("task.label", what, fix))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def without_unlabeled_splits(
    raw: Mapping[str, Rows], sources: dict[str, Any], task: TaskSpec, notes: Notes
) -> dict[str, Rows]:
    """Return the splits without those of a data set that have no labels, unless the task names them.

    The test splits of public benchmarks often have -1 or nothing as labels. The entries of the splits are also
    removed from `sources`.
    """
    kept = dict(raw)
    for split in ("validation", "test"):
        if task.label is None or split not in raw or getattr(task, split) is not None:
            continue
        unknown = (None,) if -1 in raw["train"][task.label] else (None, -1)
        if all(label in unknown or label != label for label in raw[split][task.label]):
            del kept[split]
            sources.pop(split, None)
            notes.note(f"{split}: the split of this name in {task.dataset} has no labels, and is not used")
    return kept


def find_classes(raw: Mapping[str, Rows], task: TaskSpec, notes: Notes) -> tuple[Any, ...] | None:
    """Return the label values of a classification task in order, else None.

    Raises:
        InvalidInputError: The labels of train are no classes, or a split has labels that train does not have.
    """
    if task.label is None or task.type == "regression":
        return None
    labels = [label for _, label in each_label(raw["train"], task)]
    if not labels:
        what = f"train has no label: every list in {task.label!r} is empty"
        raise InvalidInputError(Problem("task.label", what, "Name the column with the labels."))
    _check_kinds(labels)
    _check_empty(raw, task)
    classes = tuple(sorted(_representatives(labels), key=lambda label: (str(type(label)), label)))
    if len(classes) < 2:
        what = f"train has only one label, {classes[0]!r}"
        raise InvalidInputError(Problem("task.label", what, "Name the column with the classes."))
    if len(classes) > max(_MANY_CLASSES, len(labels) // 2):
        what = f"train has {len(classes):,} different labels"
        fix = "Name a column of classes, or set type: regression for numbers."
        raise InvalidInputError(Problem("task.label", what, fix))
    for split, rows in raw.items():
        _check_unseen(rows, split, task, classes)
    _warn_of_labels(classes, labels, notes)
    return classes


def _check_kinds(labels: Sequence[Any]) -> None:
    """Refuse true and false beside numbers, which Python and JSON take for 1 and 0, or for classes of their own."""
    kinds = {type(label) for label in labels}
    if bool in kinds and kinds & {int, float}:
        what = "train has both true or false and numbers as labels"
        raise InvalidInputError(Problem("task.label", what, "Write all labels in one way."))


def _check_empty(raw: Mapping[str, Rows], task: TaskSpec) -> None:
    for split, rows in raw.items():
        for index, label in each_label(rows, task):
            if isinstance(label, str) and not label.strip():
                what = f"{rows.place(index)} of {split} has an empty label in {task.label!r}"
                raise InvalidInputError(Problem("task.label", what, "Remove the row or fill in its label."))


def _representatives(labels: Sequence[Any]) -> list[Any]:
    """Return one value for each class: where 1 and "1" are the same class, that of the more frequent type."""
    order = [kind for kind, _ in Counter(map(type, labels)).most_common()]
    values: dict[str, Any] = {}
    for kind in order:
        for label in dict.fromkeys(label for label in labels if type(label) is kind):
            values.setdefault(label_text(label), label)
    return list(values.values())


def _check_unseen(rows: Rows, split: str, task: TaskSpec, classes: tuple[Any, ...]) -> None:
    """Refuse labels that no class has, with the place of each."""
    positions = class_positions(classes)
    unseen: dict[str, tuple[int, Any]] = {}
    for index, label in each_label(rows, task):
        if label_text(label) not in positions:
            unseen.setdefault(label_text(label), (index, label))
    if not unseen:
        return
    shown = ", ".join(f"{label!r} ({rows.place(index)})" for index, label in list(unseen.values())[:_SHOWN])
    more = f" and {len(unseen) - _SHOWN:,} more" if len(unseen) > _SHOWN else ""
    if set(unseen) == {"-1"}:
        fix = "-1 usually stands for an unknown label: use another split, or leave this one out."
    else:
        known = list(map(label_text, classes))
        fix = f"Correct the labels. {did_you_mean(next(iter(unseen)), known)}"
    what = f"{split} has labels that train does not have: {shown}{more}"
    raise InvalidInputError(Problem("task.label", what, fix))


def _warn_of_labels(classes: tuple[Any, ...], labels: Sequence[Any], notes: Notes) -> None:
    """Warn of classes that are probably one class, lists, or numbers."""
    counts = Counter(map(label_text, labels))
    for alike in _alike(classes):
        # Composed and decomposed letters look alike unless they are escaped.
        show = repr if len({normalize("NFC", repr(value)) for value in alike}) == len(alike) else ascii
        shown = ", ".join(f"{show(value)} ({counts[label_text(value)]:,} rows)" for value in alike)
        notes.warn(
            f"label: {shown} differ only in case, white space, invisible characters or Unicode's forms of one "
            f"character, and count as {len(alike)} classes"
        )
    if any(isinstance(value, float) and not value.is_integer() for value in classes):
        notes.warn(
            f"label: fractions such as {_fraction(classes)!r} are {len(classes):,} classes without order; "
            "to predict them as numbers, set type: regression"
        )
    if lists := _lists(classes):
        notes.warn(
            f"label: each different text such as {lists[0]!r} is a class of its own, not a list of labels"
        )
    if len(classes) > _MANY_CLASSES:
        few = sum(count < _SHOWN for count in counts.values())
        notes.warn(f"label: {len(classes):,} classes, {few:,} of them with fewer than {_SHOWN} rows of train")


def _alike(classes: tuple[Any, ...]) -> Iterator[list[Any]]:
    groups = defaultdict(list)
    for value in classes:
        groups[_folded(label_text(value))].append(value)
    return (group for group in groups.values() if len(group) > 1)


def _folded(label: str) -> str:
    """Return a label in one case and one Unicode form (NFKC), without invisible characters and extra white space."""
    spaced = " ".join(normalize("NFKC", label).split())
    visible = "".join(each for each in spaced if category(each) not in _INVISIBLE and each not in _VARIANTS)
    return normalize("NFKC", " ".join(visible.split()).casefold())


def warn_of_constant_f1(raw: Mapping[str, Rows], task: TaskSpec, positive: Any, notes: Notes) -> None:
    """Warn of held-out splits without the class that f1 scores: f1 is then 0 whatever the model predicts.

    Args:
        raw: The rows by split.
        task: The task.
        positive: The class that f1 scores.
        notes: Receives the warning.
    """
    assert task.label is not None
    labels = {name: raw[name][task.label] for name in ("validation", "test")}
    lacking = [name for name, values in labels.items() if positive not in values]
    if task.metric == "f1" and lacking:
        rows = Counter(raw["train"][task.label])[positive]
        have = "has" if len(lacking) == 1 else "have"
        notes.warn(
            f"f1: {' and '.join(lacking)} {have} no row of class {positive!r}, which f1 scores ({rows:,} rows in "
            "train), so f1 is 0 there for every trial; give more rows of the class, set metric: accuracy, or name "
            "another class in positive"
        )


def _lists(classes: tuple[Any, ...]) -> list[str]:
    """Return the classes that look like several: in brackets, or other classes with a separator between them."""
    texts = {value for value in classes if isinstance(value, str)}
    found = []
    for text in sorted(texts):
        parts = [part.strip() for part in _SEPARATORS.split(text)]
        if text[:1] + text[-1:] == "[]" or (len(parts) > 1 and texts.issuperset(parts)):
            found.append(text)
    return found


def _fraction(classes: tuple[Any, ...]) -> float:
    return next(value for value in classes if isinstance(value, float) and not value.is_integer())


def read_targets(
    raw: Mapping[str, Rows], task: TaskSpec, classes: tuple[Any, ...] | None, notes: Notes
) -> dict[str, Rows]:
    """Return the splits with labels that are among the classes, or numbers for a regression.

    Labels that are written differently than in train are counted in `notes`.

    Raises:
        InvalidInputError: A target of a regression is not a finite number.
    """
    if task.label is None:
        return dict(raw)
    splits = {}
    for split, rows in raw.items():
        try:
            splits[split] = as_targets(rows, task.model_dump(), classes)
        except DataError as error:
            raise InvalidInputError(Problem("task.label", f"{split}: {error.what}", error.fix)) from error
        _note_changes(rows, splits[split], split, task.label, notes)
    return splits


def _note_changes(before: Rows, after: Rows, split: str, column: str, notes: Notes) -> None:
    changed = [
        index
        for index, (old, new) in enumerate(zip(before[column], after[column], strict=True))
        if type(old) is not type(new) and (isinstance(old, str) or isinstance(new, str | bool))
    ]
    if changed:
        old, new = before[column][changed[0]], after[column][changed[0]]
        notes.note(f"{split}: {len(changed):,} labels are read as another type, such as {old!r} as {new!r}")


def class_names(
    classes: tuple[Any, ...] | None, rows: Rows, task: TaskSpec, notes: Notes
) -> tuple[str, ...] | None:
    """Return the names of the classes: those of the data set where it has them, else the values as text.

    Args:
        classes: The label values in order, or None without classes.
        rows: The rows of a split as they were read.
        task: The task.
        notes: Receives the names of the data set.
    """
    if classes is None:
        return None
    known = rows.class_names.get(str(task.label), ())
    if len(set(known)) < len(known) or not all(type(c) is int and 0 <= c < len(known) for c in classes):
        return tuple(map(str, classes))
    names = tuple(known[value] for value in classes)
    pairs = [f"{value} is {name!r}" for value, name in zip(classes, names, strict=True)]
    notes.note(f"label: the data set names its classes: {listed(pairs, _SHOWN)}")
    return names


def find_positive(
    labels: Sequence[Any], task: TaskSpec, classes: tuple[Any, ...] | None, notes: Notes
) -> int | None:
    """Return the index of the class that f1 scores: the named one, else the rarer of two classes.

    It is None, and f1 has its own default, for more classes and for data of the first version.

    Args:
        labels: The labels of train before other splits were carved out of it, so that carving decides no tie.
        task: The task.
        classes: The label values in order, or None without classes.
        notes: Receives the class.

    Raises:
        InvalidInputError: The task names a class that train does not have.
    """
    if classes is None or not find_kind(task.type).has_classes:
        return None
    counts = Counter(labels)
    positive, hint = None, ""
    if task.positive is not None:
        positive = _named_class(task.positive, classes)
    elif task.data_version != ROWS_APART and len(classes) == 2:
        positive = 0 if counts[classes[0]] < counts[classes[1]] else 1
        hint = "; task.positive names another class"
    if positive is not None:
        share = counts[classes[positive]] / len(labels)
        notes.note(f"f1: scores class {classes[positive]!r} ({share:.1%} of train){hint}")
    return positive


def _named_class(name: str | float | bool, classes: tuple[Any, ...]) -> int:
    positive = class_positions(classes).get(label_text(name))
    if positive is None:
        fix = did_you_mean(label_text(name), list(map(label_text, classes)))
        raise InvalidInputError(Problem("task.positive", f"train has no class {name!r}", fix))
    return positive


def fit_target_scale(splits: Mapping[str, Rows], task: TaskSpec, notes: Notes) -> TargetScale | None:
    """Return the mean and the deviation of train's targets; None for other tasks and data of the first version.

    Raises:
        InvalidInputError: The targets of train are constant, or too large for their square.
    """
    if task.type != "regression":
        return None
    assert task.label is not None
    train = np.array(splits["train"][task.label])
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(train.mean()), float(train.std())
    if np.ptp(train) == 0:
        what = f"all {len(train):,} targets of train are {train[0]:g}"
        raise InvalidInputError(Problem("task.label", what, "Name a column with different numbers."))
    if not (np.isfinite(deviation) and deviation > 0):
        what = f"the variance of {task.label!r} cannot be computed; its targets reach {np.abs(train).max():g}"
        raise InvalidInputError(
            Problem("task.label", what, "Write the targets in another unit, or their logarithm.")
        )
    for split, rows in splits.items():
        if len(set(rows[task.label])) == 1:
            notes.warn(f"{split}: all targets are {rows[task.label][0]:g}, so correlations are 0")
    if task.data_version == ROWS_APART:
        return None
    notes.note(
        f"targets: standardized in training with the mean {mean:.6g} and the standard deviation {deviation:.6g} of "
        "train; mse is in their own units, eval_loss in units of the variance"
    )
    return TargetScale(mean, deviation)
