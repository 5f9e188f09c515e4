"""The Python blocks of the pages on the public API run, in order, on a finished sweep."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from autotune.engine.sweep_run import run_sweep
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import small_sweep

DOCS = Path(__file__).parents[3] / "docs"


def run_blocks(page: str, count: int) -> dict[str, object]:
    """Run every `python` block of a page in one namespace, and return it."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == count
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    return names


def test_the_guide_to_the_python_interface_runs(
    tmp_path: Path, tiny_model: Callable[[str], Path], reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = small_sweep(tiny_model("bert"), reviews, name="reviews")
    run_sweep(sweep, tmp_path / "sweeps" / "reviews", executor=FakeExecutor())
    names = run_blocks("guides/python.md", 5)
    assert (tmp_path / "runs" / "best" / "adapter_config.json").is_file()
    assert (tmp_path / "front.html").stat().st_size > 1000
    assert type(names["config"]).__module__.startswith("peft")


def test_the_sampler_runs_in_any_study() -> None:
    study = run_blocks("concepts/sampler.md", 2)["study"]
    assert len(study.trials) == 12  # type: ignore[attr-defined]
