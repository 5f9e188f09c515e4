"""Chats by their template: the text, and the tokens that the loss covers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.chat_tokenizers import chat_tokenizer, marked_text
from trials.kinds.encoding import encode_fully
from trials.reading.chat import LAST_ONLY, NO_CALL, NO_REASONING
from trials.reading.encoding import IGNORED
from trials.reading.forms import EMPTY, MERGED
from trials.reading.tables.errors import DataError, RowError
from trials.reading.template_fit import DATED, NO_TOOLS, NOT_RENDERED

Show = Callable[..., tuple[str, tuple[str, ...]]]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "ciao"},
]
CALL = {"type": "function", "function": {"name": "rain", "arguments": {"town": "Bonn", "wet": True}}}
CALLING = [
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "name": "rain", "content": "no"},
    {"role": "assistant", "content": "No rain."},
]
TOOLS = [{"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}]


def show(template: str, messages: list[dict[str, Any]], tools: Any = None) -> tuple[str, tuple[str, ...]]:
    """Return the text of a chat with its learned tokens in double brackets, and the remarks."""
    tokenizer = chat_tokenizer(template)
    task = {"type": "causal-lm", "text": (), "messages": "m", "tools": "t", "max_length": 10_000}
    encoding = encode_fully({"m": messages, "t": tools}, task, tokenizer, None)
    return marked_text(encoding.example, tokenizer), encoding.remarks


def test_each_assistant_turn_is_learned_with_its_end():
    text, remarks = show(CHATML, TURNS)
    assert text == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n[[hello<|im_end|>\n]]"
        "<|im_start|>user\nbye<|im_end|>\n<|im_start|>assistant\n[[ciao<|im_end|>\n]]"
    )
    assert remarks == ()


def test_a_turn_of_weight_0_is_not_learned():
    text, _ = show(CHATML, [TURNS[0], {**TURNS[1], "weight": 0}, *TURNS[2:]])
    assert "assistant\nhello<|im_end|>" in text
    assert text.count("[[") == 1


def test_a_chat_that_begins_with_the_assistant_is_learned_where_the_template_takes_it():
    text, _ = show(CHATML, TURNS[1:])
    assert text.startswith("<|im_start|>assistant\n[[hello<|im_end|>\n]]<|im_start|>user")


def test_marks_of_the_template_hold_and_the_special_token_that_ends_the_turn_is_learned():
    marked = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n"
        "{% endfor %}"
    )
    text, _ = show(marked, TURNS)
    assert "assistant\n[[hello<|im_end|>]]\n<|im_start|>user" in text
    assert text.endswith("assistant\n[[ciao<|im_end|>]]\n")


def test_a_mark_that_covers_nothing_never_leaves_the_labels_empty():
    useless = CHATML + "{% if false %}{% generation %}{% endgeneration %}{% endif %}"
    text, _ = show(useless, TURNS)
    assert text.count("[[") == 2


def test_a_template_that_ends_no_turn_gets_the_token_that_ends_texts():
    text, _ = show("{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}", TURNS[:2])
    assert text.endswith("hello <eos>]]")


def test_the_first_special_token_is_not_doubled():
    text, _ = show("{{ bos_token }}" + CHATML, TURNS)
    assert text.count("<bos>") == 1


# --- templates that render earlier turns differently from the last one

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Removes the reasoning of earlier turns."""
STRIPPING = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|bot|>{{ m.content.split('</think>')[-1] }}<|im_end|>"
    "{% else %}<|user|>{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|><think>\n{% endif %}"
)
"""Removes the reasoning of every turn, and begins it in the generation prompt."""


def test_reasoning_is_kept_in_every_turn_as_it_was_generated():
    turns = [TURNS[0], {**TURNS[1], "reasoning_content": "greet"}, *TURNS[2:]]
    text, remarks = show(THINKING, turns)
    assert text == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n[[<think>\ngreet\n</think>\n\nhello<|im_end|>\n]]"
        "<|im_start|>user\nbye<|im_end|>\n<|im_start|>assistant\n[[<think>\n\n</think>\n\nciao<|im_end|>\n]]"
    )
    assert remarks == ()


