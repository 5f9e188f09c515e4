"""Chat messages of OpenAI, ShareGPT and TRL in one form, and the tools that they call.

A message of the one form has `role` (system, developer, user, assistant or tool) and, where they exist, `content` (a
string), `reasoning_content`, `tool_calls` (`{type, function: {name, arguments}}`, arguments as a mapping), `name` and
`tool_call_id`. Other keys are kept, since a template may read them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .tables.errors import RowError

Message = dict[str, Any]

_SHAREGPT_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
    "bard": "assistant", "model": "assistant", "assistant": "assistant", "system": "system",
    "function_call": "assistant", "tool_call": "assistant", "observation": "tool", "tool": "tool",
    "function_response": "tool", "tool_response": "tool", "ipython": "tool", "developer": "developer",
}  # fmt: skip
"""The roles by their name in `from`."""
_CALLS = ("function_call", "tool_call")
_ROLES = ("system", "developer", "user", "assistant", "tool")
_ALIASES = {"function": "tool", "human": "user", "gpt": "assistant", "model": "assistant", "ipython": "tool"}
_REASONING = ("reasoning_content", "thinking", "reasoning")
"""The keys of a message's reasoning, the usual one first."""
_CONTENTS = ("content", "text", "value")
"""The keys of a message's text, the usual one first."""
RENAMED = "messages have no content, and their {} is read as it"
_WEIGHTS = ("weight", "train", "training", "trainable", "loss", "loss_scale")
"""The keys by which OpenAI, axolotl and ms-swift exclude an assistant turn from the loss."""
_DETAIL = "train_detail"
"""axolotl's key for the characters of a turn that are in the loss."""
_IN_LOSS = {
    "1": True,
    "1.0": True,
    "true": True,
    "yes": True,
    "0": False,
    "0.0": False,
    "false": False,
    "no": False,
}
_ARGUMENTS = ("arguments", "args", "parameters", "input")
"""The keys of a call's arguments: OpenAI's, LangChain's, those of Llama 3 and Anthropic's."""
_CALL_KEYS = ("id", "index", "type", "name", "function", *_ARGUMENTS)
_TEXT_PARTS = (None, "text", "input_text", "output_text")
_PYTHON = re.compile(r"\s*\[\s*\{\s*'(?:role|from|content|value)'\s*:")
"""The beginning of a chat as Python prints it, which tables hold that were written from lists without JSON."""


class ReadChat(NamedTuple):
    """The messages of a chat.

    Args:
        messages: The messages in the one form.
        learned: Whether the loss may cover each message.
        remarks: What was decided for them, for the user.
    """

    messages: list[Message]
    learned: list[bool]
    remarks: tuple[str, ...] = ()


def is_message(value: object) -> bool:
    """Return whether a value is a chat message of any known form."""
    return isinstance(value, Mapping) and ("role" in value or {"from", "value"} <= set(value))


def is_chat(value: object) -> bool:
    """Return whether a value is a list of chat messages of any known form, or its JSON text."""
    if isinstance(value, str):
        if _PYTHON.match(value):
            return True  # `read_messages` refuses it, so that it is never learned as text
        value = _listed(value)
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and is_message(value[0])


def read_messages(value: object, column: str) -> ReadChat:
    """Return the messages of a chat in the one form, and for each whether the loss may cover it.

    Args:
        value: A list of messages, one message, or the JSON text of either.
        column: The column that holds it, for errors.

    Raises:
        RowError: It is no list of messages, or one of them has an unknown role or content that is not text.
    """
    if isinstance(value, str):
        value = _parsed(value, column)
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise RowError(
            f"{column!r} is {type(value).__name__}, not a list of messages",
            "Give lists of {role, content} or {from, value}.",
        )
    if not listed:
        raise RowError(f"{column!r} is an empty list of messages", "Remove the row.")
    messages, learned, remarks = list[Message](), list[bool](), list[str]()
    for place, message in enumerate(listed, 1):
        if not isinstance(message, Mapping) or not is_message(message):
            keys = sorted(message) if isinstance(message, Mapping) else type(message).__name__
            raise RowError(
                f"message {place} of {column!r} is {keys}, without role and content",
                "Give lists of {role, content} or {from, value}.",
            )
        if "role" in message:
            read, key = _from_openai(message, place)
            remarks += [] if key in (None, "content") else [RENAMED.format(key)]
        else:
            read = _from_sharegpt(message, place)
        messages.append(read)
        learned.append(read["role"] == "assistant" and _is_in_loss(message, place))
    return ReadChat(messages, learned, tuple(dict.fromkeys(remarks)))


