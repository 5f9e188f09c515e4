"""Recognition of the forms of data for language models: chats, instructions, preference pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trials.reading.forms import Chat, read_example
from trials.reading.messages import is_chat, is_message, read_tools
from trials.reading.tables.errors import RowError
from trials.reading.tables.rows import Rows
from trials.tasks.specs import TrialTask

_SAMPLE = 200
"""Rows by which a column's kind is judged."""
_CHATS = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns")
_PAIRS = (
    ("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"),
    ("instruction", "completion"), ("question", "answer"), ("input", "output"), ("source", "target"),
    ("query", "response"), ("prompt", "answer"), ("question", "response"),
)  # fmt: skip
_INSTRUCTIONS = ("instruction",)
"""Prompts that say by their name alone that the data are instructions, even if the answers are few."""
_INPUTS = ("input", "context")
"""Columns that belong to an instruction."""
_SYSTEM = ("system", "system_prompt", "system_message")
_TOOLS = ("tools", "functions")


@dataclass(frozen=True)
class DataForm:
    """The form of data for a language model.

    Args:
        fields: The task's fields that name the form's columns.
        reason: A clause that names the form and how it was recognized.
        comments: A comment for some of the fields.
        is_certain: Whether the columns can be nothing else; otherwise a label column is preferred.
        task: The task that learns from the form.
    """

    fields: dict[str, str | list[str]]
    reason: str
    comments: dict[str, str] = field(default_factory=dict)
    is_certain: bool = True
    task: TrialTask = "causal-lm"

    @property
    def columns(self) -> list[str]:
        """The columns that the fields name."""
        named = (value if isinstance(value, list) else [value] for value in self.fields.values())
        return [column for columns in named for column in columns]

    def word_count(self, row: Mapping[str, Any]) -> int:
        """Return the number of words of a row, 0 if it has another form."""
        try:
            example = read_example(row, {"text": (), **self.fields}, as_chat=True)
        except RowError:
            return 0
        if not isinstance(example, Chat):
            return len((example.prompt + " " + example.completion).split())
        parts = (message.get("content") or str(message.get("tool_calls", "")) for message in example.messages)
        return sum(len(part.split()) for part in parts) + len(str(example.tools or "").split())


def find_form(rows: Rows, is_text: Callable[[str], bool], wanted: TrialTask | None = None) -> DataForm | None:
    """Return the form of the rows for a language model; None if they may be plain text.

    Args:
        rows: The rows of a file.
        is_text: Whether a column holds texts, by its name.
        wanted: The task if the user named it; preference pairs are then also data for causal-lm.
    """
    columns = _Columns(rows, is_text)
    pairs = _preference(columns, wanted or "preference")
    if pairs or wanted == "preference":
        return pairs
    return _conversational(columns) or _chat(columns) or _instructions(columns)


class _Columns:
    """The columns of some rows by their kind and their name in lower case."""

    def __init__(self, rows: Rows, is_text: Callable[[str], bool]) -> None:
        self._values = {
            name: [v for v in rows[name][:_SAMPLE] if v is not None] for name in rows.column_names
        }
        self._names = {name.lower(): name for name in reversed(rows.column_names)}
        self.order = rows.column_names
        self.is_text = is_text

    def find(self, names: Sequence[str], kind: Callable[[Any], bool]) -> str | None:
        """Return the first of these columns whose values are of a kind."""
        found = (self._names.get(name) for name in names)
        return next((name for name in found if name is not None and self.holds(name, kind)), None)

    def holds(self, name: str, kind: Callable[[Any], bool]) -> bool:
        """Return whether the values of a column, of which there is one at least, are of a kind."""
        return bool(self._values[name]) and all(kind(value) for value in self._values[name])

    def additions(self) -> dict[str, str]:
        """Return the columns of system messages, tools and earlier turns by their field."""
        found = {
            "system": self.find(_SYSTEM, _is_string),
            "tools": self.find(_TOOLS, _is_tools),
            "history": self.find(("history",), _is_history),
        }
        return {
            name: column for name, column in found.items() if column is not None and self._is_filled(column)
        }

    def with_input(self, instruction: str) -> str | list[str]:
        """Return an instruction's column with that of its input, if there is one with text."""
        if instruction.lower() != "instruction":
            return instruction
        addition = self.find(_INPUTS, _is_string)
        return [instruction, addition] if addition and self._is_filled(addition) else instruction

    def _is_filled(self, name: str) -> bool:
        return any(value not in ("", "[]", []) for value in self._values[name])