def test_reasoning_in_the_content_is_learned_though_the_template_removes_it():
    turns = [TURNS[0], {"role": "assistant", "content": "<think>\ngreet\n</think>\n\nhello"}, *TURNS[2:]]
    text, _ = show(STRIPPING, turns)
    assert text == (
        "<|user|>hi<|bot|><think>\n[[greet\n</think>\n\nhello<|im_end|>]]<|user|>bye<|bot|>[[ciao<|im_end|>]]"
    )


def test_an_end_of_turn_that_differs_in_earlier_turns():
    ends = (
        "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
        "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant<|message|>{% endif %}"
    )
    text, _ = show(ends, TURNS)
    assert "[[hello<|end|>]]<|start|>user<|message|>bye<|end|>" in text
    assert text.endswith("[[ciao<|return|>]]")


def test_a_token_after_the_whole_chat_is_not_repeated():
    closing = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
    )
    text, _ = show(closing, TURNS)
    assert text.count("<eos>") == 1
    assert "[[hello<|end|>\n]]<|user|>" in text
    assert text.endswith("[[ciao<|end|>\n<eos>]]")


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages|length }} {{ messages[-1].content }}",  # shows the last turn only
        "{% for m in messages %}{% if loop.revindex0 == 1 %}<|tools|>{% endif %}{{ m.content }}<|end|>{% endfor %}",
    ],
)
def test_a_template_that_rewrites_the_text_between_turns_learns_the_last_answer_and_says_so(template):
    text, remarks = show(template, TURNS)
    assert "[[ciao" in text
    assert text.count("[[") == 1
    assert remarks == (LAST_ONLY,)
    assert show(template, TURNS[:2])[1] == ()  # a single answer is learned whole


LATE_SYSTEM = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.system = m.content + ' ' %}{% elif m.role == 'user' %}<|user|>{{ ns.system if loop.last else '' }}"
    "{{ m.content }}<|end|>{% else %} {{ m.content }}<|bot_end|>{% endif %}{% endfor %}"
)
"""Gives the system message to the last user turn, and so to none that an answer follows, as Mistral's template."""


@pytest.mark.parametrize(("answers", "remarks"), [(1, ()), (2, (LAST_ONLY,))])
def test_an_answer_is_learned_after_the_prompt_that_the_model_is_given(answers, remarks):
    chat = [{"role": "system", "content": "Be brief."}, *TURNS[: 2 * answers]]
    text, said = show(LATE_SYSTEM, chat)
    question, answer = ("hi", "hello") if answers == 1 else ("bye", "ciao")
    assert text.endswith(f"<|user|>Be brief. {question}<|end|>[[ {answer}<|bot_end|>]]")
    assert said == remarks
    assert show(LATE_SYSTEM, TURNS)[0].count("[[") == 2


# --- tool calls


def calls(arguments: str, *, empty: str = "{{ m.content }}") -> str:
    """Return a template that renders tool calls, with an expression for their arguments."""
    return (
        "{% if tools %}<|tools|>{{ tools | tojson }}<|end|>{% endif %}{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.tool_calls %}{% for c in m.tool_calls %}<|call|>{{ c.function.name }}"
        + arguments
        + "{% endfor %}"
        "{% else %}"
        + empty
        + "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "{{ c.function.arguments | tojson }}",  # a mapping
        "{{ c.function.arguments }}",  # JSON text: a mapping would be printed as Python
        "{{ '' + c.function.arguments }}",  # JSON text: a mapping raises
    ],
)
def test_a_call_is_learned_as_the_template_renders_it(arguments):
    text, remarks = show(calls(arguments), CALLING, TOOLS)
    assert '<|assistant|>[[<|call|>rain{"town": "Bonn", "wet": true}<|end|>]]<|tool|>no<|end|>' in text
    assert text.endswith("<|assistant|>[[No rain.<|end|>]]")
    assert remarks == ()


@pytest.mark.parametrize(
    "arguments", [CALL["function"]["arguments"], json.dumps(CALL["function"]["arguments"])]
)
def test_arguments_may_be_a_mapping_or_json_text(arguments):
    call = {"type": "function", "function": {"name": "rain", "arguments": arguments}}
    chat = [CALLING[0], {"role": "assistant", "content": None, "tool_calls": [call]}, *CALLING[2:]]
    template = calls("{{ c.function.arguments | tojson }}")
    assert show(template, chat, TOOLS) == show(template, CALLING, TOOLS)


