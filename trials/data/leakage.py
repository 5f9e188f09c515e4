"""Equal texts: repeated within a split, shared between splits, or labeled differently.

What the model reads of a row decides, not what the file holds: both columns of a pair, the prompt with its
completion, the turns of a chat whatever their form, both answers of a preference pair unless only the better one is
learned; neither the label nor other keys of a message. Each row has two keys for two purposes:

* Carving keeps rows together that any usual tokenizer could encode alike: texts are similar if they are equal but for
  case, accents, white space, quotes, invisible characters and Unicode's forms of one character. The tokenizer has no
  influence, so that the splits are the same for every base model. Preference pairs are similar if their prompts are.
* A report is of rows that the model cannot distinguish: their texts are equal but for white space and Unicode's
  composed form (NFC), or their token ids are equal.
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trials.data.notes import Notes
from trials.kinds.encoding import encode_fully
from trials.kinds.registry import find_kind
from trials.kinds.scoring.tags import as_text
from trials.reading.forms import Chat, Passage, read_example, read_pair, read_preference, with_merged_system
from trials.reading.images import image_digest
from trials.reading.tables.errors import RowError
from trials.reading.tables.rows import Row, Rows
from trials.tasks.specs import GENERATING, TaskSpec

_SEPARATOR = "\x1f"
"""Stands between the columns of a row; text does not contain it."""
_DIGEST_BYTES = 16
_WHOLE = 10**9
"""A length in tokens that cuts nothing."""
_DROPPED = "`'\"\ufffd"
"""Characters that a tokenizer replaces by one another or removes, beside those of `_DROPPED_CATEGORIES`."""
_DROPPED_CATEGORIES = ("Mn", "Z", "Cc", "Cf", "Cn", "Co")
"""Unicode's categories of accents, white space and invisible characters."""


@dataclass(frozen=True)
class TextKeys:
    """The keys of the rows of a split; see the top of this file.

    Args:
        similar: Keys that are equal for rows with similar texts, for carving.
        exact: Keys that are equal for rows with equal texts.
    """

    similar: list[bytes]
    exact: list[bytes]


class _Folding(dict[int, int | None]):
    """A table for `str.translate` that drops characters, filled as characters occur."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        is_dropped = character in _DROPPED or unicodedata.category(character).startswith(_DROPPED_CATEGORIES)
        self[code] = None if is_dropped else code
        return self[code]


_FOLDING = _Folding()


def normalize_text(text: str) -> str:
    r"""Return a text in Unicode's composed form (NFC), with one space for each run of white space.

    Example:
        >>> normalize_text(" a  warm\tfilm ")
        'a warm film'
    """
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def fold_text(text: str) -> str:
    """Return a text without what a tokenizer may ignore: case, accents, white space, quotes, invisible characters.

    Example:
        >>> fold_text("Le  caf\u00e9\u200b") == fold_text("le cafe")
        True
    """
    return (text if text.isascii() else unicodedata.normalize("NFKD", text)).casefold().translate(_FOLDING)


def text_keys(rows: Rows, task: TaskSpec) -> TextKeys:
    """Return the keys of each row."""
    if task.image:  # nothing tells two files of one image but their pixels, so equal files alone are found
        digests = [image_digest(value) for value in rows[task.image]]
        return TextKeys(digests, digests)
    fields, separator = task.model_dump(), "" if task.type in GENERATING else _SEPARATOR
    names = task.columns
    similar, exact = [], []
    for values in zip(*(rows[name] for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        texts = _texts_read(row, task, fields)
        # The boundaries of turns and prompts are no text: another row may have them elsewhere.
        kept_together = _prompt_texts(row, fields) if task.type == "preference" else texts
        similar.append(_digest(separator.join(map(fold_text, kept_together or texts))))
        exact.append(_digest(_SEPARATOR.join(map(normalize_text, texts))))
    return TextKeys(similar, exact)


def _texts_read(row: Row, task: TaskSpec, fields: Mapping[str, Any]) -> list[str]:
    """Return the texts that the model reads of a row; all values, if the row cannot be read."""
    if task.type not in GENERATING:
        return [as_text(row[name]) for name in task.text]
    try:
        if task.type == "preference":  # in one order: a pair the other way round has the same texts
            both = (_form_texts(form, task) for form in read_pair(row, fields, as_chat=False))
            return [text for texts in sorted(both) for text in texts]
        example = read_example(row, fields, as_chat=False)
    except (RowError, ValueError, TypeError, KeyError):  # encoding reports the row
        return [_json(value) for value in row.values()]
    return _form_texts(example, task)


def _prompt_texts(row: Row, fields: Mapping[str, Any]) -> list[str]:
    """Return the texts of a pair's prompt: the pairs of one prompt share answers."""
    try:
        prompt = read_preference(row, fields).prompt
    except (RowError, ValueError, TypeError, KeyError):
        return []
    texts = [prompt] if isinstance(prompt, str) else [str(turn.get("content") or "") for turn in prompt]
    return texts if any(text.strip() for text in texts) else []


