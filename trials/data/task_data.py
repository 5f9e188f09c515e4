"""The data of a task: read, validated, split, and tokenized once per process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InvalidInputError, Problem
from trials.data.columns import check_columns, without_empty_rows
from trials.data.fingerprint import data_fingerprint, file_stamps
from trials.data.label_lists import check_tags, warn_of_absent_labels
from trials.data.labels import (
    check_label_types,
    class_names,
    find_classes,
    find_positive,
    fit_target_scale,
    read_targets,
    warn_of_constant_f1,
    without_unlabeled_splits,
)
from trials.data.leakage import keys_by_tokens, report_equal_texts, text_keys
from trials.data.lengths import note_cuts
from trials.data.notes import Notes
from trials.data.prompts import note_generation, note_prompts
from trials.data.sources import SPLITS, read_splits
from trials.data.special_tokens import note_special_tokens
from trials.data.splitting import carve
from trials.data.tokenizers import load_image_reader, load_tokenizer
from trials.kinds.encoding import EncodedRows, encode, encode_rows, with_targets
from trials.kinds.kind import Scoring
from trials.kinds.registry import find_kind
from trials.reading.encoding import Encoded, token_count
from trials.reading.fingerprint import Fingerprint
from trials.reading.labels import TargetScale, label_text
from trials.reading.lengths import Cut
from trials.reading.tables.errors import DataError
from trials.reading.tables.rows import Rows, counted
from trials.tasks.specs import DOCSTRINGS, ModelSpec, TaskSpec


@dataclass(frozen=True)
class TaskData:
    """The examples of a task.

    Args:
        splits: The encoded examples by split (`train`, `validation`, `test`).
        raw: The same splits before encoding, in the same order, without the examples that were dropped.
        sources: Where `trials.reading.splits.read_source` finds a split again; a split that was carved out or
            embedded has none.
        classes: The label values in order for classification, else None.
        fields: The fields of the task's spec.
        class_names: The names of the classes for classification, else None.
        tokenizer: The tokenizer, with a padding token.
        positive: The index of the class that f1 scores, if it scores one that is named or rarer.
        target_scale: The scale by which the targets of a regression are standardized in `splits`; None if they are
            not.
        notes: Messages for the user about what was found and decided.
        warnings: Messages for the user about what makes the scores misleading unless the data are changed.
        fingerprint: The fingerprint of each split as it was read and carved, also of rows without target tokens.
        cuts: What `max_length` cuts of each split.
    """

    splits: dict[str, list[Encoded]]
    raw: dict[str, Rows]
    sources: dict[str, dict[str, Any]]
    classes: tuple[Any, ...] | None
    fields: dict[str, Any] = field(repr=False)
    tokenizer: Any
    notes: tuple[str, ...]
    fingerprint: dict[str, Fingerprint] = field(repr=False)
    cuts: dict[str, Cut] = field(repr=False, compare=False)
    warnings: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    positive: int | None = None
    target_scale: TargetScale | None = None
    _cuts: dict[int, TaskData] = field(default_factory=dict, repr=False, compare=False)

    def at_length(self, task: TaskSpec, length: int | None) -> TaskData:
        """Return the data with examples truncated to `length` tokens; the same object if nothing is truncated.

        Longer examples are encoded again, so that special tokens stay. Only the training split is truncated where the
        score is a mean over held-out tokens, as for causal-lm, which must be the same for every length. The result is
        cached, so each length is encoded once per process.

        Args:
            task: The task.
            length: The maximum number of tokens; None for that of the task.

        Raises:
            InvalidInputError: No example of a split has target tokens within `length` tokens.
        """
        if length is None or length >= task.max_length:
            return self
        if find_kind(task.type).reads == "images":
            what, fix = (
                "images have no tokens that could be cut",
                "Remove sequence_length, or the rungs of length.",
            )
            raise InvalidInputError(Problem("space.parameters.sequence_length", what, fix))
        if length not in self._cuts:
            self._cuts[length] = _cut(self, task, length)
        return self._cuts[length]

    @property
    def outputs(self) -> int:
        """The number of outputs of the head: the number of classes, or 1."""
        return len(self.classes) if self.classes else 1

    @property
    def scoring(self) -> Scoring:
        """What scores need to know of the data."""
        return Scoring(self.positive, self.target_scale, self.classes, self.class_names, self.fields)

    def lengths(self, split: str) -> NDArray[np.int64]:
        """Return the number of tokens of the longest row of each example of a split, shape [n]."""
        kind = find_kind(self.fields["type"])
        return np.array([kind.row_length(example) for example in self.splits[split]])

    def tokens(self, split: str) -> NDArray[np.int64]:
        """Return the number of tokens of each example of a split, all of its rows together, shape [n]."""
        return np.array([token_count(example) for example in self.splits[split]])


def resolved_task(task: TaskSpec, data: TaskData) -> TaskSpec:
    """Return the task with the name of its positive class, if it has one."""
    if data.positive is None or data.classes is None:
        return task
    name = data.classes[data.positive]
    plain = name if isinstance(name, str | int | float) else label_text(name)
    return task.model_copy(update={"positive": plain})


def load_task(task: TaskSpec, model: ModelSpec) -> TaskData:
    """Read, validate, split and tokenize the data of a task.

    The last results are cached until a file of the data or of the tokenizer is written again.

    Raises:
        InvalidInputError: A file, column or split is missing or empty, a label is missing or absent from the training
            split, or the tokenizer does not support the task.
    """
    read = ModelSpec(
        name=model.name, revision=model.revision, trust_remote_code=model.trust_remote_code
    )  # a tokenizer is the same for every precision, format of weights and device
    return _load_task(task, read, file_stamps(task, read))


@functools.lru_cache(maxsize=4)
def _load_task(task: TaskSpec, model: ModelSpec, stamps: object) -> TaskData:
    notes = Notes()
    has_images = find_kind(task.type).reads == "images"
    model_tokenizer = functools.cache(lambda: (load_image_reader if has_images else load_tokenizer)(model))
    raw, sources, classes = read_rows(task, notes, model_tokenizer)
    fingerprint = data_fingerprint(raw, task)
    tokenizer = model_tokenizer()
    if not has_images:
        note_special_tokens(raw, task, tokenizer, notes)
    names = class_names(classes, raw["train"], task, notes)
    check_tags(names, task, notes)
    warn_of_absent_labels(raw, task, classes, notes)
    positive = find_positive(_labels_before_carving(raw, sources, task), task, classes, notes)
    if positive is not None and classes is not None:
        warn_of_constant_f1(raw, task, classes[positive], notes)
    scale = fit_target_scale(raw, task, notes)
    splits: dict[str, list[Encoded]] = {}
    cuts: dict[str, Cut] = {}
    remarks: dict[str, dict[str, int]] = {}
    for name in SPLITS:
        encoded = encode_split(raw[name], name, _fields(task, scale, name), tokenizer, classes, notes)
        splits[name], cuts[name] = encoded.examples, encoded.cut
        if len(encoded.kept) < len(raw[name]):
            raw[name] = raw[name].select(encoded.kept)
        for remark, count in encoded.remarks.items():
            remarks.setdefault(remark, {})[name] = count
    # The embedded data set is cut so that the first sweep of a user takes seconds per trial.
    note_cuts(cuts, tokenizer, notes, is_meant=task.dataset == DOCSTRINGS)
    for remark, counts in remarks.items():
        where = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        notes.note(f"in {counted(sum(counts.values()), 'example')}, {remark} ({where})")
    note_generation(task.generation, splits, tokenizer, notes)
    if has_images:
        notes.note(_memory_note(splits))
    sizes = ", ".join(f"{len(splits[name]):,} {name}" for name in SPLITS)
    notes.note(f"examples: {sizes}")
    return TaskData(
        splits=splits,
        raw=raw,
        sources=sources,
        classes=classes,
        fields=task.model_dump(),
        tokenizer=tokenizer,
        notes=tuple(notes.facts),
        fingerprint=fingerprint,
        cuts=cuts,
        warnings=tuple(notes.warnings),
        class_names=names,
        positive=positive,
        target_scale=scale,
    )


def _memory_note(splits: Mapping[str, Sequence[Encoded]]) -> str:
    """Return how much memory the pixels take."""
    pixels = splits["train"][0]["pixel_values"]
    size = sum(example["pixel_values"].nbytes for split in splits.values() for example in split)
    shape = " × ".join(map(str, pixels.shape))
    return f"images: kept in memory as {shape} {pixels.dtype}, {size / 2**20:,.1f} MiB in all"


def _labels_before_carving(raw: Mapping[str, Rows], sources: Mapping[str, Any], task: TaskSpec) -> list[Any]:
    """Return the labels of train and of the splits that were carved out of it, which have no sources."""
    if task.label is None:
        return []
    parts = ["train"] if "train" in sources else [name for name in SPLITS if name not in sources]
    return [label for name in parts for label in raw[name][task.label]]


def _fields(task: TaskSpec, scale: TargetScale | None, split: str) -> dict[str, Any]:
    """Return what `encode` reads of a task; text is generated for held-out examples only."""
    fields = {**task.model_dump(), "target_scale": None if scale is None else asdict(scale)}
    return {**fields, "generation": None} if split == "train" else fields


def read_rows(
    task: TaskSpec, notes: Notes, load_tokenizer: Callable[[], Any] | None = None
) -> tuple[dict[str, Rows], dict[str, dict[str, Any]], tuple[Any, ...] | None]:
    """Read, validate and split the rows of a task, the same for every tokenizer.

    Args:
        task: The task.
        notes: Receives what was found and decided.
        load_tokenizer: Returns the model's tokenizer, with which similar texts are compared; without it, only texts
            that are equal but for white space are reported as equal.

    Returns:
        The rows by split, their sources, and the classes, as in `TaskData`.

    Raises:
        InvalidInputError: A file, column or split is missing or empty, or a label is missing or absent from the
            training split.
    """
    raw, sources = read_splits(task, notes)
    check_columns(raw, task)
    check_label_types(raw, task)
    raw = without_unlabeled_splits(raw, sources, task, notes)
    raw = without_empty_rows(raw, task, notes)
    note_prompts(raw["train"], task, notes)
    classes = find_classes(raw, task, notes)
    raw = read_targets(raw, task, classes, notes)
    keys = {name: text_keys(rows, task) for name, rows in raw.items()}
    compared = keys_by_tokens(raw, keys, task, load_tokenizer) if load_tokenizer else keys
    report_equal_texts(raw, compared, task, notes)
    return carve(raw, keys["train"].similar, sources, task, notes), sources, classes


def encode_split(
    rows: Rows, name: str, fields: Mapping[str, Any], tokenizer: Any, classes: Any, notes: Notes
) -> EncodedRows:
    """Encode the rows of a split.

    Args:
        rows: The rows of the split.
        name: The name of the split.
        fields: What `encode` reads of a task.
        tokenizer: The model's tokenizer.
        classes: The label values in order for classification, else None.
        notes: Receives what was dropped.

    Raises:
        InvalidInputError: A row cannot be encoded, or none has target tokens.
    """
    try:
        encoded = encode_rows(rows, fields, tokenizer, classes)
    except DataError as error:
        raise InvalidInputError(Problem(f"task.{name}", error.what, error.fix)) from error
    if encoded.bad:
        notes.warn(f"{name}: {encoded.bad}; these rows were dropped")
    for reason, count in encoded.dropped.items():
        notes.note(f"{name}: {counted(count, 'example')} dropped: {reason}")
    if encoded.bad_rows == len(rows):
        raise InvalidInputError(
            Problem(f"task.{name}", encoded.bad, "Give another chat template, or mend the rows.")
        )
    if not encoded.examples:
        raise InvalidInputError(
            Problem(
                f"task.{name}",
                f"every example is dropped: {'; '.join(encoded.dropped)}",
                "Raise max_length, or check the named columns.",
            )
        )
    return encoded


def _cut(data: TaskData, task: TaskSpec, length: int) -> TaskData:
    splits, raw, kind = dict(data.splits), dict(data.raw), find_kind(task.type)
    for name in ("train",) if kind.scores_whole_texts else SPLITS:
        fields = {**_fields(task, data.target_scale, name), "max_length": length}
        examples = list(splits[name])
        longer = [index for index, example in enumerate(examples) if kind.row_length(example) > length]
        for index in longer:
            examples[index] = encode(raw[name].row(index), fields, data.tokenizer, data.classes)
        kept = with_targets(examples, fields)
        if not kept:
            raise InvalidInputError(
                Problem(
                    "space.parameters.sequence_length",
                    f"no example of {name} has target tokens within {length} tokens",
                    f"Remove {length}.",
                )
            )
        if len(kept) < len(examples):
            examples, raw[name] = [examples[i] for i in kept], raw[name].select(kept)
        splits[name] = examples
    return replace(data, splits=splits, raw=raw, _cuts={})