def test_a_template_that_takes_calls_only_beside_no_content():
    template = calls("{{ c.function.arguments }}").replace(
        "{% if m.tool_calls %}", "{% if m.content is none %}"
    )
    text, _ = show(template, CALLING, TOOLS)
    assert "[[<|call|>rain" in text


def test_a_template_that_wants_ids_of_calls_gets_them():
    wants = calls("{{ c.function.arguments | tojson }}[{{ c.id }}]").replace(
        "<|call|>",
        "{% if c.id is not defined or c.id|length != 9 %}{{ raise_exception('no id') }}{% endif %}<|call|>",
    )
    wants = wants.replace(
        "{{ m.content }}", "{{ m.content }}{% if m.role == 'tool' %}[{{ m.tool_call_id }}]{% endif %}"
    )
    text, _ = show(wants, CALLING, TOOLS)
    assert "[000010000]<|end|>]]<|tool|>no[000010000]<|end|>" in text
    long = [CALLING[0], {**CALLING[1], "tool_calls": [{**CALL, "id": "call_of_openai"}]}]
    long += [{**CALLING[2], "tool_call_id": "call_of_openai"}, CALLING[3]]
    assert show(wants, long, TOOLS)[0] == text


def test_a_call_that_is_not_rendered_is_left_out_of_the_loss_and_said():
    text, remarks = show(CHATML, CALLING, TOOLS)
    assert text.count("[[") == 1
    assert text.endswith("[[No rain.<|im_end|>\n]]")
    assert set(remarks) == {NO_CALL, NO_TOOLS}


def test_turns_that_are_not_rendered_are_said():
    only = CHATML.replace("in messages", "in messages if m.role in ('user', 'assistant')")
    _, remarks = show(only, [{"role": "system", "content": "Be brief."}, *TURNS])
    assert remarks == (NOT_RENDERED.format("system"),)


def test_reasoning_that_is_not_rendered_is_said():
    _, remarks = show(CHATML, [TURNS[0], {**TURNS[1], "reasoning_content": "greet"}])
    assert remarks == (NO_REASONING,)


def test_a_date_in_the_template_is_said():
    dated = "Today is {{ strftime_now('%d %b %Y') }}. " + CHATML
    assert show(dated, TURNS)[1] == (DATED,)
    assert show("{% if false %}{{ strftime_now('%Y') }}{% endif %}" + CHATML, TURNS)[1] == ()


def test_a_tokenizer_with_a_template_for_tools_uses_it_for_chats_with_tools():
    tokenizer = chat_tokenizer("{# several #}")
    tokenizer.chat_template = {"default": CHATML, "tool_use": calls("{{ c.function.arguments | tojson }}")}
    task = {"type": "causal-lm", "text": (), "messages": "m", "tools": "t", "max_length": 10_000}
    text = marked_text(encode_fully({"m": CALLING, "t": TOOLS}, task, tokenizer, None).example, tokenizer)
    assert "<|call|>rain" in text
    plain = marked_text(encode_fully({"m": TURNS, "t": None}, task, tokenizer, None).example, tokenizer)
    assert plain.startswith("<|im_start|>user")


def test_a_developer_is_a_system_where_the_template_knows_no_developer():
    chat = [{"role": "developer", "content": "Be brief."}, *TURNS]
    assert "<|im_start|>system\nBe brief." in show(CHATML, chat)[0]
    known = "{# developer #}" + CHATML
    assert "<|im_start|>developer\nBe brief." in show(known, chat)[0]


