"""A sweep that leaves its precision open: it is chosen once, and kept by the folder for all trials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotune.calibrate.choice import Calibration
from autotune.ledger.ledger import SWEEP_FILE, read_sweep
from autotune.prepare import prepared_sweep
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import Watcher, fake_run, small_sweep
from trials.base import processor
from trials.tasks.specs import ModelSpec, TaskSpec


class Chooser:
    """Replaces the calibration, and counts how often something is open."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, sweep: Sweep, *_: object) -> Calibration:
        if sweep.model.precision != "auto":
            return Calibration(sweep.model, sweep.executor)
        self.count += 1
        return Calibration(
            sweep.model.model_copy(update={"precision": "bf16"}), sweep.executor, ("calibration: bf16",)
        )


class Started(FakeExecutor):
    """Remembers the precision that it was started with."""

    precision = ""

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        super().start(model, task)
        self.precision = model.precision


@pytest.fixture
def chooser(monkeypatch: pytest.MonkeyPatch) -> Chooser:
    found = Chooser()
    monkeypatch.setattr(prepared_sweep, "calibrate", found)
    return found


@pytest.fixture
def sweep_of(tiny_model: Callable[[str], Path], reviews: Path) -> Callable[..., Sweep]:
    def make(precision: str = "auto", **changes: Any) -> Sweep:
        return small_sweep(tiny_model("bert"), reviews, precision, confirm={"seeds": 0}, **changes)

    return make


def test_the_choice_is_used_written_and_said(
    sweep_of: Callable[..., Sweep], chooser: Chooser, tmp_path: Path
) -> None:
    executor, watcher = Started(), Watcher()
    fake_run(sweep_of(), tmp_path, watcher, executor)
    assert executor.precision == "bf16"
    assert read_sweep(tmp_path).model.precision == "bf16"
    assert "calibration: bf16" in watcher.notes


def test_the_folder_keeps_the_choice(
    sweep_of: Callable[..., Sweep], chooser: Chooser, tmp_path: Path
) -> None:
    fake_run(sweep_of(), tmp_path)
    fake_run(sweep_of(budget={"trials": 9}), tmp_path)
    resumed = fake_run(read_sweep(tmp_path), tmp_path)
    assert resumed.sweep.model.precision == "bf16"
    assert chooser.count == 1
    with pytest.raises(InvalidInputError, match=r"model\.precision differ"):
        fake_run(sweep_of("fp32"), tmp_path)


@pytest.mark.parametrize(
    ("instructions", "meant"), [(("avx512_bf16",), "fp32"), (("avx512_bf16", "amx_bf16"), "bf16")]
)
def test_a_folder_of_an_earlier_version_keeps_what_auto_meant(
    instructions: tuple[str, ...],
    meant: str,
    sweep_of: Callable[..., Sweep],
    chooser: Chooser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_run(sweep_of(), tmp_path)
    file = tmp_path / SWEEP_FILE
    file.write_text(file.read_text().replace("precision: bf16", "precision: auto"))
    monkeypatch.setattr(processor, "instructions", lambda: instructions)
    watcher = Watcher()
    fake_run(sweep_of(budget={"trials": 9}), tmp_path, watcher)
    assert read_sweep(tmp_path).model.precision == meant
    assert chooser.count == 1
    assert any(note.startswith(f"precision: {meant}, which `auto` was") for note in watcher.notes)