def _listed(text: str) -> object:
    """Return the list of which a text is the JSON, as tables without lists hold it; any other text as it is."""
    if not text.lstrip().startswith("["):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _parsed(text: str, column: str) -> object:
    """Return what a text is the JSON of, in a column that must hold chats; other text as it is."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    if _PYTHON.match(text):
        raise RowError(
            f"{column!r} holds Python's text of a list ({text.strip()[:24]}…), not JSON",
            "Write the lists by json.dumps, or as JSONL or Parquet.",
        )
    return _parse_json(text, repr(column))


def read_tools(value: object, column: str) -> list[dict[str, Any]]:
    """Return the tools that a chat may call, as `{type: function, function: {name, …}}`.

    Args:
        value: A list of tools or of OpenAI's older functions, or its JSON text; None and empty text are no tools.
        column: The column that holds it, for errors.

    Raises:
        RowError: It is neither.
    """
    if isinstance(value, str):
        value = _parse_json(value, f"{column!r}") if value.strip() else None
    if value is None:
        return []
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, Sequence) or not all(isinstance(tool, Mapping) for tool in listed):
        raise RowError(f"{column!r} is not a list of tools", "Give a list of JSON schemas of functions.")
    return [
        dict(tool) if "function" in tool or "type" in tool else {"type": "function", "function": dict(tool)}
        for tool in listed
    ]


def text_of(value: object, where: str) -> str:
    """Return the text of a message's content: a string, None, or a list of parts of type text, which adjoin.

    Raises:
        RowError: It holds something other than text, such as an image.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence):
        raise RowError(f"{where} is {type(value).__name__}, not text", "Give strings.")
    texts = []
    for part in value:
        if isinstance(part, str):
            texts.append(part)
        elif (
            isinstance(part, Mapping)
            and part.get("type") == "refusal"
            and isinstance(part.get("refusal"), str)
        ):
            texts.append(part["refusal"])
        elif (
            isinstance(part, Mapping)
            and part.get("type") in _TEXT_PARTS
            and isinstance(part.get("text"), str)
        ):
            texts.append(part["text"])
        else:
            kind = part.get("type", "unknown") if isinstance(part, Mapping) else type(part).__name__
            raise RowError(
                f"{where} has a part of type {kind!r}", "Only text can be trained on: remove the row."
            )
    if len(texts) > 1 and any(isinstance(part, str) for part in value):
        raise RowError(
            f"{where} is a list of {len(texts)} strings, which may be lines or parts of one text",
            "Join them to one string, or give parts {type: text, text: …}, which adjoin.",
        )
    return "".join(texts)


def _from_openai(message: Mapping[str, Any], place: int) -> tuple[Message, str | None]:
    """Return a message in the one form, and the key of its text."""
    role = str(message["role"]).lower()
    role = _ALIASES.get(role, role)
    if role not in _ROLES:
        raise RowError(
            f"message {place} has the role {message['role']!r}", f"Use one of {', '.join(_ROLES)}."
        )
    calls = message.get("tool_calls") or []
    if not calls and message.get("function_call"):
        calls = [{"function": message["function_call"]}]
    key, content = _content(message, place)
    dropped = ("content", "refusal", "tool_calls", "function_call", *_REASONING, *_WEIGHTS, key)
    kept = {key: value for key, value in message.items() if key not in dropped and value is not None}
    kept["role"] = role
    reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    if content is not None:
        kept["content"] = text_of(content, f"the {key} of message {place}")
    elif not calls:
        if reasoning is None and not (role == "tool" and "content" in message):
            given = ", ".join(name for name, value in message.items() if value is not None)
            raise RowError(
                f"message {place} ({role}) has no content, tool calls or reasoning (only {given})",
                "Name the text of each message content, or drop the rows.",
            )
        kept["content"] = ""
    if reasoning is not None:
        kept["reasoning_content"] = text_of(reasoning, f"the reasoning of message {place}")
    if calls:
        if isinstance(calls, str):
            calls = _parse_json(calls, f"the tool_calls of message {place}")
        kept["tool_calls"] = [
            _call(call, place) for call in ([calls] if isinstance(calls, Mapping) else calls)
        ]
    return kept, key


