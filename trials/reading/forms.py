"""Rows of every data form as chats or texts: Alpaca, ShareGPT, OpenAI, TRL, preference pairs, plain text.

The task's fields name the columns; what their values hold decides the form. `prompt` and `completion` may be texts
or lists of messages, `messages` may be of OpenAI's or of ShareGPT's form, `chosen` and `rejected` may be texts,
messages, or whole chats that share their prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .messages import Message, is_chat, is_message, read_messages, read_tools, text_of
from .sequences import shared_length
from .tables.errors import RowError
from .tables.rows import Row
from .templates import BETWEEN_COLUMNS, columns_of, fill

SEPARATOR = "\n"
"""What joins a prompt and a completion that no white space separates and no chat template wraps."""
JOINED = "prompts are joined to their completions by a line break, since no white space separates them"
WRAPPED = (
    "prompts and completions are the turns of a chat, formatted by the chat template; chat_template: none joins them "
    "as text"
)
NO_PROMPT = "prompts are empty"
EMPTY = "answers are empty, so that only their end is learned"
MERGED = "system messages are the beginning of the first user turn"
CAST = "values that are numbers are read as text"
REJECTED = "rejected answers are not used: causal-lm learns the chosen ones"
_SYSTEM_ROLES = ("system", "developer")
_OPTIONAL = ("system", "history", "tools")


@dataclass(frozen=True)
class Chat:
    """A chat with the turns that the loss covers.

    Args:
        messages: The messages in the one form of `messages.py`.
        learned: Whether the loss covers each message.
        tools: The tools that the assistant may call.
        remarks: What was decided for this row, for the user.
    """

    messages: list[Message]
    learned: list[bool]
    tools: list[dict[str, Any]]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passage:
    """A text, of which the loss covers what follows the prompt.

    Args:
        prompt: Text that is not learned; empty for plain text.
        completion: Text that is learned.
        remarks: What was decided for this row, for the user.
    """

    prompt: str
    completion: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preference:
    """A preference pair: one prompt, the better and the worse answer.

    Args:
        prompt: The chat or the text before the answers.
        chosen: The better answer, as messages or text like the prompt.
        rejected: The worse answer.
    """

    prompt: list[Message] | str
    chosen: list[Message] | str
    rejected: list[Message] | str


def columns_read(task: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the columns that each field of a task reads.

    Raises:
        DataError: A template in `prompt` or `completion` cannot be parsed.
    """
    fields = {"text": tuple(task.get("text") or ())}
    for name in ("prompt", "completion"):
        fields[name] = columns_of(task.get(name))
    for name in ("label", "messages", "chosen", "rejected", *_OPTIONAL):
        fields[name] = (task[name],) if task.get(name) else ()
    return {name: columns for name, columns in fields.items() if columns}


