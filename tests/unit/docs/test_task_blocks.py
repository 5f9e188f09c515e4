"""The sections `task` in the guide to labels are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from search_spaces.language.yaml_io import parse_yaml
from trials.kinds.registry import find_kind
from trials.tasks.specs import TaskSpec

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "labels.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_is_a_valid_task(number: int) -> None:
    fields = parse_yaml(BLOCKS[number], GUIDE.name)["task"]
    assert TaskSpec(**fields).metric == find_kind(fields["type"]).default_metric


def test_every_score_of_the_table_exists() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert len(BLOCKS) == 3
    for name in ("token-classification", "multi-label-classification"):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        shown = re.findall(r"`(\w+)`", row.split("|")[4])
        assert set(shown) == set(find_kind(name).metrics)
        assert shown[0] == find_kind(name).default_metric
