"""Rows of every data form as chats or texts: Alpaca, ShareGPT, OpenAI, TRL, preference pairs, plain text.

The task's fields name the columns; what their values hold decides the form. `prompt` and `completion` may be texts
or lists of messages, `messages` may be of OpenAI's or of ShareGPT's form, `chosen` and `rejected` may be texts,
messages, or whole chats that share their prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .messages import Message, ReadChat, is_chat, is_message, read_messages, read_tools, text_of
from .repeats import REPEATED, is_repeated, split_repeated, without_repeated
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
        learned: Whether the loss may cover each message of the better answer; empty for a text.
        remarks: What was decided for this row, for the user.
    """

    prompt: list[Message] | str
    chosen: list[Message] | str
    rejected: list[Message] | str
    learned: tuple[bool, ...] = ()
    remarks: tuple[str, ...] = ()


def columns_read(task: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the columns that each field of a task reads.

    Raises:
        DataError: A template in `prompt` or `completion` cannot be parsed.
    """
    fields = {"text": tuple(task.get("text") or ())}
    for name in ("prompt", "completion"):
        fields[name] = columns_of(task.get(name))
    for name in ("image", "label", "messages", "chosen", "rejected", "groups", *_OPTIONAL):
        fields[name] = (task[name],) if task.get(name) else ()
    return {name: columns for name, columns in fields.items() if columns}


def required_columns(task: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns in which every row needs a value; an optional turn or a part of a prompt may be missing."""
    fields = columns_read(task)
    partial = {
        name for name in ("prompt", "completion") if len(fields.get(name, ())) > 1
    }  # the other columns of a list or a template still make a text
    names = [
        c for name, columns in fields.items() if name not in (*_OPTIONAL, *partial, "groups") for c in columns
    ]
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
        messages, learned, remarks = read_messages(row[task["messages"]], task["messages"])
        turns = _with_system(messages, row, task)
        learned = [False] * (len(turns) - len(messages)) + learned
        return _checked(Chat(turns, learned, _tools(row, task), remarks))
    if task.get("prompt"):
        return _prompt_completion(row, task, as_chat)
    column = task["text"][0]
    if is_chat(row[column]):
        fix = f"Write messages: {column} instead of text: {column}."
        raise RowError(f"{column!r} holds a list of messages, not text", fix)
    text, remarks = _text(row, column)
    return Passage("", text, remarks)


def read_texts(row: Row, task: Mapping[str, Any]) -> Passage:
    """Return the texts of prompt and completion of a row, which an encoder and a decoder read.

    Raises:
        RowError: A column holds messages, or another type than text.
    """
    prompt, completion = (_messages_or_text(row, task[name]) for name in ("prompt", "completion"))
    if isinstance(prompt, ReadChat) or isinstance(completion, ReadChat):
        fix = "Name columns of texts, or set type: causal-lm with a decoder."
        raise RowError("prompt or completion holds messages, and an encoder-decoder reads texts", fix)
    remarks = (*prompt[1], *completion[1], *(() if prompt[0].strip() else (NO_PROMPT,)))
    return Passage(prompt[0], completion[0], (*remarks, *(() if completion[0].strip() else (EMPTY,))))


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
    chosen, rejected = (_chat_or_text(row, task[name]) for name in ("chosen", "rejected"))
    prompt, remarks = _given_prompt(row, task)
    if isinstance(chosen, ReadChat) and isinstance(rejected, ReadChat):
        return _chat_pair(prompt, chosen, rejected, row, task, (*remarks, *chosen.remarks))
    if isinstance(chosen, ReadChat) or isinstance(rejected, ReadChat):
        raise RowError(
            f"{task['chosen']!r} and {task['rejected']!r} are of different kinds",
            "Give two texts or two chats.",
        )
    if prompt is None:
        start = chosen[: shared_length(chosen, rejected)]
        cut = next((i for i in range(len(start), 0, -1) if start[i - 1].isspace()), 0)
        return Preference(chosen[:cut], chosen[cut:], rejected[cut:])
    if isinstance(prompt, str) and is_repeated(prompt, chosen, rejected, task["chosen"]):
        chosen, rejected = (without_repeated(prompt, answer) for answer in (chosen, rejected))
        remarks = (*remarks, REPEATED)
    return Preference(prompt, chosen, rejected, remarks=remarks)


def _chat_pair(
    prompt: list[Message] | str | None,
    chosen: ReadChat,
    rejected: ReadChat,
    row: Row,
    task: Mapping[str, Any],
    remarks: tuple[str, ...],
) -> Preference:
    better, worse = chosen.messages, rejected.messages
    if prompt is None:
        shared = _shared(better, worse)
        before = _with_system(better[:shared], row, task)
        return Preference(before, better[shared:], worse[shared:], tuple(chosen.learned[shared:]), remarks)
    if isinstance(prompt, str):
        if not prompt.strip():
            remarks = (*remarks, NO_PROMPT)
        has_question = better[0]["role"] not in ("assistant", "tool")
        asked = [] if has_question and not prompt.strip() else [{"role": "user", "content": prompt}]
        prompt = [*_turns_before(row, task), *asked]
    before, answer = split_repeated(prompt, better, task["chosen"])
    _, other = split_repeated(prompt, worse, task["rejected"])
    if len(answer) < len(better):
        remarks = (*remarks, REPEATED)
        shared = _shared(answer, other)  # turns after the prompt that both answers repeat
        before, answer, other = [*before, *answer[:shared]], answer[shared:], other[shared:]
    learned = tuple(chosen.learned[len(better) - len(answer) :])
    return Preference(before, answer, other, learned, remarks)


def read_pair(row: Row, task: Mapping[str, Any], *, as_chat: bool) -> tuple[Chat | Passage, Chat | Passage]:
    """Return a row as the prompt with the better answer and the prompt with the worse one; see `read_example`."""
    pair = read_preference(row, task)
    answers = (pair.chosen, pair.learned), (pair.rejected, _of_assistant(pair.rejected))
    chosen, rejected = (_answered(pair, *each, row, task, as_chat, pair.remarks) for each in answers)
    return chosen, rejected


def _of_assistant(answer: list[Message] | str) -> tuple[bool, ...]:
    return () if isinstance(answer, str) else tuple(message["role"] == "assistant" for message in answer)


def _chosen(row: Row, task: Mapping[str, Any], as_chat: bool) -> Chat | Passage:
    pair = read_preference(row, task)
    return _answered(pair, pair.chosen, pair.learned, row, task, as_chat, (REJECTED, *pair.remarks))


def _answered(
    pair: Preference,
    answer: list[Message] | str,
    learned: tuple[bool, ...],
    row: Row,
    task: Mapping[str, Any],
    as_chat: bool,
    remarks: tuple[str, ...],
) -> Chat | Passage:
    """Return the prompt of a pair with one of its answers."""
    if isinstance(pair.prompt, str) and isinstance(answer, str):
        turns = _turns_before(row, task)
        if not as_chat or not pair.prompt.strip():
            return _passage(_after_turns(turns, pair.prompt), answer, remarks)
        answer = answer.lstrip() if REPEATED in remarks else answer
        return _wrapped(turns, pair.prompt, answer, _tools(row, task), remarks)
    before = _as_turns(pair.prompt, "user")
    after = _as_turns(answer, "assistant")
    covered = [False] * len(before) + list(learned or (True,))
    return _checked(Chat([*before, *after], covered, _tools(row, task), remarks))


def _chat_or_text(row: Row, column: str) -> ReadChat | str:
    value = row[column]
    if isinstance(value, str) and not is_chat(value):
        return value
    return read_messages(value, column)


def _given_prompt(row: Row, task: Mapping[str, Any]) -> tuple[list[Message] | str | None, tuple[str, ...]]:
    if task.get("messages"):
        chat = read_messages(row[task["messages"]], task["messages"])
        return _with_system(chat.messages, row, task), chat.remarks
    if not task.get("prompt"):
        return None, ()
    prompt = _messages_or_text(row, task["prompt"])
    if isinstance(prompt, ReadChat):
        return _with_system(prompt.messages, row, task), prompt.remarks
    return prompt


def _prompt_completion(row: Row, task: Mapping[str, Any], as_chat: bool) -> Chat | Passage:
    prompt, completion = (_messages_or_text(row, task[name]) for name in ("prompt", "completion"))
    if not isinstance(prompt, ReadChat) and not isinstance(completion, ReadChat):
        texts, remarks = (prompt[0], completion[0]), (*prompt[1], *completion[1])
        if not prompt[0].strip():
            remarks = (*remarks, NO_PROMPT)
        turns = _turns_before(row, task)
        if as_chat:
            return _wrapped(turns, *texts, _tools(row, task), remarks)
        return _passage(_after_turns(turns, texts[0]), texts[1], remarks)
    before, after = _as_chat(prompt, "user"), _as_chat(completion, "assistant")
    remarks = (*before.remarks, *after.remarks)
    column = task["completion"] if isinstance(task["completion"], str) else task["completion"][0]
    asked, answer = split_repeated(_with_system(before.messages, row, task), after.messages, column)
    if len(answer) < len(after.messages):
        remarks = (*remarks, REPEATED)
    learned = [False] * len(asked) + after.learned[len(after.learned) - len(answer) :]
    return _checked(Chat([*asked, *answer], learned, _tools(row, task), remarks))


def _messages_or_text(row: Row, field: str | Sequence[str]) -> ReadChat | tuple[str, tuple[str, ...]]:
    column = field if isinstance(field, str) else field[0] if len(field) == 1 else None
    if column is not None and column in row and (is_chat(row[column]) or is_message(row[column])):
        return read_messages(row[column], column)
    texts, remarks = {}, list[str]()
    for name in columns_of(field):
        texts[name], said = _text(row, name)
        remarks += said
    return fill(field, texts), tuple(dict.fromkeys(remarks))


def _as_chat(value: ReadChat | tuple[str, tuple[str, ...]], role: str) -> ReadChat:
    if isinstance(value, ReadChat):
        return value
    return ReadChat([{"role": role, "content": value[0]}], [role == "assistant"], value[1])


def _as_turns(value: list[Message] | str, role: str) -> list[Message]:
    return [{"role": role, "content": value}] if isinstance(value, str) else value


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


def _after_turns(turns: Sequence[Message], prompt: str) -> str:
    """Return a prompt after the texts of earlier turns, for models without a chat template."""
    return SEPARATOR.join(text for text in (*(str(turn["content"]) for turn in turns), prompt) if text)


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
    if not text:
        return messages
    own = next((message["content"] for message in messages if message["role"] in _SYSTEM_ROLES), "")
    if own.strip() not in ("", text.strip()):
        raise RowError(
            f"the chat has a system message, and {task['system']!r} has another one", "Remove one of them."
        )
    return messages if own.strip() else [{"role": "system", "content": text}, *messages]


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
