"""Rows of every data form as chats and texts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trials.reading.forms import (
    CAST,
    EMPTY,
    JOINED,
    NO_PROMPT,
    REJECTED,
    WRAPPED,
    Chat,
    Passage,
    columns_read,
    read_example,
    read_preference,
    required_columns,
)
from trials.reading.messages import read_messages, read_tools
from trials.reading.tables.errors import DataError, RowError
from trials.reading.templates import columns_of, fill


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def chat(row: dict[str, Any], **task: Any) -> Chat:
    example = read_example(row, task, as_chat=True)
    assert isinstance(example, Chat)
    return example


# --- Alpaca


def test_alpaca_joins_instruction_and_input_by_a_blank_line():
    row = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
    example = chat(row, prompt=("instruction", "input"), completion="output")
    assert example.messages == [user("Add.\n\n1 and 2"), assistant("3")]
    assert example.learned == [False, True]


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_empty_input_leaves_the_instruction_alone(empty):
    row = {"instruction": "Name a color.", "input": empty, "output": "Red."}
    example = chat(row, prompt=("instruction", "input"), completion="output")
    assert example.messages[0] == user("Name a color.")


def test_alpacas_system_and_history_are_earlier_turns_and_history_is_learned():
    row = {"i": "And 2?", "o": "4", "s": "Be brief.", "h": [["1?", "2"], ["3?", "6"]]}
    example = chat(row, prompt="i", completion="o", system="s", history="h")
    roles = [message["role"] for message in example.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user", "assistant"]
    assert example.learned == [False, False, True, False, True, False, True]
    assert [m["content"] for m in example.messages] == ["Be brief.", "1?", "2", "3?", "6", "And 2?", "4"]


def test_history_must_be_pairs():
    row = {"i": "a", "o": "b", "h": [["only a question"]]}
    with pytest.raises(RowError, match="entry 1 of 'h' is not a pair"):
        chat(row, prompt="i", completion="o", history="h")


# --- prompt and completion as text


@pytest.mark.parametrize(
    ("prompt", "completion", "joined"),
    [("Q", "A", "Q\n"), ("Q ", "A", "Q "), ("Q", " A", "Q"), ("Q\n", "A", "Q\n"), ("", "A", "")],
)
def test_prompt_and_completion_are_separated_where_no_white_space_does(prompt, completion, joined):
    example = read_example({"p": prompt, "c": completion}, {"prompt": "p", "completion": "c"}, as_chat=False)
    assert isinstance(example, Passage)
    assert (example.prompt, example.completion) == (joined, completion)
    assert (JOINED in example.remarks) == (joined != prompt)


@pytest.mark.parametrize("as_chat", [True, False])
def test_an_empty_prompt_is_said(as_chat):
    row = {"i": " ", "x": None, "c": "yes"}
    example = read_example(row, {"prompt": ("i", "x"), "completion": "c"}, as_chat=as_chat)
    assert NO_PROMPT in example.remarks


def test_an_empty_completion_is_said():
    example = read_example({"p": "a", "c": ""}, {"prompt": "p", "completion": "c"}, as_chat=False)
    assert example.remarks == (EMPTY,)


def test_numbers_are_read_as_text_and_said():
    example = read_example({"p": "1 + 1 =", "c": 2}, {"prompt": "p", "completion": "c"}, as_chat=False)
    assert isinstance(example, Passage)
    assert example.completion == "2"
    assert CAST in example.remarks


def test_a_chat_in_a_text_column_is_refused_with_the_field_to_use():
    with pytest.raises(RowError, match="holds a list of messages") as caught:
        read_example({"m": [user("hi"), assistant("ho")]}, {"text": ("m",)}, as_chat=False)
    assert "messages: m" in caught.value.fix


# --- templates


def test_a_template_names_columns_and_doubled_braces_are_text():
    template = "Use {{json}}: {a}\n{b}"
    assert columns_of(template) == ("a", "b")
    assert fill(template, {"a": "x", "b": "{y}"}) == "Use {json}: x\n{y}"


@pytest.mark.parametrize("template", ["{a", "a}", "{}", "{ }", "{a{b}}"])
def test_a_brace_that_encloses_no_column_is_refused(template):
    with pytest.raises(DataError, match="brace"):
        columns_of(template)


@pytest.mark.parametrize("template", ["{a.__class__}", "{a[0]}", "{a!r}", "{a:>10}"])
def test_a_template_reads_columns_and_nothing_of_them(template):
    assert columns_of(template) == (template[1:-1],)  # a column of that name, which the file lacks
    with pytest.raises(KeyError):
        fill(template, {"a": "x"})


def test_the_columns_of_each_field_and_those_that_every_row_needs():
    task = {"prompt": ("i", "x"), "completion": "o", "system": "s", "tools": "t"}
    assert columns_read(task) == {
        "prompt": ("i", "x"),
        "completion": ("o",),
        "system": ("s",),
        "tools": ("t",),
    }
    assert required_columns(task) == ("o",)
    assert required_columns({"prompt": "{i}", "completion": "o"}) == ("i", "o")


# --- ShareGPT


def test_sharegpts_turns_and_calls():
    row = {
        "c": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Rain?"},
            {"from": "function_call", "value": '{"name": "rain", "arguments": {"town": "Bonn"}}'},
            {"from": "observation", "value": "no"},
            {"from": "gpt", "value": "No rain."},
        ],
        "t": '[{"name": "rain", "parameters": {}}]',
    }
    example = chat(row, messages="c", tools="t")
    call = {"type": "function", "function": {"name": "rain", "arguments": {"town": "Bonn"}}}
    assert example.messages == [
        {"role": "system", "content": "Be brief."},
        user("Rain?"),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "no"},
        assistant("No rain."),
    ]
    assert example.learned == [False, False, True, False, True]
    assert example.tools == [{"type": "function", "function": {"name": "rain", "parameters": {}}}]


@pytest.mark.parametrize(
    ("source", "role"),
    [
        ("user", "user"),
        ("chatgpt", "assistant"),
        ("assistant", "assistant"),
        ("tool", "tool"),
        ("GPT", "assistant"),
    ],
)
def test_sharegpts_other_names_of_roles(source, role):
    messages, *_ = read_messages([{"from": source, "value": "x"}], "c")
    assert messages[0]["role"] == role


def test_several_calls_of_one_sharegpt_turn():
    value = '[{"name": "a", "arguments": {}}, {"name": "b", "arguments": "{\\"x\\": 1}"}]'
    messages, *_ = read_messages([{"from": "function_call", "value": value}], "c")
    functions = [call["function"] for call in messages[0]["tool_calls"]]
    assert functions == [{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"x": 1}}]


def test_a_sharegpt_call_that_is_not_json_is_refused():
    with pytest.raises(RowError, match="the function_call of message 1 is not JSON"):
        read_messages([{"from": "function_call", "value": "rain(town)"}], "c")


def test_a_system_column_precedes_the_chat():
    row = {"c": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "s": "Be brief."}
    example = chat(row, messages="c", system="s")
    assert [m["role"] for m in example.messages] == ["system", "user", "assistant"]
    assert example.learned == [False, False, True]
    assert len(chat({**row, "s": None}, messages="c", system="s").messages) == 2


def test_a_system_column_and_a_system_turn_are_one_if_equal_and_refused_if_not():
    turns = [{"role": "system", "content": "Be brief."}, user("a"), assistant("b")]
    assert chat({"c": turns, "s": "Be brief."}, messages="c", system="s").messages == turns
    with pytest.raises(RowError, match="'s' has another one"):
        chat({"c": turns, "s": "Be long."}, messages="c", system="s")


def test_a_chat_may_be_json_text_as_in_a_table():
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert chat({"c": json.dumps(turns)}, messages="c") == chat({"c": turns}, messages="c")


# --- OpenAI


def test_openais_parts_weights_reasoning_and_older_function_calls():
    messages, learned, _ = read_messages(
        [
            {
                "role": "developer",
                "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
            },
            {"role": "assistant", "content": "no", "weight": 0},
            {"role": "assistant", "content": "4", "thinking": "2 + 2", "weight": 1, "tool_calls": None},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}},
            {"role": "function", "name": "f", "content": "ok"},
        ],
        "m",
    )
    assert messages[0] == {"role": "developer", "content": "Be brief."}
    assert learned == [False, False, True, True, False]
    assert messages[2] == {"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert messages[3] == {"role": "assistant", "tool_calls": [call]}
    assert messages[4] == {"role": "tool", "name": "f", "content": "ok"}


def test_an_image_is_refused_with_its_message():
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    with pytest.raises(RowError, match="the content of message 1 has a part of type 'image_url'"):
        read_messages([image], "m")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("hello", "is str, not a list"),
        ([], "empty list"),
        ([{"text": "a"}], "without role and content"),
        ([{"role": "wizard", "content": "a"}], "the role 'wizard'"),
        ([{"from": "wizard", "value": "a"}], "is from 'wizard'"),
    ],
)
def test_what_is_no_chat_is_refused(value, what):
    with pytest.raises(RowError, match=what):
        read_messages(value, "m")


def test_a_chat_without_an_answer_is_refused_with_its_roles():
    with pytest.raises(RowError, match=r"no assistant turn \(user\)"):
        chat({"m": [user("hi")]}, messages="m")


@pytest.mark.parametrize("empty", [None, "", []])
def test_no_tools(empty):
    assert read_tools(empty, "t") == []


def test_tools_that_are_no_list_are_refused():
    with pytest.raises(RowError, match="'t' is not a list of tools"):
        read_tools("3", "t")


# --- TRL


def test_conversational_prompt_and_completion_learn_the_completion():
    row = {"p": [user("1?"), assistant("2"), user("3?")], "c": [assistant("6")]}
    example = chat(row, prompt="p", completion="c")
    assert example.messages == [*row["p"], *row["c"]]
    assert example.learned == [False, False, False, True]


def test_a_chat_as_prompt_and_a_text_as_completion():
    example = chat({"p": [user("1?")], "c": "2"}, prompt="p", completion="c")
    assert example.messages == [user("1?"), assistant("2")]


GPT = {"from": "gpt"}
PAIRS = {
    "strings": ({"p": "1?", "b": "2", "w": "3"}, {"prompt": "p"}),
    "conversational": ({"p": [user("1?")], "b": [assistant("2")], "w": [assistant("3")]}, {"prompt": "p"}),
    "implicit prompt": ({"b": [user("1?"), assistant("2")], "w": [user("1?"), assistant("3")]}, {}),
    "ShareGPT": (
        {"c": [{"from": "human", "value": "1?"}], "b": GPT | {"value": "2"}, "w": GPT | {"value": "3"}},
        {"messages": "c"},
    ),
    "Alpaca": ({"i": "1?", "x": "", "b": "2", "w": "3"}, {"prompt": ("i", "x")}),
}  # fmt: skip


@pytest.mark.parametrize("form", PAIRS)
def test_every_form_of_preference_pairs_learns_the_chosen_answer(form):
    row, task = PAIRS[form]
    example = chat(row, **task, chosen="b", rejected="w")
    assert example.messages == [user("1?"), assistant("2")]
    assert example.learned == [False, True]
    assert set(example.remarks) - {WRAPPED} == {REJECTED}


def test_the_pair_itself_is_kept_for_both_answers():
    row, task = PAIRS["implicit prompt"]
    pair = read_preference(row, {**task, "chosen": "b", "rejected": "w"})
    assert (pair.prompt, pair.chosen, pair.rejected) == ([user("1?")], [assistant("2")], [assistant("3")])


def test_texts_that_share_their_prompt_are_cut_between_words():
    row = {"b": "Human: 1? Assistant: two", "w": "Human: 1? Assistant: three"}
    pair = read_preference(row, {"chosen": "b", "rejected": "w"})
    assert (pair.prompt, pair.chosen, pair.rejected) == ("Human: 1? Assistant: ", "two", "three")


def test_answers_of_different_kinds_are_refused():
    with pytest.raises(RowError, match="of different kinds"):
        read_preference({"b": "x", "w": [assistant("y")]}, {"chosen": "b", "rejected": "w"})
