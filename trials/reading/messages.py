"""Chat messages of OpenAI, ShareGPT and TRL in one form, and the tools that they call.

A message of the one form has `role` (system, developer, user, assistant or tool) and, where they exist, `content` (a
string), `reasoning_content`, `tool_calls` (`{type, function: {name, arguments}}`, arguments as a mapping), `name` and
`tool_call_id`. Other keys are kept, since a template may read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

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
_WEIGHTS = ("weight", "train", "training")
"""The keys by which OpenAI and others exclude an assistant turn from the loss."""


def is_message(value: object) -> bool:
    """Return whether a value is a chat message of any known form."""
    return isinstance(value, Mapping) and ("role" in value or {"from", "value"} <= set(value))


def is_chat(value: object) -> bool:
    """Return whether a value is a list of chat messages of any known form, or its JSON text."""
    if isinstance(value, str):
        value = _listed(value)
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and is_message(value[0])


def read_messages(value: object, column: str) -> tuple[list[Message], list[bool]]:
    """Return the messages of a chat in the one form, and for each whether the loss may cover it.

    Args:
        value: A list of messages, or one message.
        column: The column that holds it, for errors.

    Raises:
        RowError: It is no list of messages, or one of them has an unknown role or content that is not text.
    """
    if isinstance(value, str):
        value = _listed(value)
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise RowError(
            f"{column!r} is {type(value).__name__}, not a list of messages",
            "Give lists of {role, content} or {from, value}.",
        )
    if not listed:
        raise RowError(f"{column!r} is an empty list of messages", "Remove the row.")
    messages, learned = [], []
    for place, message in enumerate(listed, 1):
        if not isinstance(message, Mapping) or not is_message(message):
            keys = sorted(message) if isinstance(message, Mapping) else type(message).__name__
            raise RowError(
                f"message {place} of {column!r} is {keys}, without role and content",
                "Give lists of {role, content} or {from, value}.",
            )
        read = _from_openai(message, place) if "role" in message else _from_sharegpt(message, place)
        messages.append(read)
        learned.append(read["role"] == "assistant" and all(_counts(message.get(key)) for key in _WEIGHTS))
    return messages, learned


def _listed(text: str) -> object:
    """Return the list of which a text is the JSON, as tables without lists hold it; any other text as it is."""
    if not text.lstrip().startswith("[{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


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
    """Return the text of a message's content: a string, None, or a list of parts of type text.

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
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            kind = part.get("type", "unknown") if isinstance(part, Mapping) else type(part).__name__
            raise RowError(
                f"{where} has a part of type {kind!r}", "Only text can be trained on: remove the row."
            )
    return "\n".join(texts)


def _from_openai(message: Mapping[str, Any], place: int) -> Message:
    role = str(message["role"]).lower()
    role = _ALIASES.get(role, role)
    if role not in _ROLES:
        raise RowError(
            f"message {place} has the role {message['role']!r}", f"Use one of {', '.join(_ROLES)}."
        )
    calls = message.get("tool_calls") or []
    if not calls and message.get("function_call"):
        calls = [{"function": message["function_call"]}]
    dropped = ("content", "tool_calls", "function_call", *_REASONING, *_WEIGHTS)
    kept = {key: value for key, value in message.items() if key not in dropped and value is not None}
    kept["role"] = role
    if message.get("content") is not None:
        kept["content"] = text_of(message["content"], f"the content of message {place}")
    elif not calls:
        kept["content"] = ""
    reasoning = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    if reasoning is not None:
        kept["reasoning_content"] = text_of(reasoning, f"the reasoning of message {place}")
    if calls:
        kept["tool_calls"] = [_call(call, place) for call in calls]
    return kept


def _from_sharegpt(message: Mapping[str, Any], place: int) -> Message:
    source = str(message["from"]).lower()
    if source not in _SHAREGPT_ROLES:
        known = ", ".join(_SHAREGPT_ROLES)
        raise RowError(f"message {place} is from {message['from']!r}", f"Use one of {known}.")
    role, value = _SHAREGPT_ROLES[source], message["value"]
    kept = {key: message[key] for key in ("name", "tool_call_id") if message.get(key) is not None}
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
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = _parse_json(arguments, f"the arguments of message {place}") if arguments.strip() else {}
    others = {key: call[key] for key in ("id", "index") if call.get(key) is not None}
    called = {"name": function["name"], "arguments": {} if arguments is None else arguments}
    return {**others, "type": "function", "function": called}


def _counts(weight: object) -> bool:
    return weight is None or bool(weight)


def _parse_json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise RowError(f"{what} is not JSON ({error})", "Correct it, or remove the row.") from None
