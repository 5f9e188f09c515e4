"""Real files of three forms: every answer is learned, and what a strict template refuses is counted."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from autotune.scaffold.inspection import inspect_data
from tests.support.chat_tokenizers import chat_tokenizer
from trials.kinds.encoding import EncodedRows, encode_rows
from trials.reading.encoding import IGNORED
from trials.reading.messages import read_messages
from trials.reading.tables.errors import DataError
from trials.reading.tables.files import read_file

DATA = Path(os.environ.get("AUTOTUNE_DATA", "../shared/data")) / "chat"
pytestmark = pytest.mark.skipif(
    not (DATA / "alpaca.json").is_file(), reason="needs ../shared/data or $AUTOTUNE_DATA"
)
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}<|{{ m.role }}|>{{ m.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def encoded(name: str, **options: Any) -> EncodedRows:
    form = inspect_data(DATA / name).form
    assert form is not None
    task = {"type": "causal-lm", "text": (), "max_length": 100_000, "chat_template": "chatml"}
    tokenizer = chat_tokenizer(STRICT)
    return encode_rows(read_file(DATA / name), {**task, **form.fields, **options}, tokenizer, None)


def learned_spans(example: dict[str, Any]) -> int:
    return sum(is_learned for is_learned, _ in groupby(label != IGNORED for label in example["labels"]))


def test_alpaca():
    found = encoded("alpaca.json")
    assert len(found.examples) == 600
    assert {learned_spans(example) for example in found.examples} == {1}
    rows = read_file(DATA / "alpaca.json")
    tokenizer = chat_tokenizer(STRICT)
    for example, row in zip(found.examples[:50], rows, strict=False):
        text = tokenizer.decode(example["input_ids"])
        assert row["instruction"] in text
        assert row["input"] in text
        target = tokenizer.decode([label for label in example["labels"] if label != IGNORED])
        assert target == row["output"] + "<|im_end|>"


def test_sharegpt_with_tools_learns_every_answer_and_call():
    found = encoded("sharegpt_tools.jsonl")
    chats = [
        read_messages(chat, "c")[0] for chat in read_file(DATA / "sharegpt_tools.jsonl")["conversations"]
    ]
    answers = [sum(message["role"] == "assistant" for message in chat) for chat in chats]
    assert sum(answers) == 397 + 108
    assert [learned_spans(example) for example in found.examples] == answers
    assert found.remarks == {}


def test_preference_pairs_learn_the_chosen_answer():
    found = encoded("preference.jsonl")
    assert {learned_spans(example) for example in found.examples} == {1}
    chosen = read_file(DATA / "preference.jsonl")["chosen"]
    tokenizer = chat_tokenizer(STRICT)
    for example, answer in zip(found.examples, chosen, strict=True):
        target = tokenizer.decode([label for label in example["labels"] if label != IGNORED])
        assert target == answer["value"] + "<|im_end|>"


def test_a_strict_template_counts_what_it_refuses_and_merging_takes_it():
    with pytest.raises(DataError, match=r"67 of 158 rows cannot be used: .*first line 2 of preference.jsonl"):
        encoded("preference.jsonl", chat_template=STRICT)
    dropped = encoded("preference.jsonl", chat_template=STRICT, bad_rows="drop")
    assert (len(dropped.examples), dropped.bad_rows) == (91, 67)
    merged = encoded("preference.jsonl", chat_template=STRICT, merge_system=True)
    assert len(merged.examples) == 158
