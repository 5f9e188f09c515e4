"""The guide to preference pairs: its sweep file, losses, ranges and metrics are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from autotune.sweep.sweep_file import parse_sweep
from search_spaces.language.yaml_io import parse_yaml
from search_spaces.parameters.preference import LOSS_PARAMETERS
from trials.kinds.preference_losses import LOSSES, SCORED_AT
from trials.tasks.metrics import metrics_for

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "preference.md").read_text(encoding="utf-8")


def test_the_sweep_file_is_valid() -> None:
    (block,) = re.findall(r"```yaml.*?\n(.*?)```", GUIDE, re.S)
    sweep = parse_sweep({"name": "pairs", **parse_yaml(block)}, check_files=False)
    assert (sweep.task.type, sweep.task.loss) == ("preference", "dpo")
    assert "beta" in sweep.space["parameters"]


def test_every_loss_has_its_ranges() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \(\[.*\| ([^|]*) \|$", GUIDE, re.M))
    assert set(rows) == set(LOSSES)
    for loss, text in rows.items():
        expected = [f"`{p.name}`, {p.low:g} to {p.high:g}" for p in LOSS_PARAMETERS[loss]]
        assert text == "; ".join(expected)


def test_every_metric_is_described() -> None:
    found = re.findall(r"^\| `(\w+)`(?: \(default\))? \| ", GUIDE.partition("## Scores")[2], re.M)
    assert sorted(found) == sorted(metrics_for("preference"))
    assert f"({SCORED_AT['dpo'][0]:g}; {SCORED_AT['simpo'][0]:g} for `simpo`)" in GUIDE
