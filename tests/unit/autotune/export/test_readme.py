"""The README of an exported run."""

from __future__ import annotations

from pathlib import Path

from autotune.export.readme import further_note
from autotune.sweep.sweep_file import parse_sweep


def test_a_run_says_that_it_does_not_score_further_data(tmp_path: Path) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text('{"text": "one"}\n')
    task = {"type": "causal-lm", "train": str(data), "text": "text"}
    sets = [{"name": name, "data": str(data), "metric": "perplexity"} for name in ("general", "safety")]
    given = {"name": "s", "model": "gpt2", "space": "lora", "objectives": ["eval_loss"]}
    plain, further = (
        parse_sweep({**given, "budget": {"trials": 1}, "task": {**task, "also": also}}) for also in ([], sets)
    )
    assert further_note(plain) == ""
    assert "(general, safety); `train.py` does not" in further_note(further)
