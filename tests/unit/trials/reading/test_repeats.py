"""Answers that repeat their prompt: it is used once, or the row is refused."""

from __future__ import annotations

from typing import Any

import pytest

from trials.reading.forms import NO_PROMPT, Chat, Passage, read_example
from trials.reading.repeats import REPEATED
from trials.reading.tables.errors import RowError


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}
PAIR = {"b": [user("q0"), assistant("g0")], "w": [user("q0"), assistant("b0")]}
FORMS = {
    "text": ({"p": "q0"}, {"prompt": "p"}),
    "text with a line end": ({"p": "q0\n"}, {"prompt": "p"}),
    "messages": ({"p": [user("q0")]}, {"prompt": "p"}),
    "ShareGPT": ({"p": [{"from": "human", "value": "q0"}]}, {"messages": "p"}),
}


def read(row: dict[str, Any], task: dict[str, Any]) -> Chat:
    chat = read_example(row, {"chosen": "b", "rejected": "w", **task}, as_chat=True)
    assert isinstance(chat, Chat)
    return chat


@pytest.mark.parametrize("form", FORMS)
def test_a_chosen_chat_that_repeats_the_prompt_is_used_without_it(form: str) -> None:
    row, task = FORMS[form]
    chat = read({**row, **PAIR}, task)
    assert [m["content"].strip() for m in chat.messages] == ["q0", "g0"]
    assert chat.learned == [False, True]
    assert REPEATED in chat.remarks


def test_an_answer_alone_is_no_repetition() -> None:
    chat = read({"p": "q0", "b": [assistant("g0")], "w": [assistant("b0")]}, {"prompt": "p"})
    assert chat.messages == [user("q0"), assistant("g0")]
    assert REPEATED not in chat.remarks


def test_earlier_turns_and_the_system_turn_of_the_chosen_chat_are_kept_before_the_prompt() -> None:
    before = [SYSTEM, user("x"), assistant("y"), user("q0")]
    row = {"p": "q0", "b": [*before, assistant("g0")], "w": [*before, assistant("b0")]}
    chat = read(row, {"prompt": "p"})
    assert chat.messages == [*before, assistant("g0")]
    assert chat.learned == [False, False, False, False, True]


def test_turns_after_the_prompt_that_both_answers_repeat_are_not_learned() -> None:
    shared = [user("q0"), assistant("x"), user("q1")]
    row = {"p": "q0", "b": [*shared, assistant("g1")], "w": [*shared, assistant("b1")]}
    chat = read(row, {"prompt": "p"})
    assert chat.messages == row["b"]
    assert chat.learned == [False, False, False, True]


def test_an_empty_prompt_beside_a_whole_chat_is_said_and_adds_no_turn() -> None:
    chat = read({"p": "", **PAIR}, {"prompt": "p"})
    assert chat.messages == PAIR["b"]
    assert NO_PROMPT in chat.remarks
    assert read({"p": " ", "b": [assistant("g")], "w": [assistant("b")]}, {"prompt": "p"}).messages[
        0
    ] == user(" ")


@pytest.mark.parametrize("inside", [True, False])
def test_a_system_column_is_used_once(inside: bool) -> None:
    start = [SYSTEM] if inside else []
    row = {"p": "q0", "s": "Be brief.", "b": [*start, *PAIR["b"]], "w": [*start, *PAIR["w"]]}
    assert read(row, {"prompt": "p", "system": "s"}).messages == [SYSTEM, *PAIR["b"]]


def test_a_system_column_precedes_pairs_without_a_prompt_column() -> None:
    assert read({**PAIR, "s": "Be brief."}, {"system": "s"}).messages == [SYSTEM, *PAIR["b"]]


@pytest.mark.parametrize("prompt", ["q1", "Human: q0 Assistant:", [user("q1")]])
def test_a_chosen_chat_without_the_prompt_is_refused(prompt: object) -> None:
    with pytest.raises(RowError, match="'b' is a chat of its own"):
        read({"p": prompt, **PAIR}, {"prompt": "p"})


def test_two_system_messages_are_refused() -> None:
    row = {"p": [{**SYSTEM, "content": "Be long."}, user("q0")], "b": [SYSTEM, *PAIR["b"]], "w": PAIR["w"]}
    with pytest.raises(RowError, match="another system message"):
        read(row, {"prompt": "p"})


def test_a_user_turn_after_an_assistants_prompt_continues_the_chat() -> None:
    start = [user("a"), assistant("b")]
    chat = read({"p": start, **PAIR}, {"prompt": "p"})
    assert chat.messages == [*start, *PAIR["b"]]
    assert chat.learned == [False, False, False, True]


@pytest.mark.parametrize("prompt", ["q0", [user("q0")]])
def test_a_completion_that_is_the_whole_chat(prompt: object) -> None:
    chat = read_example({"p": prompt, "c": PAIR["b"]}, {"prompt": "p", "completion": "c"}, as_chat=True)
    assert isinstance(chat, Chat)
    assert (chat.messages, chat.learned, chat.remarks) == (PAIR["b"], [False, True], (REPEATED,))


# --- texts

TEXTS = {
    "p": "Human: q0 Assistant:",
    "b": "Human: q0 Assistant: g0",
    "w": "Human: q0 Assistant: b0",
}
TASK = {"prompt": "p", "chosen": "b", "rejected": "w"}


def test_texts_that_repeat_the_prompt_are_used_without_it() -> None:
    passage = read_example(TEXTS, TASK, as_chat=False)
    assert isinstance(passage, Passage)
    assert (passage.prompt, passage.completion) == (TEXTS["p"], " g0")
    assert REPEATED in passage.remarks
    assert read(TEXTS, TASK).messages == [user(TEXTS["p"]), assistant("g0")]


def test_a_system_column_precedes_the_text_of_a_pair() -> None:
    passage = read_example({**TEXTS, "s": "Be brief."}, {**TASK, "system": "s"}, as_chat=False)
    assert isinstance(passage, Passage)
    assert passage.prompt == "Be brief.\nHuman: q0 Assistant:"


def test_only_one_answer_that_begins_like_the_prompt_is_no_repetition() -> None:
    passage = read_example({**TEXTS, "w": "no"}, TASK, as_chat=False)
    assert isinstance(passage, Passage)
    assert passage.completion == TEXTS["b"]


def test_a_short_prompt_at_the_beginning_of_both_answers_is_refused() -> None:
    with pytest.raises(RowError, match="both answers begin with the prompt 'Hi'"):
        read({"p": "Hi", "b": "Hi there", "w": "Hi you"}, TASK)
    assert read({"p": "Hi", "b": "History", "w": "Hint"}, TASK).messages[1] == assistant("History")
