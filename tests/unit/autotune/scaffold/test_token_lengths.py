"""Lengths that `autotune init` measures with the model's tokenizer and chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autotune.scaffold.sweep_file import write_scaffold
from autotune.sweep.sweep_file import load_sweep
from search_spaces.errors import InvalidInputError
from tests.support.chat_tokenizers import chat_tokenizer

STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def chat(i: int, *, system: bool = False) -> list[dict[str, Any]]:
    turns = [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": "word" * 100}]
    return [{"role": "system", "content": "Be brief."}, *turns] if system else turns


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def scaffold(template: str, rows: list[dict[str, Any]]) -> tuple[list[str], str, Any]:
        model = tmp_path / "model"
        chat_tokenizer(template).save_pretrained(str(model))
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "max_position_embeddings": 4096,
        }
        (model / "config.json").write_text(json.dumps(config))
        path = tmp_path / "chats.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = write_scaffold(str(model), [path], tmp_path / "sweep.yaml")
        return made.notes, made.text, load_sweep(tmp_path / "sweep.yaml").task

    return scaffold


def test_the_length_counts_tokens_of_the_template_and_not_words(write):
    notes, _, task = write(STRICT, [{"messages": chat(i)} for i in range(40)])
    assert task.max_length == 416  # 400 letters, the prompt and five special tokens, though only three words
    assert any("have at most 4" in note and "tokens of the model's tokenizer" in note for note in notes)


def test_chats_for_a_tokenizer_without_template_get_chatml(write):
    notes, _, task = write("", [{"messages": chat(i)} for i in range(40)])
    assert task.chat_template == "chatml"
    assert "chat_template: chatml, since the model's tokenizer has no chat template" in notes


def test_refused_rows_are_counted_and_the_way_on_is_written(write):
    notes, text, _ = write(STRICT, [{"messages": chat(i, system=i % 4 == 0)} for i in range(40)])
    bad = next(note for note in notes if note.startswith("bad_rows:"))
    assert "10 of 40 rows cannot be used" in bad
    assert "System role not supported (roles: system, user, assistant), in 10 rows, first line 1" in bad
    assert "  # merge_system: true " in text
    assert "  # bad_rows: drop " in text


def test_system_turns_are_merged_if_the_template_refuses_every_row_with_one(write):
    notes, text, task = write(STRICT, [{"messages": chat(i, system=True)} for i in range(40)])
    assert task.merge_system
    assert "  merge_system: true " in text
    assert any(note.startswith("merge_system: true, since") for note in notes)
    assert not any(note.startswith("bad_rows") for note in notes)
    assert task.max_length > 400


def test_no_file_is_written_if_the_template_refuses_every_row(write, tmp_path):
    with pytest.raises(InvalidInputError) as caught:
        write("{{ raise_exception('Only one turn') }}", [{"messages": chat(i)} for i in range(40)])
    (problem,) = caught.value.problems
    assert "no row could be measured" in problem.what
    assert "40 of 40 rows cannot be used: the chat template refuses it: Only one turn" in problem.what
    assert "chat_template: chatml" in problem.fix
    assert not (tmp_path / "sweep.yaml").exists()


def test_words_are_an_estimate_where_the_tokenizer_is_not_here(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": chat(i)}) + "\n" for i in range(40)))
    notes = write_scaffold("org/model-that-is-not-here", [path], tmp_path / "sweep.yaml").notes
    assert any("estimated" in note and "tokenizer is not on this machine" in note for note in notes)