def test_a_template_of_parts_gets_parts():
    parts = (
        "{% for m in messages %}<|{{ m.role }}|>{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}"
        "{% endif %}{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    assert show(parts, TURNS[:2])[0] == "<|user|>hi<|end|><|assistant|>[[hello<|end|>]]"


# --- templates that refuse

STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}<|{{ m.role }}|>{{ m.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.mark.parametrize(
    ("messages", "what", "fix"),
    [
        ([{"role": "system", "content": "x"}, *TURNS], "System role not supported", "merge_system: true"),
        (TURNS[1:], "must alternate", "needs a user's turn first"),
        ([TURNS[0], *TURNS], "must alternate", "order of the roles"),
    ],
)
def test_a_refusal_names_the_roles_and_a_fix(messages, what, fix):
    with pytest.raises(RowError, match=what) as caught:
        show(STRICT, messages)
    roles = ", ".join(message["role"] for message in messages)
    assert f"(roles: {roles})" in caught.value.what
    assert fix in caught.value.fix


def test_system_messages_can_be_merged_into_the_first_user_turn():
    task = {"type": "causal-lm", "text": (), "messages": "m", "max_length": 10_000, "merge_system": True}
    chat = [{"role": "system", "content": "Be brief."}, *TURNS]
    encoding = encode_fully({"m": chat}, task, chat_tokenizer(STRICT), None)
    text = marked_text(encoding.example, chat_tokenizer(STRICT))
    assert text.startswith("<|user|>Be brief.\n\nhi<|end|><|assistant|>[[hello<|end|>]]<|user|>bye")
    assert encoding.remarks == (MERGED,)
    assert encode_fully({"m": TURNS}, task, chat_tokenizer(STRICT), None).remarks == ()


def test_a_template_that_is_no_jinja_is_an_error_of_the_template_and_not_of_a_row():
    with pytest.raises(DataError, match=r"not valid Jinja \(line 1") as caught:
        show("{% for m in messages %}{{ m.content }", TURNS)
    assert not isinstance(caught.value, RowError)


def test_an_empty_answer_is_said():
    assert show(CHATML, [TURNS[0], {"role": "assistant", "content": ""}])[1] == (EMPTY,)


def test_chats_without_a_template_are_refused_with_what_to_write():
    with pytest.raises(DataError, match="the model's tokenizer has none") as caught:
        show("", TURNS)
    assert "chat_template: chatml" in caught.value.fix


@pytest.mark.parametrize("choice", ["chatml", CHATML])
def test_a_template_of_the_task(choice):
    tokenizer = chat_tokenizer("")
    task = {"type": "causal-lm", "text": (), "messages": "m", "max_length": 10_000, "chat_template": choice}
    text = marked_text(encode_fully({"m": TURNS[:2]}, task, tokenizer, None).example, tokenizer)
    assert text.startswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n[[hello<|im_end|>")


def test_chatml_renders_tools_calls_and_reasoning():
    task = {"type": "causal-lm", "text": (), "messages": "m", "tools": "t", "max_length": 10_000}
    chat = [{"role": "system", "content": "Be brief."}, *CALLING]
    chat[-1] = {**chat[-1], "reasoning_content": "It is dry."}
    encoding = encode_fully(
        {"m": chat, "t": TOOLS}, {**task, "chat_template": "chatml"}, chat_tokenizer(""), None
    )
    assert marked_text(encoding.example, chat_tokenizer("")) == (
        f"<|im_start|>system\nBe brief.\n\nTools: {json.dumps(TOOLS)}<|im_end|>\n<|im_start|>user\nRain?<|im_end|>\n"
        '<|im_start|>assistant\n[[<tool_call>\n{"name": "rain", "arguments": {"town": "Bonn", "wet": true}}\n'
        "</tool_call><|im_end|>]]\n<|im_start|>tool\nno<|im_end|>\n<|im_start|>assistant\n"
        "[[<think>\nIt is dry.\n</think>\n\nNo rain.<|im_end|>]]\n"
    )
    assert encoding.remarks == ()


def test_a_tokenizer_without_offsets_learns_the_same_tokens(monkeypatch):
    tokenizer = chat_tokenizer(CHATML)
    task = {"type": "causal-lm", "text": (), "messages": "m", "max_length": 10_000}
    fast = encode_fully({"m": TURNS}, task, tokenizer, None)
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    assert encode_fully({"m": TURNS}, task, tokenizer, None) == fast
    assert any(label != IGNORED for label in fast.example["labels"])


def test_the_length_before_the_cut():
    tokenizer = chat_tokenizer(CHATML)
    task = {"type": "causal-lm", "text": (), "messages": "m", "max_length": 5}
    encoding = encode_fully({"m": TURNS}, task, tokenizer, None)
    whole = encode_fully({"m": TURNS}, {**task, "max_length": 10_000}, tokenizer, None)
    assert len(encoding.example["input_ids"]) == 5
    assert encoding.full_length == len(whole.example["input_ids"])
