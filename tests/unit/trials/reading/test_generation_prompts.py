"""Chat templates without a generation prompt, and templates that write the time: where the loss begins."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.chat_tokenizers import chat_tokenizer, marked_text
from trials.kinds.encoding import encode_fully
from trials.reading.chat import NO_GENERATION_PROMPT
from trials.reading.tables.errors import DataError, RowError
from trials.reading.template_fit import DATED

TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "ciao"},
]
HEADERS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
LEARNED = (
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n[[hello<|im_end|>\n]]"
    "<|im_start|>user\nbye<|im_end|>\n<|im_start|>assistant\n[[ciao<|im_end|>\n]]"
)


def show(template: str, turns: list[dict[str, Any]] = TURNS) -> tuple[str, tuple[str, ...]]:
    tokenizer = chat_tokenizer(template)
    task = {"type": "causal-lm", "text": (), "messages": "m", "max_length": 10_000}
    encoding = encode_fully({"m": turns}, task, tokenizer, None)
    return marked_text(encoding.example, tokenizer), encoding.remarks


def test_the_header_of_an_answer_is_not_learned_where_the_template_adds_no_generation_prompt() -> None:
    assert show(HEADERS) == (LEARNED, (NO_GENERATION_PROMPT,))


def test_nothing_is_said_where_answers_follow_their_prompt_without_a_header() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|assistant|>"
        "{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    )
    text, remarks = show(template)
    assert text == "<|user|>hi<|assistant|>[[ hello<|im_end|>]]<|user|>bye<|assistant|>[[ ciao<|im_end|>]]"
    assert remarks == ()


def test_reasoning_of_a_template_without_a_generation_prompt_is_learned() -> None:
    template = HEADERS.replace("{{ m.content }}", "{{ (m.reasoning_content or '') + m.content }}")
    text, _ = show(template, [TURNS[0], {**TURNS[1], "reasoning_content": "greet: "}])
    assert text.endswith("<|im_start|>assistant\n[[greet: hello<|im_end|>\n]]")


def test_a_call_and_the_tags_of_reasoning_are_learned_without_a_generation_prompt() -> None:
    calls = "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
    template = HEADERS.replace("{{ m.content }}", "{{ m.content or '' }}" + calls)
    call = {"name": "f", "arguments": {"x": 1}}
    text, _ = show(template, [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [call]}])
    assert text.endswith('assistant\n[[{"name": "f", "arguments": {"x": 1}}<|im_end|>\n]]')
    thinking = "{% if m.role == 'assistant' %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n{% endif %}"
    template = HEADERS.replace("{{ m.content }}", thinking + "{{ m.content }}")
    text, _ = show(template, [TURNS[0], {**TURNS[1], "reasoning_content": "greet"}])
    assert text.endswith("assistant\n[[<think>\ngreet\n</think>\nhello<|im_end|>\n]]")
    text, _ = show(template)
    assert text.count("assistant\n[[<think>") == 2


def test_a_template_that_draws_at_random_is_refused() -> None:
    with pytest.raises(DataError, match="at random"):
        show("{{ ['a', 'b'] | random }}" + HEADERS)
    assert show("<|random|>" + HEADERS)[0].startswith("<|random|>")


def test_a_chat_is_refused_if_its_renderings_have_different_times() -> None:
    prompt = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    template = "{% set form = '%f' %}{{ strftime_now(form) }} " + HEADERS + prompt
    with pytest.raises(RowError, match="writes a time that changes"):
        show(template)


@pytest.mark.parametrize("form", ["%H:%M:%S.%f", "%f"])
def test_a_template_that_writes_the_time_writes_one_time_in_every_rendering(form: str) -> None:
    prompt = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    template = "{{ strftime_now('" + form + "') }} " + HEADERS + prompt
    text, remarks = show(template)
    assert text.partition(" ")[2] == LEARNED
    assert remarks == (DATED,)
