"""`autotune init` for encoder-decoders: prompts and completions make the task seq2seq."""

from __future__ import annotations

import json

import pytest

from autotune.scaffold.sweep_file import make_scaffold
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.errors import InvalidInputError
from search_spaces.language.yaml_io import parse_yaml

ROWS = [{"prompt": "the film was good", "completion": "good film " * (1 + i % 3)} for i in range(40)]


@pytest.mark.parametrize("task", [None, "seq2seq"])
def test_an_encoder_decoder_reads_prompts_and_writes_completions(task, tiny_model, write_jsonl, tmp_path):
    data = write_jsonl("train.jsonl", ROWS)
    scaffold = make_scaffold(str(tiny_model("t5")), [data], tmp_path / "sweep.yaml", task=task)
    sweep = parse_sweep({"name": "s", **parse_yaml(scaffold.text)}, tmp_path)
    assert (sweep.task.type, sweep.task.prompt, sweep.task.completion) == ("seq2seq", "prompt", "completion")
    assert (sweep.task.max_length, sweep.task.max_target_length) == (32, 32)
    reason = "--task says so" if task else "the model is an encoder-decoder"
    assert any(note.startswith(f"task: seq2seq, since {reason}") for note in scaffold.notes)


def test_the_length_of_completions_is_limited_by_the_positions_of_the_model(
    tiny_model, write_jsonl, tmp_path
):
    data = write_jsonl("train.jsonl", [{**row, "completion": "film " * 400} for row in ROWS])
    model = tiny_model("bart")
    positions = json.loads((model / "config.json").read_text())["max_position_embeddings"]
    assert positions < 400
    scaffold = make_scaffold(str(model), [data], tmp_path / "sweep.yaml")
    assert f"max_target_length: {positions} " in scaffold.text
    assert any(note.endswith(f"tokens, limited to {positions} by the model") for note in scaffold.notes)


def test_chats_are_refused_for_an_encoder_decoder(tiny_model, write_jsonl, tmp_path):
    turns = [{"role": "user", "content": "good"}, {"role": "assistant", "content": "film"}]
    data = write_jsonl("train.jsonl", [{"messages": turns}] * 20)
    with pytest.raises(InvalidInputError, match="seq2seq needs columns of prompts"):
        make_scaffold(str(tiny_model("t5")), [data], tmp_path / "sweep.yaml")


@pytest.mark.parametrize("task", [None, "seq2seq"])
def test_of_two_columns_of_texts_the_longer_one_is_the_prompt(task, tiny_model, write_jsonl, tmp_path):
    rows = [{"summary": f"good {i} film", "article": f"the {i} film was good {i}"} for i in range(40)]
    data = write_jsonl("train.jsonl", rows)
    scaffold = make_scaffold(str(tiny_model("t5")), [data], tmp_path / "sweep.yaml", task=task)
    sweep = parse_sweep({"name": "s", **parse_yaml(scaffold.text)}, tmp_path)
    assert (sweep.task.type, sweep.task.prompt, sweep.task.completion) == ("seq2seq", "article", "summary")
    assert any(note.startswith("prompt: column 'article', whose texts are longer") for note in scaffold.notes)