def _preference(columns: _Columns, task: TrialTask) -> DataForm | None:
    kinds = (_is_string, lambda value: is_chat(value) or is_message(value))
    for kind in kinds:
        chosen, rejected = columns.find(("chosen",), kind), columns.find(("rejected",), kind)
        if chosen and rejected:
            break
    else:
        return None
    fields: dict[str, str | list[str]] = {}
    chat, prompt = columns.find(_CHATS, is_chat), columns.find(("prompt",), is_chat)
    text = columns.find(("prompt", "instruction", "question"), _is_string)
    if chat:
        fields["messages"] = chat
    elif prompt or text:
        fields["prompt"] = prompt or columns.with_input(str(text))
    fields |= {"chosen": chosen, "rejected": rejected, **columns.additions()}
    reason = f"preference pairs in columns {chosen!r} and {rejected!r}"
    if task == "causal-lm":
        reason += ", of which the chosen answers are learned"
        return DataForm(
            fields, reason, {"chosen": "the loss covers these answers", "rejected": "not learned"}
        )
    comments = {"chosen": "the better answers", "rejected": "the worse answers"}
    return DataForm(fields, reason, comments, task=task)


def _conversational(columns: _Columns) -> DataForm | None:
    prompt = columns.find(("prompt",), is_chat)
    completion = columns.find(
        ("completion", "response", "answer"), lambda value: is_chat(value) or isinstance(value, str)
    )
    if not prompt or not completion:
        return None
    fields: dict[str, str | list[str]] = {"prompt": prompt, "completion": completion, **columns.additions()}
    reason = f"chats in column {prompt!r} that column {completion!r} goes on"
    return DataForm(fields, reason, {"completion": "the loss covers these turns"})


def _chat(columns: _Columns) -> DataForm | None:
    column = columns.find(_CHATS, is_chat)
    column = column or next((name for name in columns.order if columns.holds(name, is_chat)), None)
    if column is None:
        return None
    fields: dict[str, str | list[str]] = {"messages": column, **columns.additions()}
    is_sharegpt = columns.holds(column, lambda value: "from" in value[0])
    reason = f"{'ShareGPT chats' if is_sharegpt else 'chats'} in column {column!r}"
    return DataForm(fields, reason, {"messages": "the loss covers the assistant's turns"})


def _instructions(columns: _Columns) -> DataForm | None:
    for prompt, completion in _PAIRS:
        is_certain = prompt in _INSTRUCTIONS
        kind = _is_scalar if is_certain else _is_string
        first, second = columns.find((prompt,), kind), columns.find((completion,), kind)
        if not first or not second:
            continue
        if not is_certain and not (columns.is_text(first) and columns.is_text(second)):
            continue
        prompts = columns.with_input(first)
        fields = {"prompt": prompts, "completion": second, **columns.additions()}
        named = " and ".join(map(repr, prompts)) if isinstance(prompts, list) else repr(prompts)
        comments = {"completion": "the loss covers this column"}
        if isinstance(prompts, list):
            comments["prompt"] = (
                'joined by a blank line; or a template such as "{' + "}\\n{".join(prompts) + '}"'
            )
        reason = f"prompts in {named} and completions in {second!r}"
        return DataForm(fields, reason, comments, is_certain)
    return None


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _is_tools(value: Any) -> bool:
    try:
        return isinstance(read_tools(value, "tools"), list)
    except RowError:
        return False


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
