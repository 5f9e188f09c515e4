"""The blocks of the guide to one's own trainer run, in order, with tiny models."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "own-trainer.md"


def test_every_block_runs(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tokens = np.random.default_rng(0).integers(5, 20, size=(24, 6))
    rows = [{"input_ids": torch.tensor(row), "labels": torch.tensor(int(row[0] > 12))} for row in tokens]
    texts = Dataset.from_dict({"text": ["good film", "bad film", "good", "bad"] * 4})
    names: dict[str, Any] = {
        "name": str(tiny_model("bert")),
        "language_model": str(tiny_model("gpt2")),
        "train": rows[:16],
        "validation": rows[16:],
        "texts": texts,
        "held_out": texts.select(range(4)),
    }
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert (tmp_path / "tuned/reviews/report.html").is_file()
    assert (tmp_path / "final/adapter/adapter_config.json").is_file()
    assert not [trial.error for trial in names["result"].trials if trial.error]
    assert [trial.status for trial in names["result"].trials] == ["complete", "complete"]
    assert all(math.isfinite(trial.values[0]) for trial in names["result"].trials)
    assert list(names["callback"].curve("eval_loss")) == [0.5]
