"""Messages as a chat template takes them (forms of content, tool calls and roles), and what it leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from .chat_templates import ChatTemplate
from .messages import Message
from .tables.errors import RowError

NO_TOOLS = "chats have tools that the chat template ignores"
DATED = "chats hold the date or time at which they were encoded, since the chat template writes it"
_LEAST_OF_TIME = 5
"""Characters by which a time in a chat is the template's; a year or an hour may be a part of its messages."""
NOT_RENDERED = "{} turns are not rendered by the chat template"


def fit_messages(
    messages: Sequence[Message], tools: Sequence[Any], template: ChatTemplate
) -> tuple[list[Message], list[int]]:
    """Return the messages as the template takes them, and the turns whose tool calls it does not render.

    Templates differ in whether they take the arguments of a call as a mapping or as JSON text, the content of a turn
    of calls alone as missing, empty or None, and in the ids that they want of calls. The first combination that
    renders every call is used. The calls of the turns that no combination renders are removed.

    Raises:
        RowError: The template refuses every combination.
    """
    fitted = [_fit(message, template) for message in messages]
    calling = [index for index, message in enumerate(fitted) if message.get("tool_calls")]
    if not calling:
        return fitted, []
    fallback: tuple[list[Message], list[int]] | None = None
    refusal: RowError | None = None
    for candidate in _combinations(fitted, _in_form("", [] if template.reads_parts else "")):
        try:
            missing = _missing_calls(candidate, calling, tools, template)
        except RowError as error:
            refusal = refusal or error
            continue
        if not missing:
            return candidate, []
        if fallback is None or len(missing) < len(fallback[1]):
            fallback = candidate, missing
    if fallback is None:
        assert refusal is not None
        raise refusal
    messages, missing = fallback
    return [_without_calls(m) if i in missing else m for i, m in enumerate(messages)], missing


def with_sentinel(message: Message, sentinel: str) -> Message:
    """Return a turn with a sentinel in the place of its text, or of the name of its last tool call."""
    marked = {key: value for key, value in message.items() if key != "reasoning_content"}
    if calls := message.get("tool_calls"):
        return {**marked, "tool_calls": [*calls[:-1], _renamed(calls[-1], sentinel)]}
    return {**marked, "content": _in_form(sentinel, message.get("content"))}


def content_text(message: Message) -> str:
    """Return the text of a fitted message."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else str(content[0]["text"])


def left_out(
    messages: Sequence[Message], tools: Sequence[object], text: str, template: ChatTemplate
) -> list[str]:
    """Return what the template ignores: tools, and the turns of roles other than assistant."""
    remarks = [DATED] if "strftime_now" in template.source and _is_dated(text, template.times) else []
    try:
        if tools and template.render(messages)[0] == text:
            remarks.append(NO_TOOLS)
        others = {
            i: f"zqother{i}zq" for i, m in enumerate(messages) if m["role"] not in ("user", "assistant")
        }
        if others:
            marked = [with_sentinel(m, others[i]) if i in others else m for i, m in enumerate(messages)]
            last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
            probe = template.render(marked, tools)[0] + template.render(marked[: last + 1], tools)[0]
            if last:  # some templates give the system message only to the turn that is answered
                probe += template.render(marked[:last], tools, prompt=True)[0]
            remarks += [NOT_RENDERED.format(messages[i]["role"]) for i, s in others.items() if s not in probe]
    except RowError:
        return remarks
    return remarks


def fix_of_refusal(messages: Sequence[Message], tools: Sequence[Any], template: ChatTemplate) -> str:
    """Return what to do about messages that the template refuses."""
    first = messages[0]["role"]
    if first == "assistant":
        return "The template needs a user's turn first: remove the first turn, or drop the rows."
    if first in ("system", "developer") and len(messages) > 1:
        try:
            template.render(messages[1:], tools)
        except RowError:
            return "Correct the order of the roles, or drop the rows."
        return "The template takes no system turn: merge_system: true puts its text into the first user turn."
    return "Correct the order of the roles, or drop the rows."


def _is_dated(text: str, times: Sequence[str]) -> bool:
    """Return whether a text holds a time that the template writes, or today's date in a usual order."""
    today = date.today()
    dates = [today.strftime(form) for form in ("%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%B %d, %Y")]
    return any(time in text for time in [*dates, *(time for time in times if len(time) >= _LEAST_OF_TIME)])


