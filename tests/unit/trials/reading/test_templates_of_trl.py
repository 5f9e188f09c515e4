"""Chats by the chat templates of current models, against the labels of TRL.

TRL trains on a copy of a model's template with `{% generation %}` marks, the training template. Here every chat is
rendered by the model's own template, and must give the text and the labels of TRL's, but for what is deliberate: the
loss never covers what the generation prompt gives, an empty answer, or a turn without its reasoning.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat_tokenizers import chat_tokenizer
from trials.kinds.encoding import encode_fully
from trials.reading.chat import NO_CALL, NO_PREFIX
from trials.reading.chat_templates import find_template
from trials.reading.encoding import IGNORED
from trials.reading.tables.errors import RowError
from trials.reading.template_fit import fit_messages

trl = pytest.importorskip("trl", reason="trl has the chat templates of current models")
FOLDER = Path(trl.__file__).parent / "chat_templates"
TEMPLATES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.jinja"))}
MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
TRAINING = {
    name: TEMPLATES.get(f"{name}_training", source)
    for name, source in TEMPLATES.items()
    if not name.endswith("_training") and (f"{name}_training" in TEMPLATES or MARK.search(source))
}
"""The training template of each template that has one; one with marks is its own."""
OF_PARTS = ("idefics3", "smolvlm", "llava_next")
"""Templates of models with images, which take content as a list of parts."""
OTHER_END = ("glm4moe",)
"""TRL ends the last turn with the token of the user's role, here it is the tokenizer's end of text."""
OTHER_PROMPT = ("diffusion_gemma",)
"""The template gives no generation prompt after a tool's answer, so that the header is generated."""
EMPTY_REASONING = "<think>\n\n</think>\n\n"
"""What Qwen's training templates add to every turn, its own ones only to turns that follow a user's turn."""


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **keys}


CALL = {
    "type": "function",
    "id": "abcdefgh1",
    "function": {"name": "rain", "arguments": {"town": "Bonn", "day": 3}},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "rain",
            "description": "Will it rain?",
            "parameters": {
                "type": "object",
                "properties": {"town": {"type": "string"}},
                "required": ["town"],
            },
        },
    }
]
CHATS: dict[str, list[dict[str, Any]]] = {
    "one": [user("hi"), assistant("hello there")],
    "several": [
        user("hi"),
        assistant("hello"),
        user("and?"),
        assistant("good bye"),
        user("x"),
        assistant("y z"),
    ],
    "system": [{"role": "system", "content": "be brief"}, user("hi"), assistant("hello")],
    "tools": [
        user("Rain in Bonn?"),
        assistant("", tool_calls=[CALL]),
        {"role": "tool", "name": "rain", "tool_call_id": "abcdefgh1", "content": "no"},
        assistant("There is none."),
        user("thanks"),
        assistant("welcome"),
    ],
    "reasoning": [
        user("hi"),
        assistant("hello", reasoning_content="greet him"),
        user("2+2?"),
        assistant("4", reasoning_content="two and two"),
    ],
    "reasoning in the content": [
        user("hi"),
        assistant("<think>\ngreet him\n</think>\n\nhello"),
        user("2+2?"),
        assistant("<think>\ntwo and two\n</think>\n\n4"),
    ],
    "assistant first": [assistant("How can I help?"), user("hi"), assistant("hello")],
}
TASK = {"type": "causal-lm", "text": (), "messages": "m", "tools": "t", "max_length": 100_000}