def required_columns(task: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns in which every row needs a value; an optional turn or a part of a prompt may be missing."""
    fields = columns_read(task)
    partial = {
        name for name in ("prompt", "completion") if len(fields.get(name, ())) > 1
    }  # the other columns of a list or a template still make a text
    names = [c for name, columns in fields.items() if name not in (*_OPTIONAL, *partial) for c in columns]
    return tuple(dict.fromkeys(names))


def read_example(row: Row, task: Mapping[str, Any], *, as_chat: bool) -> Chat | Passage:
    """Return a row as the chat or the text to learn from.

    Args:
        row: The values by column.
        task: The fields of the task's spec.
        as_chat: Whether texts of prompt and completion become the turns of a chat.

    Raises:
        RowError: A value has another form than its field says.
    """
    if task.get("chosen"):
        return _chosen(row, task, as_chat)
    if task.get("messages"):
        messages, learned = read_messages(row[task["messages"]], task["messages"])
        return _checked(
            Chat(_with_system(messages, row, task), _padded(learned, row, task), _tools(row, task))
        )
    if task.get("prompt"):
        return _prompt_completion(row, task, as_chat)
    column = task["text"][0]
    if is_chat(row[column]):
        fix = f"Write messages: {column} instead of text: {column}."
        raise RowError(f"{column!r} holds a list of messages, not text", fix)
    text, remarks = _text(row, column)
    return Passage("", text, remarks)


def with_merged_system(chat: Chat) -> Chat:
    """Return a chat whose system messages are the beginning of its first user turn, if it has one."""
    texts = [str(message["content"]) for message in chat.messages if message["role"] in _SYSTEM_ROLES]
    kept = [i for i, message in enumerate(chat.messages) if message["role"] not in _SYSTEM_ROLES]
    first = next((place for place, i in enumerate(kept) if chat.messages[i]["role"] == "user"), None)
    if not texts or first is None:
        return chat
    messages, learned = [chat.messages[i] for i in kept], [chat.learned[i] for i in kept]
    texts.append(str(messages[first].get("content") or ""))
    messages[first] = {**messages[first], "content": BETWEEN_COLUMNS.join(text for text in texts if text)}
    return replace(chat, messages=messages, learned=learned, remarks=(*chat.remarks, MERGED))


def read_preference(row: Row, task: Mapping[str, Any]) -> Preference:
    """Return a row as a preference pair, with the prompt that both answers share.

    Raises:
        RowError: A value has another form than its field says, or both answers share no prompt and none is given.
    """
    chosen, rejected = row[task["chosen"]], row[task["rejected"]]
    prompt = _given_prompt(row, task)
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise RowError(
            f"{task['chosen']!r} and {task['rejected']!r} are of different kinds",
            "Give two texts or two chats.",
        )
    if not isinstance(chosen, str):
        better, _ = read_messages(chosen, task["chosen"])
        worse, _ = read_messages(rejected, task["rejected"])
        if prompt is None:
            shared = _shared(better, worse)
            return Preference(better[:shared], better[shared:], worse[shared:])
        if isinstance(prompt, str):
            prompt = [*_turns_before(row, task), {"role": "user", "content": prompt}]
        return Preference(prompt, better, worse)
    if prompt is None:
        start = chosen[: shared_length(chosen, rejected)]
        cut = next((i for i in range(len(start), 0, -1) if start[i - 1].isspace()), 0)
        return Preference(chosen[:cut], chosen[cut:], rejected[cut:])
    return Preference(prompt, chosen, rejected)


def _chosen(row: Row, task: Mapping[str, Any], as_chat: bool) -> Chat | Passage:
    pair = read_preference(row, task)
    if isinstance(pair.prompt, str) and isinstance(pair.chosen, str):
        if not as_chat or not pair.prompt.strip():
            return _passage(pair.prompt, pair.chosen, (REJECTED,))
        turns = _turns_before(row, task)
        return _wrapped(turns, pair.prompt, pair.chosen, _tools(row, task), (REJECTED,))
    before = pair.prompt if not isinstance(pair.prompt, str) else [{"role": "user", "content": pair.prompt}]
    answer = pair.chosen
    after = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
    learned = [False] * len(before) + [message["role"] == "assistant" for message in after]
    return _checked(Chat([*before, *after], learned, _tools(row, task), (REJECTED,)))


def _given_prompt(row: Row, task: Mapping[str, Any]) -> list[Message] | str | None:
    if task.get("messages"):
        return _with_system(read_messages(row[task["messages"]], task["messages"])[0], row, task)
    if not task.get("prompt"):
        return None
    prompt = _messages_or_text(row, task["prompt"])
    return prompt[0] if isinstance(prompt, tuple) else _with_system(prompt, row, task)


def _prompt_completion(row: Row, task: Mapping[str, Any], as_chat: bool) -> Chat | Passage:
    prompt, completion = (_messages_or_text(row, task[name]) for name in ("prompt", "completion"))
    if isinstance(prompt, tuple) and isinstance(completion, tuple):
        texts, remarks = (prompt[0], completion[0]), (*prompt[1], *completion[1])
        if not prompt[0].strip():
            remarks = (*remarks, NO_PROMPT)
        turns = _turns_before(row, task)
        if as_chat:
            return _wrapped(turns, *texts, _tools(row, task), remarks)
        earlier = SEPARATOR.join(str(turn["content"]) for turn in turns)
        return _passage(SEPARATOR.join(text for text in (earlier, texts[0]) if text), texts[1], remarks)
    before = _as_turns(prompt, "user")
    after = _as_turns(completion, "assistant")
    learned = [False] * len(before) + [message["role"] == "assistant" for message in after]
    messages = _with_system([*before, *after], row, task)
    return _checked(Chat(messages, _padded(learned, row, task), _tools(row, task)))


def _messages_or_text(row: Row, field: str | Sequence[str]) -> list[Message] | tuple[str, tuple[str, ...]]:
    if isinstance(field, str) and field in row and (is_chat(row[field]) or is_message(row[field])):
        return read_messages(row[field], field)[0]
    texts, remarks = {}, list[str]()
    for column in columns_of(field):
        texts[column], said = _text(row, column)
        remarks += said
    return fill(field, texts), tuple(dict.fromkeys(remarks))


def _as_turns(value: list[Message] | tuple[str, tuple[str, ...]], role: str) -> list[Message]:
    return [{"role": role, "content": value[0]}] if isinstance(value, tuple) else value


def _text(row: Row, column: str) -> tuple[str, tuple[str, ...]]:
    value = row[column]
    if value is None or value != value:
        return "", ()
    if isinstance(value, str):
        return value, ()
    if isinstance(value, int | float):
        return str(value), (CAST,)
    raise RowError(f"{column!r} is {type(value).__name__}, not text", "Give strings, or name another column.")


def _turns_before(row: Row, task: Mapping[str, Any]) -> list[Message]:
    """Return the system turn and the earlier turns of Alpaca's `history`, `[[question, answer], …]`."""
    turns = _with_system([], row, task)
    column = task.get("history")
    for place, pair in enumerate((row[column] if column else None) or (), 1):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            fix = "Give pairs of a question and its answer."
            raise RowError(f"entry {place} of {column!r} is not a pair of texts", fix)
        question, answer = (text_of(text, f"entry {place} of {column!r}") for text in pair)
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns


def _wrapped(
    turns: list[Message], prompt: str, completion: str, tools: list[dict[str, Any]], remarks: tuple[str, ...]
) -> Chat:
    messages = [*turns, {"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    learned = [message["role"] == "assistant" for message in messages]
    return Chat(messages, learned, tools, (WRAPPED, *remarks))


def _passage(prompt: str, completion: str, remarks: tuple[str, ...]) -> Passage:
    if not completion.strip():
        remarks = (*remarks, EMPTY)
    if prompt and completion and not prompt[-1].isspace() and not completion[0].isspace():
        return Passage(prompt + SEPARATOR, completion, (*remarks, JOINED))
    return Passage(prompt, completion, remarks)


def _with_system(messages: list[Message], row: Row, task: Mapping[str, Any]) -> list[Message]:
    text = _system(row, task)
    return [{"role": "system", "content": text}, *messages] if text else messages


def _padded(learned: list[bool], row: Row, task: Mapping[str, Any]) -> list[bool]:
    return [False, *learned] if _system(row, task) else learned


def _system(row: Row, task: Mapping[str, Any]) -> str:
    column = task.get("system")
    return _text(row, column)[0] if column else ""


def _tools(row: Row, task: Mapping[str, Any]) -> list[dict[str, Any]]:
    column = task.get("tools")
    return read_tools(row[column], column) if column else []


def _shared(better: Sequence[Message], worse: Sequence[Message]) -> int:
    return min(shared_length(better, worse), len(better) - 1, len(worse) - 1)


def _checked(chat: Chat) -> Chat:
    if not any(message["role"] == "assistant" for message in chat.messages):
        roles = ", ".join(message["role"] for message in chat.messages)
        raise RowError(f"the chat has no assistant turn ({roles})", "Remove the row, or add the answer.")
    return chat