def _fit(message: Message, template: ChatTemplate) -> Message:
    fitted = dict(message)
    if message["role"] == "developer" and "developer" not in template.source:
        fitted["role"] = "system"
    if template.reads_parts and isinstance(message.get("content"), str):
        fitted["content"] = _in_form(message["content"], [])
    return fitted


def _in_form(text: str, like: object) -> Any:
    return [{"type": "text", "text": text}] if isinstance(like, list) else text


def _combinations(messages: Sequence[Message], empty: object) -> Iterator[list[Message]]:
    contents: tuple[Message, ...] = ({}, {"content": empty}, {"content": None})
    for form in (messages, _numbered(messages)):
        for as_text in (False, True):
            for content in contents:
                yield [_combined(message, as_text, content) for message in form]


def _numbered(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with ids of nine digits, which every template that checks ids takes."""
    ids, open_calls, numbered = dict[str, str](), list[str](), list[Message]()
    for message in messages:
        if calls := message.get("tool_calls"):
            new = [f"{len(numbered):05d}{place:04d}" for place in range(len(calls))]
            ids |= {call["id"]: name for call, name in zip(calls, new, strict=True) if "id" in call}
            open_calls = list(new)
            calls = [{**call, "id": name} for call, name in zip(calls, new, strict=True)]
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool":
            name = ids.get(message.get("tool_call_id", "")) or next(iter(open_calls), "0" * 9)
            open_calls = [other for other in open_calls if other != name]
            message = {**message, "tool_call_id": name}
        numbered.append(message)
    return numbered


def _combined(message: Message, as_text: bool, content: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    calls = message["tool_calls"]
    if as_text:
        calls = [
            {
                **call,
                "function": {
                    **call["function"],
                    "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                },
            }
            for call in calls
        ]
    return {**content, **message, "tool_calls": calls}


def _missing_calls(
    messages: list[Message], calling: Sequence[int], tools: Sequence[Any], template: ChatTemplate
) -> list[int]:
    """Return the turns of which some call is not rendered, or rendered as Python's text of a mapping."""
    names = {
        (turn, place): f"zqcall{turn}x{place}zq"
        for turn in calling
        for place in range(len(messages[turn]["tool_calls"]))
    }
    probe = list(messages)
    for turn in calling:
        calls = messages[turn]["tool_calls"]
        probe[turn] = {
            **messages[turn],
            "tool_calls": [_renamed(call, names[turn, place]) for place, call in enumerate(calls)],
        }
    text, _ = template.render(probe, tools)
    template.render(messages, tools)
    lost = {turn for (turn, _), name in names.items() if name not in text}
    for turn in calling:
        for call in messages[turn]["tool_calls"]:
            arguments = call["function"]["arguments"]
            if (
                isinstance(arguments, dict)
                and arguments
                and _is_python(arguments)
                and repr(arguments) in text
            ):
                lost.add(turn)
    return sorted(lost)


def _is_python(arguments: dict[str, Any]) -> bool:
    return repr(arguments) != json.dumps(arguments, ensure_ascii=False)


def _with_json(call: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": text}}


def _renamed(call: dict[str, Any], name: str) -> dict[str, Any]:
    return {**call, "function": {**call["function"], "name": name}}


def _without_calls(message: Message) -> Message:
    return {
        "content": "",
        **{key: value for key, value in message.items() if key != "tool_calls" and value is not None},
    }
