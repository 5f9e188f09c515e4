"""An exported run finds the data that the search read, whatever the file's form and the types of its labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autotune.export.run_folder import export_run
from tests.support.exported_runs import script_of
from tests.support.sweeps import fake_run, small_sweep

pytestmark = pytest.mark.usefixtures("light_sweeps")


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FILES = {
    "truth.jsonl": jsonl([{"text": f"film {i}", "label": bool(i % 2)} for i in range(80)]),
    "truth.csv": "text,label\n" + "".join(f"end {i},{('FALSE', 'True')[i % 2]}\n" for i in range(30)),
    "price.csv": "text;price\r\n" + "".join(f"film {i};{i * 1.5:.2f}\r\n" for i in range(80)),
    "gaps.jsonl": jsonl([{"text": None if i == 5 else f"film {i}", "label": i % 2} for i in range(80)]),
    "pairs.json": json.dumps([{"ask": f"film {i}", "more": "", "say": f"good {i}"} for i in range(80)]),
}
TASKS = {
    "truth values": ("bert", {"train": "truth.jsonl", "validation": "truth.csv", "test": "truth.csv"}),
    "numbers": ("bert", {"type": "regression", "train": "price.csv", "test": "price.csv", "label": "price"}),
    "missing texts": ("bert", {"train": "gaps.jsonl", "validation": "gaps.jsonl"}),
    "prompts": (
        "llama",
        {"type": "causal-lm", "train": "pairs.json", "prompt": ["ask", "more"], "completion": "say"},
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_unchanged_data_are_unchanged(name, tiny_model, tmp_path, monkeypatch):
    for file, text in FILES.items():
        (tmp_path / file).write_bytes(text.encode())
    kind, fields = TASKS[name]
    files = {"train", "validation", "test"} & set(fields)
    given = {**fields, **{split: str(tmp_path / fields[split]) for split in files}}
    if kind == "bert":
        given = {"text": "text", "label": "label", **given}
    sweep = small_sweep(
        tiny_model(kind),
        Path(tmp_path),
        task=given,
        objectives=["eval_loss", "trainable_params"],
        budget={"trials": 1},
        confirm={"seeds": 0},
    )
    results = fake_run(sweep, tmp_path / "out")
    fake_run(sweep, tmp_path / "out")  # and the folder goes on
    script = script_of(export_run(results, "0", [], tmp_path / "run"), monkeypatch)
    assert script.data_changes() == []
