"""The data of a task: read with `datasets`, validated, split, and tokenized once per process."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InvalidInputError, Problem, did_you_mean, first_line
from trials.tasks.encoding import IGNORED, Encoded, encode, prepare_tokenizer
from trials.tasks.sources import SPLITS, read_splits
from trials.tasks.specs import POCKET, ModelSpec, TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class TaskData:
    """The examples of a task.

    Args:
        splits: The encoded examples by split (`train`, `validation`, `test`).
        raw: The same splits before encoding, in the same order, without the examples that were dropped.
        sources: The arguments of `datasets.load_dataset` that read a split again; a split that was carved out or
            embedded has none.
        classes: The label values in order for classification, else None.
        tokenizer: The tokenizer, with a padding token.
        notes: Messages for the user about what was found and decided.
    """

    splits: dict[str, list[Encoded]]
    raw: dict[str, Dataset]
    sources: dict[str, dict[str, Any]]
    classes: tuple[Any, ...] | None
    tokenizer: Any
    notes: tuple[str, ...]
    _cuts: dict[int, TaskData] = field(default_factory=dict, repr=False, compare=False)

    def at_length(self, task: TaskSpec, length: int | None) -> TaskData:
        """Return the data with examples truncated to `length` tokens; the same object if nothing is truncated.

        Longer examples are encoded again, so that special tokens stay. In a causal-lm task only the training split is
        truncated: the score is a mean over held-out tokens, which must be the same for every length. The result is
        cached, so each length is encoded once per process.

        Args:
            task: The task.
            length: The maximum number of tokens; None for that of the task.

        Raises:
            InvalidInputError: No example of a split has target tokens within `length` tokens.
        """
        if length is None or length >= task.max_length:
            return self
        if length not in self._cuts:
            self._cuts[length] = _cut(self, task, length)
        return self._cuts[length]

    @property
    def outputs(self) -> int:
        """The number of outputs of the head: the number of classes, or 1."""
        return len(self.classes) if self.classes else 1

    def lengths(self, split: str) -> NDArray[np.int64]:
        """Return the number of tokens of each example of a split, shape [n]."""
        return np.array([len(example["input_ids"]) for example in self.splits[split]])


def resolve_model(name: str) -> str:
    """Return the folder of the embedded model for its name, and any other name unchanged."""
    if name != POCKET:
        return name
    from trials.tasks.pocket import base_folder

    return str(base_folder())


@functools.lru_cache(maxsize=4)
def load_task(task: TaskSpec, model: ModelSpec) -> TaskData:
    """Read, validate, split and tokenize the data of a task. The last results are cached.

    Raises:
        InvalidInputError: A file, column or split is missing or empty, a label is missing or absent from the training
            split, or the tokenizer does not support the task.
    """
    from datasets import disable_progress_bars

    disable_progress_bars()
    raw, sources, notes = read_splits(task)
    _check_columns(raw, task)
    raw = _without_empty_rows(raw, task, notes)
    raw = _carve(raw, sources, task, notes)
    classes = _classes(raw, task)
    tokenizer = load_tokenizer(model)
    splits: dict[str, list[Encoded]] = {}
    for name in SPLITS:
        splits[name], raw[name] = _encode_split(raw[name], name, task, tokenizer, classes, notes)
    sizes = ", ".join(f"{len(splits[name]):,} {name}" for name in SPLITS)
    notes.append(f"examples: {sizes}")
    return TaskData(splits, raw, sources, classes, tokenizer, tuple(notes))


def load_tokenizer(model: ModelSpec) -> Any:
    """Return the model's tokenizer, with a padding token.

    Raises:
        InvalidInputError: The model has no tokenizer, or one without a vocabulary.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            resolve_model(model.name), revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            Problem(
                "model",
                f"{model.name!r} has no tokenizer that can be loaded ({first_line(error, 200)})",
                "Give a hub id or a folder with the tokenizer's files beside the weights.",
            )
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        # transformers makes an empty tokenizer where the folder has no vocabulary
        raise InvalidInputError(
            Problem(
                "model",
                f"{model.name!r} has no vocabulary",
                "Save the tokenizer into the same folder: tokenizer.save_pretrained(folder).",
            )
        )
    return prepare_tokenizer(tokenizer)


def _check_columns(raw: Mapping[str, Dataset], task: TaskSpec) -> None:
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
    for name in ("label", "prompt", "completion", "messages"):
        if getattr(task, name) == column:
            return f"task.{name}"
    return "task.text"


def _without_empty_rows(raw: Mapping[str, Dataset], task: TaskSpec, notes: list[str]) -> dict[str, Dataset]:
    """Drop rows without text; a missing label is an error."""
    kept = {}
    for split, rows in raw.items():
        empty = np.zeros(len(rows), dtype=bool)
        for column in task.columns:
            missing = np.array([value is None or value != value for value in rows[column]])
            if column == task.label and missing.any():
                raise InvalidInputError(
                    Problem(
                        "task.label",
                        f"{missing.sum()} rows of {split} have no value in {column!r}",
                        "Remove the rows or fill in their labels.",
                    )
                )
            empty |= missing
        if empty.any():
            notes.append(f"{split}: {empty.sum()} rows without text dropped")
        kept[split] = rows.select(np.flatnonzero(~empty)) if empty.any() else rows
    return kept


