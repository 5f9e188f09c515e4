"""The fields of causal-lm tasks: one form of data, its columns, and the chat template."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from autotune.sweep.paths import resolve_paths
from trials.tasks.specs import TaskSpec


def task(**fields: Any) -> TaskSpec:
    return TaskSpec(type="causal-lm", **fields)


@pytest.mark.parametrize(
    ("fields", "columns", "required"),
    [
        ({"text": "t"}, ("t",), ("t",)),
        ({"prompt": "p", "completion": "c"}, ("p", "c"), ("p", "c")),
        ({"prompt": ["a", "b"], "completion": "c"}, ("a", "b", "c"), ("c",)),
        ({"prompt": "{a}\n{b}", "completion": "{c}!"}, ("a", "b", "c"), ("c",)),
        ({"messages": "m", "tools": "t", "system": "s"}, ("m", "s", "t"), ("m",)),
        ({"chosen": "x", "rejected": "y"}, ("x", "y"), ("x", "y")),
        ({"prompt": "p", "chosen": "x", "rejected": "y"}, ("p", "x", "y"), ("p", "x", "y")),
        ({"messages": "m", "chosen": "x", "rejected": "y"}, ("m", "x", "y"), ("m", "x", "y")),
    ],
)
def test_the_columns_of_a_form(fields, columns, required):
    assert (task(**fields).columns, task(**fields).required_columns) == (columns, required)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one form"),
        ({"text": "t", "messages": "m"}, "exactly one form"),
        ({"prompt": "p"}, "task.completion: missing"),
        ({"completion": "c"}, "task.prompt: missing"),
        ({"chosen": "x"}, "task.rejected: missing"),
        ({"rejected": "x"}, "task.chosen: missing"),
        ({"prompt": "p", "completion": "c", "chosen": "x", "rejected": "y"}, "task.completion: 'c' is given"),
        ({"text": "t", "tools": "u"}, "task.tools: plain text has no turns"),
        ({"prompt": "{a", "completion": "c"}, "task.prompt: '{a' has a brace"),
        ({"prompt": "{{a}}", "completion": "c"}, "task.prompt: names no column"),
        (
            {"messages": "m", "chat_template": "no/such.jinja"},
            "task.chat_template: 'no/such.jinja' is neither",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        task(**fields)


def test_classification_has_none_of_these_fields():
    with pytest.raises(ValueError, match=r"task\.tools: is not for sequence-classification"):
        TaskSpec(text="t", label="y", tools="u")


@pytest.mark.parametrize(("given", "stored"), [(True, "tokenizer"), (False, "none"), ("chatml", "chatml")])
def test_words_for_the_chat_template(given, stored):
    assert task(messages="m", chat_template=given).chat_template == stored


def test_the_text_of_a_template_file_is_stored_and_its_path_is_relative_to_the_sweep_file(tmp_path: Path):
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    resolved, problems = resolve_paths(
        {"task": {"train": "x.tsv", "messages": "m", "chat_template": "chat.jinja"}}, tmp_path
    )
    assert [problem.where for problem in problems] == ["task.train"]
    path = resolved["task"]["chat_template"]
    assert task(messages="m", chat_template=path).chat_template == "{{ messages }}"
    kept, _ = resolve_paths({"task": {"train": "x.tsv", "chat_template": "{{ messages }}"}}, tmp_path)
    assert kept["task"]["chat_template"] == "{{ messages }}"


def test_a_file_without_a_template_is_refused(tmp_path: Path):
    (tmp_path / "chat.txt").write_text("hello")
    with pytest.raises(ValueError, match="holds no Jinja template"):
        task(messages="m", chat_template=str(tmp_path / "chat.txt"))
