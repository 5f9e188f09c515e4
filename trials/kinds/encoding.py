"""The examples of a split, encoded for the kind of its task: the same in the search and in an exported run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..reading.encoding import Encoded, Encoding
from ..reading.lengths import Cut, measured_cut
from ..reading.tables.errors import DataError, RowError, first_line
from ..reading.tables.rows import Row, Rows
from .registry import find_kind

_SHOWN = 3
"""The causes of bad rows that an error names."""


def encode(row: Row, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None) -> Encoded:
    """Return the token ids (`input_ids`, and other inputs of the model) and `labels` of one row.

    The labels of a causal language model are token ids, and IGNORED outside the target tokens. All of them are
    IGNORED if no target token is within `max_length`.

    Args:
        row: The values by column.
        task: The fields of the task's spec; for a regression also `target_scale`, the fields of a `TargetScale` by
            which targets are standardized, or None.
        tokenizer: The model's tokenizer.
        classes: The label values in order for classification, else None.

    Raises:
        RowError: The row has another form than its task says, or the chat template refuses it.
        DataError: The data are chats and there is no chat template.
    """
    return encode_fully(row, task, tokenizer, classes).example


def encode_fully(
    row: Row, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
) -> Encoding:
    """Return what `encode` does, with the length before the cut and with remarks."""
    return find_kind(task["type"]).encode(row, task, tokenizer, classes)


def full_length(row: Row, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None) -> int:
    """Return the number of tokens of a row before `max_length` cuts it."""
    return encode_fully(row, task, tokenizer, classes).full_length


@dataclass(frozen=True)
class EncodedRows:
    """The examples of a split.

    Args:
        examples: The examples that have target tokens or a label.
        kept: The indices of their rows.
        cut: What `max_length` cut of all rows that could be encoded.
        bad: What is wrong with the rows that were dropped, one clause per cause; empty if there are none.
        bad_rows: The number of these rows.
        remarks: How often something was decided or left out in a row.
        dropped: How many examples were dropped, by the reason.
    """

    examples: list[Encoded]
    kept: list[int]
    cut: Cut
    bad: str
    bad_rows: int
    remarks: Counter[str]
    dropped: Counter[str]


def encode_rows(
    rows: Rows, task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
) -> EncodedRows:
    """Encode the rows of a split.

    Args:
        rows: The rows, with a value in each column that the task requires.
        task: The fields of the task's spec. Rows that cannot be encoded are dropped if `bad_rows` is `drop`.
        tokenizer: The model's tokenizer.
        classes: The label values in order for classification, else None.

    Raises:
        DataError: A row cannot be encoded.
    """
    encodings, errors = dict[int, Encoding](), dict[int, RowError]()
    for index, row in enumerate(rows):
        try:
            encodings[index] = encode_fully(row, task, tokenizer, classes)
        except RowError as error:
            errors[index] = error
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"the tokenizer cannot encode {rows.place(index)} ({first_line(error)})",
                "Check the columns: text must be strings, messages lists of {role, content}.",
            ) from error
    bad = _causes(rows, errors)
    if errors and task.get("bad_rows") != "drop":
        fix = next(iter(errors.values())).fix
        raise DataError(bad, f"{fix} bad_rows: drop leaves them out.")
    indices = list(encodings)
    kept = [indices[i] for i in with_targets([encodings[i].example for i in indices], task)]
    remarks = Counter(remark for index in kept for remark in encodings[index].remarks)
    examples = [encodings[index].example for index in kept]
    kind = find_kind(task["type"])
    within = [kind.learned_tokens(e.example) if e.full_targets else 0 for e in encodings.values()]
    lengths = [(e.full_length, e.full_targets) for e in encodings.values()]
    measured = [(*pair, n) for pair, n in zip(lengths, within, strict=True)]
    cut = measured_cut(task["max_length"], measured, task["max_target_length"] if kind.has_decoder else None)
    left = encodings.keys() - set(kept)
    dropped = Counter(kind.drop_reason(encodings[i].example, task["max_length"]) for i in sorted(left))
    return EncodedRows(examples, kept, cut, bad, len(errors), remarks, dropped)


def _causes(rows: Rows, errors: Mapping[int, RowError]) -> str:
    """Return the causes of bad rows with their counts, the frequent ones first, each with its first row."""
    if not errors:
        return ""
    first: dict[str, int] = {}
    for index, error in errors.items():
        first.setdefault(error.what, index)
    counts = Counter(error.what for error in errors.values())
    shown = [
        f"{what}, in {count:,} {'row' if count == 1 else 'rows'}, first {rows.place(first[what])}"
        for what, count in counts.most_common(_SHOWN)
    ]
    more = f"; and {len(counts) - _SHOWN:,} other causes" if len(counts) > _SHOWN else ""
    return f"{len(errors):,} of {len(rows):,} rows cannot be used: {'; '.join(shown)}{more}"


def with_targets(examples: Sequence[Encoded], task: Mapping[str, Any]) -> list[int]:
    """Return the indices of the examples with something to learn: a label, or target tokens."""
    kind = find_kind(task["type"])
    return [index for index, example in enumerate(examples) if kind.target_count(example)]