def _carve(
    raw: Mapping[str, Dataset], sources: dict[str, dict[str, Any]], task: TaskSpec, notes: list[str]
) -> dict[str, Dataset]:
    """Carve missing validation and test splits out of the training split, and remove its entry from `sources`."""
    splits = dict(raw)
    missing = [name for name in ("validation", "test") if name not in splits]
    if not missing:
        return splits
    rng = np.random.default_rng(task.split_seed)
    order = rng.permutation(len(splits["train"]))
    size = round(len(order) * task.carve)
    if size < 1 or len(order) - size * len(missing) < 1:
        raise InvalidInputError(
            Problem(
                "task.train",
                f"{len(order)} rows are too few to carve a {' and a '.join(missing)} split "
                f"of {task.carve:.0%} out of them",
                "Give more rows, or files for the other splits.",
            )
        )
    train = splits["train"]
    for name in missing:
        part, order = order[:size], order[size:]
        splits[name] = train.select(np.sort(part))
        notes.append(f"{name}: {size:,} rows carved out of train (seed {task.split_seed})")
    splits["train"] = train.select(np.sort(order))
    sources.pop("train", None)
    return splits


def _classes(raw: Mapping[str, Dataset], task: TaskSpec) -> tuple[Any, ...] | None:
    if task.type == "causal-lm":
        return None
    assert task.label is not None
    if task.type == "regression":
        for split, rows in raw.items():
            _check_numbers(rows[task.label], split, task.label)
        return None
    classes = tuple(sorted(set(raw["train"][task.label]), key=lambda label: (str(type(label)), label)))
    if len(classes) < 2:
        raise InvalidInputError(
            Problem(
                "task.label",
                f"train has only one label, {classes[0]!r}",
                "Name the column with the classes.",
            )
        )
    if len(classes) > max(100, len(raw["train"]) // 2):
        raise InvalidInputError(
            Problem(
                "task.label",
                f"train has {len(classes):,} different labels",
                "Name a column of classes, or set type: regression for numbers.",
            )
        )
    for split in ("validation", "test"):
        unseen = sorted(set(map(repr, raw[split][task.label])) - set(map(repr, classes)))
        if unseen:
            raise InvalidInputError(
                Problem(
                    "task.label",
                    f"{split} has labels that train does not have: {', '.join(unseen[:5])}",
                    f"Correct the labels, or use data whose labels are among {list(classes)[:10]}.",
                )
            )
    return classes


def _check_numbers(values: Any, split: str, column: str) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInputError(
                Problem(
                    "task.label",
                    f"{split} has {value!r} in {column!r}, which is not a number",
                    "Regression needs numbers; set type: sequence-classification for classes.",
                )
            )


def _encode_split(
    rows: Dataset, name: str, task: TaskSpec, tokenizer: Any, classes: Any, notes: list[str]
) -> tuple[list[Encoded], Dataset]:
    fields = task.model_dump()
    try:
        examples = [encode(row, fields, tokenizer, classes) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInputError(
            Problem(
                f"task.{name}",
                f"the tokenizer cannot encode it ({first_line(error, 200)})",
                "Check the columns: text must be strings, messages lists of {role, content}.",
            )
        ) from error
    kept = _with_targets(examples)
    if len(kept) < len(examples):
        notes.append(
            f"{name}: {len(examples) - len(kept)} examples dropped: no target tokens within "
            f"{task.max_length} tokens"
        )
        examples, rows = [examples[i] for i in kept], rows.select(kept)
    if not examples:
        raise InvalidInputError(
            Problem(
                f"task.{name}",
                "no example has target tokens within max_length",
                "Raise max_length, or check the named columns.",
            )
        )
    return examples, rows


def _with_targets(examples: list[Encoded]) -> list[int]:
    """Return the indices of the examples with target tokens, or with a label."""
    # A causal model predicts the next token, so the first label is never scored.
    return [
        index
        for index, example in enumerate(examples)
        if not isinstance(labels := example["labels"], list) or any(label != IGNORED for label in labels[1:])
    ]


def _cut(data: TaskData, task: TaskSpec, length: int) -> TaskData:
    fields = {**task.model_dump(), "max_length": length}
    splits, raw = dict(data.splits), dict(data.raw)
    for name in ("train",) if task.type == "causal-lm" else SPLITS:
        examples = list(splits[name])
        longer = [index for index, example in enumerate(examples) if len(example["input_ids"]) > length]
        for index, row in zip(longer, raw[name].select(longer), strict=True):
            examples[index] = encode(row, fields, data.tokenizer, data.classes)
        kept = _with_targets(examples)
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
