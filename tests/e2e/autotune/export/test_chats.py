"""Exported runs of chats and instructions: they read the examples of the search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotune.engine.sweep_run import run_sweep
from autotune.export.run_folder import export_run
from tests.support.exported_runs import script_of
from tests.support.sweeps import small_sweep
from trials.data.task_data import load_task

STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{{ m.role }} : {{ m.content }} | "
    "{% endfor %}{% if add_generation_prompt %}assistant : {% endif %}"
)


def conversation(i: int) -> dict[str, Any]:
    turns = [("human", "the film"), ("gpt", "was good" if i % 2 else "was bad")]
    if i % 10 == 0:
        turns.insert(0, ("gpt", "the end"))  # refused by the template
    if i % 3 == 0:
        turns.insert(0, ("system", "one saw"))
    return {"id": i, "talk": [{"from": source, "value": value} for source, value in turns]}


def instruction(i: int) -> dict[str, Any]:
    given = {0: {"input": None}, 1: {"input": ""}}.get(i % 3, {"input": "the end was"})
    return {"instruction": "the film was", **given, "output": "good" if i % 2 else "bad"}


FORMS: dict[str, tuple[Callable[[int], dict[str, Any]], dict[str, Any]]] = {
    "chats": (
        conversation,
        {"messages": "talk", "chat_template": STRICT, "merge_system": True, "bad_rows": "drop"},
    ),
    "instructions": (instruction, {"prompt": ["instruction", "input"], "completion": "output"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_exported_run_reads_the_examples_of_the_search(
    form: str,
    tiny_model: Callable[[str], Path],
    write_jsonl: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row, fields = FORMS[form]
    paths = {
        name: str(write_jsonl(f"{name}.jsonl", [row(i) for i in range(60)]))
        for name in ("train", "validation", "test")
    }
    sweep = small_sweep(
        tiny_model("llama"),
        tmp_path,
        task={"type": "causal-lm", **paths, **fields},
        space={"families": ["lora"], "parameters": {"epochs": 1, "batch_size": 16}},
        objectives=["eval_loss", "trainable_params"],
        budget={"trials": 1},
        fidelity={"evaluations": 1},
        confirm={"seeds": 0},
    )
    results = run_sweep(sweep, tmp_path / "out")
    script = script_of(export_run(results, "0", [], tmp_path / "run"), monkeypatch)
    data = load_task(sweep.task, sweep.model)
    assert len(data.splits["train"]) == (54 if form == "chats" else 60)
    for name, examples in data.splits.items():
        assert script.load_split(name) == examples
