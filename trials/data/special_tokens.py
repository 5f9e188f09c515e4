"""Special tokens inside the texts of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trials.data.notes import Notes, listed
from trials.reading.chat_templates import find_template
from trials.reading.tables.errors import DataError
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TaskSpec


def note_special_tokens(raw: Mapping[str, Rows], task: TaskSpec, tokenizer: Any, notes: Notes) -> None:
    """Note texts in which the tokenizer finds special tokens.

    They may be meant, as in `question [SEP] answer`. In the messages of a chat they can end a turn, so that a text is
    learned as an answer: these are warnings.
    """
    if getattr(tokenizer, "split_special_tokens", False):
        return  # it reads them as ordinary text
    tokens = _special_tokens(tokenizer)
    starts = {token[0] for token in tokens}
    for split, rows in raw.items():
        found, places = Counter[str](), list[str]()
        for index in range(len(rows)):
            texts = [
                text
                for column in task.columns
                if column != task.label
                for text in _texts(rows[column][index])
                if any(start in text for start in starts)
            ]
            inside = {token for token in tokens for text in texts if token in text}
            if inside:
                found.update(inside)
                places.append(rows.place(index))
        if found:
            names = listed([repr(token) for token, _ in found.most_common()])
            rows_with = "1 row contains" if len(places) == 1 else f"{len(places):,} rows contain"
            text = (
                f"{split}: {rows_with} special tokens of the tokenizer in the text, {names}: {listed(places)}"
            )
            (notes.warn if _is_chat(task, tokenizer) else notes.note)(text)


def _is_chat(task: TaskSpec, tokenizer: Any) -> bool:
    """Return whether the texts become turns of a chat, in which special tokens may end a turn or repeat its marks."""
    if task.prompt is None:
        return task.messages is not None
    try:
        return find_template(tokenizer, task.chat_template) is not None
    except DataError:
        return False  # encoding reports that there is none


def _special_tokens(tokenizer: Any) -> list[str]:
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = [*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)]
    # A single character is no mark: such a token stands for itself.
    return [token for token in dict.fromkeys(special) if len(token.strip()) > 1]


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)