def _content(message: Mapping[str, Any], place: int) -> tuple[str | None, object]:
    """Return the text of a message, None if it has none, with its key; OpenAI gives a refusal beside null."""
    key = next((name for name in _CONTENTS if message.get(name) is not None), None)
    if message.get("refusal"):
        if key is not None and message[key] not in ("", [], message["refusal"]):
            raise RowError(
                f"message {place} has a refusal beside other {key}", "Keep the one that is the answer."
            )
        return "content", message["refusal"]
    return key, None if key is None else message[key]


def _from_sharegpt(message: Mapping[str, Any], place: int) -> Message:
    source = str(message["from"]).lower()
    if source not in _SHAREGPT_ROLES:
        known = ", ".join(_SHAREGPT_ROLES)
        raise RowError(f"message {place} is from {message['from']!r}", f"Use one of {known}.")
    role, value = _SHAREGPT_ROLES[source], message["value"]
    kept = {key: message[key] for key in ("name", "tool_call_id") if message.get(key) is not None}
    if value is None:
        raise RowError(f"message {place} ({source}) has no value", "Correct it, or drop the rows.")
    if source not in _CALLS:
        return {"role": role, **kept, "content": text_of(value, f"the value of message {place}")}
    calls = _parse_json(value, f"the {source} of message {place}") if isinstance(value, str) else value
    listed = calls if isinstance(calls, list) else [calls]
    return {"role": role, **kept, "tool_calls": [_call(call, place) for call in listed]}


def _call(call: object, place: int) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if (
        not isinstance(call, Mapping)
        or not isinstance(function, Mapping)
        or not isinstance(function.get("name"), str)
    ):
        raise RowError(f"a tool call of message {place} has no name", "Give {name, arguments}.")
    arguments = _arguments(function if function is call else {**call, **function}, place)
    if isinstance(arguments, str):
        arguments = _parse_json(arguments, f"the arguments of message {place}") if arguments.strip() else {}
    others = {key: call[key] for key in ("id", "index") if call.get(key) is not None}
    called = {"name": function["name"], "arguments": {} if arguments is None else arguments}
    return {**others, "type": "function", "function": called}


def _arguments(call: Mapping[str, Any], place: int) -> object:
    key = next((name for name in _ARGUMENTS if call.get(name) is not None), None)
    unknown = [name for name, value in call.items() if name not in _CALL_KEYS and value is not None]
    if key is None and unknown:
        raise RowError(
            f"a tool call of message {place} has no arguments, but {', '.join(map(repr, unknown))}",
            "Give {name, arguments}.",
        )
    return None if key is None else call[key]


def _is_in_loss(message: Mapping[str, Any], place: int) -> bool:
    """Return whether the weights of an assistant turn, if it has any, leave it in the loss."""
    if message.get(_DETAIL):
        raise RowError(
            f"message {place} has {_DETAIL}, which leaves parts of a turn out of the loss",
            "A turn is in the loss or not: remove it, or write weight: 0 or 1.",
        )
    weights = {key: message[key] for key in _WEIGHTS if message.get(key) is not None}
    learned = {key: _IN_LOSS.get(str(w).strip().lower()) for key, w in weights.items() if w == w}
    unknown = next((key for key, value in learned.items() if value is None), None)
    if unknown is not None:
        raise RowError(
            f"message {place} has {unknown}: {weights[unknown]!r}",
            f"A turn is in the loss or not: write {unknown}: 0 or 1.",
        )
    return all(learned.values())


def _parse_json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise RowError(f"{what} is not JSON ({error})", "Correct it, or remove the row.") from None
