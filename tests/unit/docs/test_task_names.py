"""The pages that introduce sweeps name every task that a sweep can train."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.kinds.registry import KINDS

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started/your-own-data.md"])
def test_every_task_is_named(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in KINDS if f"`{name}`" not in text] == []
