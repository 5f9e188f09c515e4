"""Small sweeps on a tiny model, and listeners that watch or interfere."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autotune.engine.events import Listener, SilentListener
from autotune.engine.sweep_run import run_sweep
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from tests.support.fake_executor import FakeExecutor
from tests.support.processes import forked_processes
from trials.execution.interface import Executor

SPACE = {
    "families": ["lora", "norm", "head"],
    "parameters": {"epochs": 1, "batch_size": 16, "lora.rank": {"low": 1, "high": 8}, "lora.dora": False},
}


def small_sweep(model: Path, data: Path, /, precision: str = "auto", **changes: Any) -> Sweep:
    """Six trials of three optimizer steps each, two seeds for two points."""
    given: dict[str, Any] = {
        "name": "small",
        "model": {"name": str(model), "precision": precision},
        "task": {
            **{split: str(data / f"{split}.tsv") for split in ("train", "validation", "test")},
            "text": "sentence",
            "label": "label",
        },
        "space": SPACE,
        "objectives": ["accuracy", "trainable_params"],
        "budget": {"trials": 6},
        "fidelity": {"train_samples": 48, "eval_samples": 40, "evaluations": 2},
        "confirm": {"seeds": 2, "points": 2},
        **changes,
    }
    return parse_sweep(given)


def fake_run(
    sweep: Sweep, folder: str | Path, listener: Listener | None = None, executor: Executor | None = None
) -> SweepTables:
    """Run a sweep in its folder with a fake executor; nothing is trained."""
    return run_sweep(sweep, folder, listener, executor or FakeExecutor(workers=1))


@contextmanager
def light_sweeps() -> Iterator[None]:
    """Sweeps without a report, which probe few configurations for the corners of the objectives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autotune.report.page.write_report", lambda results: None)
        patch.setattr("autotune.prepare.prepared_sweep._PROBES", 200)
        yield


def stop_at(count: int) -> Callable[[int], None]:
    """Return what interrupts a sweep, as Ctrl-C does, when `count` of its runs are finished."""

    def after(finished: int) -> None:
        if finished == count:
            raise KeyboardInterrupt

    return after


def run_and_kill(sweep: Sweep, folder: Path, reached: Callable[[pd.DataFrame], pd.Series[bool]]) -> set[int]:
    """Run a light sweep in a process of its own, and kill it when at least two of its trials are `reached`: these."""
    with forked_processes():
        process = multiprocessing.get_context().Process(target=_run_lightly, args=(sweep, folder))
        process.start()

    def there() -> set[int]:
        if not ((folder / "study.db").exists() and (folder / "sweep.yaml").exists()):
            return set()
        trials = read_tables(folder).trials
        return set(trials.loc[reached(trials), "trial"])

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_alive() and len(there()) < 2:
        time.sleep(0.05)
    process.kill()
    process.join()
    found = there()
    assert len(found) >= 2
    return found


def _run_lightly(sweep: Sweep, folder: Path) -> None:
    with light_sweeps():
        run_sweep(sweep, folder)


class Watcher(SilentListener):
    """Calls `after` with the count of finished trials, and remembers what it was told."""

    def __init__(self, after: Callable[[int], None] = lambda count: None) -> None:
        self.after = after
        self.notes: list[str] = []
        self.phases: list[str] = []
        self.started: list[int] = []
        self.finished: list[int] = []

    def sweep_started(self, sweep: Sweep, notes: list[str]) -> None:
        self.notes = notes

    def trial_started(self, number: int, config: Any, *, seed: int, origin: str = "") -> None:
        self.started.append(number)

    def trial_finished(self, number: int, result: Any, values: dict[str, float], on_front: bool) -> None:
        self.finished.append(number)
        self.after(len(self.finished))

    def progress(self, progress: Any) -> None:
        if not self.phases or self.phases[-1] != progress.phase:
            self.phases.append(progress.phase)