def _form_texts(example: Chat | Passage, task: TaskSpec) -> list[str]:
    if not isinstance(example, Chat):
        return [example.prompt, example.completion]
    example = with_merged_system(example) if task.merge_system else example
    texts = [_json(tool) for tool in example.tools]
    for message in example.messages:
        texts += [str(message["role"]), str(message.get("reasoning_content") or "")]
        texts.append(str(message.get("content") or ""))
        texts += [_json(call["function"]) for call in message.get("tool_calls", ())]
    return texts


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def keys_by_tokens(
    splits: Mapping[str, Rows],
    keys: Mapping[str, TextKeys],
    task: TaskSpec,
    load_tokenizer: Callable[[], Any],
) -> dict[str, TextKeys]:
    """Return the keys with equal `exact` ones also for texts that differ but have equal token ids.

    Only similar texts are encoded, each once.

    Args:
        splits: The rows by split.
        keys: The keys of the rows by split.
        task: The task.
        load_tokenizer: Returns the model's tokenizer; it is not called if no texts are similar.
    """
    places = defaultdict[bytes, dict[bytes, tuple[str, int]]](dict)
    for name, split in keys.items():
        for index, (similar, exact) in enumerate(zip(split.similar, split.exact, strict=True)):
            places[similar].setdefault(exact, (name, index))
    by_tokens: dict[bytes, bytes] = {}
    for texts in places.values():
        if len(texts) > 1:
            for exact, (name, index) in texts.items():
                ids = _token_ids(splits[name].row(index), task, load_tokenizer())
                by_tokens[exact] = exact if ids is None else _digest(repr(ids))
    return {
        name: TextKeys(split.similar, [by_tokens.get(key, key) for key in split.exact])
        for name, split in keys.items()
    }


def _token_ids(row: Row, task: TaskSpec, tokenizer: Any) -> list[int] | None:
    """Return the token ids of a row that nothing cuts; None if it cannot be encoded, which encoding reports."""
    try:
        if task.type in GENERATING:
            fields = {**task.model_dump(), "max_length": _WHOLE}
            example = encode_fully(row, fields, tokenizer, None).example
            rows = sorted(list(each["input_ids"]) for each in find_kind(task.type).rows(example))
            return [token for ids in rows for token in ids]
        return list(tokenizer(*(as_text(row[name]) for name in task.text), verbose=False)["input_ids"])
    except (ValueError, TypeError, KeyError):
        return None


def group_rows(keys: Sequence[bytes]) -> NDArray[np.int64]:
    """Return the group of each row, shape [n]: rows with equal keys share a group; numbered by first occurrence."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def report_equal_texts(
    splits: Mapping[str, Rows], text_keys: Mapping[str, TextKeys], task: TaskSpec, notes: Notes
) -> None:
    """Report texts that are repeated in train, shared between splits, or labeled differently.

    Args:
        splits: The rows by split, as they were given.
        text_keys: The keys of the rows by split.
        task: The task.
        notes: Receives the messages.
    """
    keys = {name: split.exact for name, split in text_keys.items()}
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
