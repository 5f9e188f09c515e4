"""The blocks of the guide to own scores: its files and its sweeps run as they stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import yaml

from autotune.engine.sweep_run import run_sweep
from autotune.prepare.own_scores import with_code
from autotune.sweep.sweep_file import parse_sweep
from tests.support.sweeps import SPACE

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "own-score.md").read_text(encoding="utf-8")


def test_the_scores_of_the_guide_run(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    files = dict(re.findall(r'```python title="(\w+\.py)"\n(.*?)```', GUIDE, re.S))
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    first, directions, second, *_ = map(yaml.safe_load, re.findall(r"```yaml.*?\n(.*?)```", GUIDE, re.S))
    given = {
        **first,
        "name": "guide",
        "model": str(tiny_model("bert")),
        "task": {**first["task"], **second["task"], "train": str(reviews / "train.tsv")},
        "space": SPACE,
        "objectives": [*directions["objectives"], "robustness", *second["objectives"][:1]],
        "budget": {"trials": 1},
        "confirm": {"seeds": 0},
        "executor": "packed",
    }
    sweep = with_code(parse_sweep(given), [tmp_path / name for name in files])
    trials = run_sweep(sweep, tmp_path / "out").trials
    assert trials[["my_score:weighted_accuracy", "robustness", "accuracy"]].notna().all(axis=None)
    for objectives in (first["objectives"], second["objectives"]):
        assert parse_sweep({**given, "objectives": objectives}).objectives[0].name == objectives[0]


def test_the_further_data_of_the_guide_are_read(tmp_path: Path) -> None:
    *_, given = map(yaml.safe_load, re.findall(r"```yaml.*?\n(.*?)```", GUIDE, re.S))
    for name in ("chats", "wikitext"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n", encoding="utf-8")
    sweep = parse_sweep({"name": "guide", "model": "gpt2", "budget": {"trials": 1}, **given}, tmp_path)
    assert sweep.objectives[1].direction == "minimize"
    assert sweep.task.also[0].data == str(tmp_path / "wikitext.jsonl")
