"""Messages with other keys than OpenAI's: their text, weights, calls and parts, and the texts of lists."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trials.reading.forms import Chat, read_example
from trials.reading.messages import RENAMED, is_chat, read_messages
from trials.reading.tables.errors import RowError

ASKED = {"role": "user", "content": "q"}
ANSWERED = {"role": "assistant", "content": "a"}


def contents(messages: object) -> list[str]:
    return [message["content"] for message in read_messages(messages, "m").messages]


def refusal_of(messages: object) -> RowError:
    with pytest.raises(RowError) as caught:
        read_messages(messages, "m")
    return caught.value


@pytest.mark.parametrize("key", ["text", "value"])
@pytest.mark.parametrize("filler", [{}, {"content": None}])
def test_text_and_value_are_read_as_content_and_said(key: str, filler: dict[str, Any]) -> None:
    row = {"m": [{"role": "user", key: "p", **filler}, {"role": "assistant", key: "ans", **filler}]}
    chat = read_example(row, {"messages": "m"}, as_chat=True)
    assert isinstance(chat, Chat)
    assert chat.messages == [{"role": "user", "content": "p"}, {"role": "assistant", "content": "ans"}]
    assert chat.remarks == (RENAMED.format(key),)


def test_content_precedes_other_keys_of_text() -> None:
    read = read_messages([{"role": "user", "content": "", "text": "raw"}], "m")
    assert (read.messages[0]["content"], read.remarks) == ("", ())


@pytest.mark.parametrize("message", [{"body": "ans"}, {"content": None}, {"message": "ans", "text": None}])
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_message_without_any_content_is_refused(role: str, message: dict[str, Any]) -> None:
    error = refusal_of([ASKED, {"role": role, **message}])
    assert f"message 2 ({role}) has no content" in error.what


def test_a_turn_of_reasoning_and_an_empty_result_of_a_tool_are_messages() -> None:
    assert contents([{"role": "assistant", "reasoning": "hm"}, {"role": "tool", "content": None}]) == ["", ""]


def test_a_sharegpt_message_without_value_is_refused() -> None:
    assert "message 1 (gpt) has no value" in refusal_of([{"from": "gpt", "value": None}]).what


@pytest.mark.parametrize("content", [None, "", []])
def test_a_refusal_is_the_answer(content: object) -> None:
    refused = {"role": "assistant", "content": content, "refusal": "I cannot"}
    assert read_messages([refused], "m").messages == [{"role": "assistant", "content": "I cannot"}]
    parts = [{"type": "refusal", "refusal": "I cannot"}]
    assert contents([{"role": "assistant", "content": parts}]) == ["I cannot"]


def test_a_refusal_beside_an_answer_is_refused() -> None:
    error = refusal_of([ASKED, {**ANSWERED, "refusal": "I cannot"}])
    assert error.what == "message 2 has a refusal beside other content"


def test_parts_adjoin_as_templates_join_them() -> None:
    parts = [{"type": "text", "text": "ans"}, {"type": "text", "text": "wer"}]
    assert contents([{"role": "assistant", "content": parts}]) == ["answer"]
    assert contents([{"role": "assistant", "content": ["answer"]}]) == ["answer"]
    assert "list of 2 strings" in refusal_of([{"role": "assistant", "content": ["an", "swer"]}]).what


def test_a_part_of_another_type_is_refused_though_it_has_text() -> None:
    part = {"type": "image_url", "text": "x"}
    assert "type 'image_url'" in refusal_of([{"role": "user", "content": [part]}]).what


@pytest.mark.parametrize("key", ["weight", "train", "training", "loss", "loss_scale"])
@pytest.mark.parametrize(
    ("weight", "learned"),
    [(0, False), ("0", False), (0.0, False), (False, False), ("false", False), ("False", False),
     (1, True), ("1", True), (1.0, True), (True, True), ("true", True), (None, True), (float("nan"), True)],
)  # fmt: skip
def test_weights_of_turns(key: str, weight: object, learned: bool) -> None:
    assert read_messages([{**ANSWERED, key: weight}], "m").learned == [learned]
    assert read_messages([{"from": "gpt", "value": "a", key: weight}], "m").learned == [learned]
    assert read_messages([{**ANSWERED, key: weight}], "m").messages == [ANSWERED]


def test_parts_of_a_turn_outside_the_loss_are_refused() -> None:
    detail = [{"begin_offset": 0, "end_offset": 3, "train": False}]
    assert "train_detail" in refusal_of([ASKED, {**ANSWERED, "train_detail": detail}]).what


@pytest.mark.parametrize("weight", [0.5, "none", 2, "", -1])
def test_a_weight_between_is_refused(weight: object) -> None:
    error = refusal_of([ASKED, {**ANSWERED, "weight": weight}])
    assert error.what == f"message 2 has weight: {weight!r}"
    assert "weight: 0 or 1" in str(error.fix)


@pytest.mark.parametrize("field", ["completion", "chosen"])
def test_weights_hold_in_completions_and_pairs(field: str) -> None:
    turns = [{**ANSWERED, "weight": "0"}, ASKED, ANSWERED]
    row = {"p": [ASKED], field: turns, "rejected": [{"role": "assistant", "content": "b"}]}
    task = {"prompt": "p", field: field, "rejected": "rejected"}
    chat = read_example(row, task, as_chat=True)
    assert isinstance(chat, Chat)
    assert chat.learned == [False, False, False, True]


# --- calls


@pytest.mark.parametrize("key", ["arguments", "args", "parameters", "input"])
@pytest.mark.parametrize("is_text", [True, False])
def test_every_key_of_arguments(key: str, is_text: bool) -> None:
    values: object = {"town": "Bonn"}
    flat = {"name": "rain", key: json.dumps(values) if is_text else values, "id": "1", "type": "tool_call"}
    nested = {"id": "1", "function": {"name": "rain", key: flat[key]}}
    for call in (flat, nested):
        message = {"role": "assistant", "content": "", "tool_calls": [call]}
        (read,) = read_messages([message], "m").messages[0]["tool_calls"]
        assert read["function"] == {"name": "rain", "arguments": values}


def test_arguments_beside_the_function() -> None:
    call = {"function": {"name": "rain"}, "args": {"town": "Bonn"}}
    (read,) = read_messages([{"role": "assistant", "tool_calls": [call]}], "m").messages[0]["tool_calls"]
    assert read["function"]["arguments"] == {"town": "Bonn"}


@pytest.mark.parametrize(
    "call", [{"name": "f", "kwargs": {"x": 1}}, {"function": {"name": "f", "params": "{}"}}]
)
def test_unknown_keys_of_a_call_are_never_an_empty_call(call: dict[str, Any]) -> None:
    error = refusal_of([ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}])
    assert "a tool call of message 2 has no arguments, but" in error.what


@pytest.mark.parametrize(
    "call", [{"name": "now"}, {"name": "now", "arguments": None}, {"name": "now", "args": ""}]
)
def test_a_call_may_have_no_arguments(call: dict[str, Any]) -> None:
    (read,) = read_messages([{"role": "assistant", "tool_calls": [call]}], "m").messages[0]["tool_calls"]
    assert read["function"] == {"name": "now", "arguments": {}}


# --- texts of lists


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("before", ["", "\n", "  "])
def test_json_text_of_any_layout_is_a_chat(indent: int | None, before: str) -> None:
    text = before + json.dumps([ASKED, ANSWERED], indent=indent)
    assert is_chat(text)
    assert read_messages(text, "m").messages == [ASKED, ANSWERED]


def test_json_texts_of_a_pair_are_chats() -> None:
    worse = [ASKED, {"role": "assistant", "content": "b"}]
    row = {"b": json.dumps([ASKED, ANSWERED], indent=1), "w": json.dumps(worse)}
    chat = read_example(row, {"chosen": "b", "rejected": "w"}, as_chat=True)
    assert isinstance(chat, Chat)
    assert chat.messages == [ASKED, ANSWERED]


@pytest.mark.parametrize("field", ["messages", "text", "chosen", "completion"])
def test_pythons_text_of_a_chat_is_refused_in_every_field(field: str) -> None:
    text = repr([ASKED, ANSWERED])
    task = {"messages": {"messages": "m"}, "text": {"text": ("m",)}, "chosen": {"chosen": "m", "rejected": "m"},
            "completion": {"prompt": "p", "completion": "m"}}[field]  # fmt: skip
    with pytest.raises(RowError, match="list of messages, not text" if field == "text" else "Python's text"):
        read_example({"m": text, "p": "q"}, task, as_chat=True)


def test_text_that_is_broken_json_is_refused_with_the_reason() -> None:
    assert "'m' is not JSON" in refusal_of('[{"role": "user", "content": "q"}').what