def of_trl(name: str, chat: str) -> tuple[list[int], list[bool]] | None:
    """Return the token ids and the mask that SFTTrainer trains on, None if the template refuses the chat."""
    tokenizer, messages = chat_tokenizer(TEMPLATES[name]), copy.deepcopy(CHATS[chat])
    if name in OF_PARTS:
        for message in messages:
            message["content"] = [{"type": "text", "text": message["content"]}]
    try:
        output = tokenizer.apply_chat_template(
            messages,
            chat_template=TRAINING[name],
            tools=TOOLS if chat == "tools" else None,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
    except Exception:  # whatever a template raises
        return None
    return output["input_ids"], [bool(value) for value in output["assistant_masks"]]


def here(name: str, chat: str, template: str | None = None) -> tuple[list[int], list[bool], set[str]] | None:
    """Return the token ids, the mask and the remarks here, None if the row is refused."""
    tokenizer = chat_tokenizer(TEMPLATES[name])
    task = {**TASK, "chat_template": template or "auto"}
    row = {"m": CHATS[chat], "t": TOOLS if chat == "tools" else None}
    try:
        encoding = encode_fully(row, task, tokenizer, None)
    except RowError:
        return None
    labels = encoding.example["labels"]
    return encoding.example["input_ids"], [label != IGNORED for label in labels], set(encoding.remarks)


def runs(first: list[bool], second: list[bool]) -> Iterator[slice]:
    """Yield the runs of tokens that only the first mask covers."""
    start = 0
    for is_only, group in groupby(zip(first, second, strict=True), key=lambda pair: pair[0] and not pair[1]):
        length = len(list(group))
        if is_only:
            yield slice(start, start + length)
        start += length


def prompts(name: str, chat: str) -> list[str]:
    """Return the text before each assistant turn with its generation prompt."""
    template = find_template(chat_tokenizer(TEMPLATES[name]), "auto")
    assert template is not None
    messages, _ = fit_messages(CHATS[chat], (), template)
    found = [template.generation_prompt]
    for turn, message in enumerate(messages):
        if message["role"] == "assistant" and turn:
            try:
                found.append(template.render(messages[:turn], prompt=True)[0])
            except RowError:
                continue
    return found


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", TRAINING)
def test_the_models_own_template_gives_the_labels_of_trl(name, chat):
    theirs, ours = of_trl(name, chat), here(name, chat)
    if theirs is None:
        return  # here the content may have a form that the template takes
    assert ours is not None
    tokenizer = chat_tokenizer(TEMPLATES[name])
    (ids, mask), (our_ids, our_mask, remarks) = theirs, ours
    text = tokenizer.decode(our_ids)
    if "reasoning" in chat and "greet him" not in tokenizer.decode(ids):
        # TRL trains on earlier turns without their reasoning where its training template removes it.
        template_has_none = any("reasoning" in remark for remark in remarks)
        assert "greet him" in text or template_has_none
        if not template_has_none:
            return
    if name in OTHER_END:
        ids, mask, our_ids, our_mask = ids[:-1], mask[:-1], our_ids[:-1], our_mask[:-1]
    if chat == "assistant first" and our_ids != ids:
        assert text.replace(EMPTY_REASONING, "") == tokenizer.decode(ids).replace(EMPTY_REASONING, "")
        return
    assert our_ids == ids
    for run in runs(mask, our_mask):
        given = tokenizer.decode(ids[run])
        assert any(given in prompt[-len(given) - 40 :] for prompt in prompts(name, chat)) or remarks & {
            NO_CALL,
            NO_PREFIX,
        }
    extra = "".join(tokenizer.decode(ids[run]) for run in runs(our_mask, mask))
    assert extra.strip() == "" or name in OTHER_PROMPT
    assert any(our_mask)


@pytest.mark.parametrize("chat", ["one", "several", "system"])
@pytest.mark.parametrize("name", TRAINING)
def test_a_template_with_marks_gives_the_labels_of_trl(name, chat):
    theirs, ours = of_trl(name, chat), here(name, chat, TRAINING[name])
    if theirs is None:
        assert ours is None
        return
    assert ours is not None
    if name == "gptoss" and chat == "several":
        return  # its turns end differently when they are the last; TRL marks their header, too
    assert ours[:2] == theirs


@pytest.mark.parametrize("name", [name for name in TEMPLATES if not name.endswith("_training")])
def test_every_template_learns_every_answer_with_its_end(name):
    tokenizer = chat_tokenizer(TEMPLATES[name])
    encoded = here(name, "several")
    assert encoded is not None
    ids, mask, _ = encoded
    learned = [
        list(group) for key, group in groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1]) if key
    ]
    assert len(learned) == 3
    special = {token.content for token in tokenizer.added_tokens_decoder.values()}
    for turn, answer in zip(learned, ("hello", "good bye", "y z"), strict=True):
        text = tokenizer.decode([token for token, _ in turn])
        assert answer in text
        assert text.rstrip().endswith(tuple(special))
