"""Small sweeps on a tiny model, and listeners that watch or interfere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from autotune.events import SilentListener
from autotune.sweep import Sweep, parse_sweep

SPACE = {
    "families": ["lora", "norm", "head"],
    "parameters": {"epochs": 1, "batch_size": 16, "lora.rank": {"low": 1, "high": 8}, "lora.dora": False},
}


def small_sweep(model: Path, data: Path, **changes: Any) -> Sweep:
    """Six trials of three optimiser steps each, two seeds for two points."""
    given: dict[str, Any] = {
        "name": "small",
        "model": str(model),
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

    def trial_started(self, number: int, config: Any, *, seed: int) -> None:
        self.started.append(number)

    def trial_finished(self, number: int, result: Any, values: dict[str, float], on_front: bool) -> None:
        self.finished.append(number)
        self.after(len(self.finished))

    def progress(self, progress: Any) -> None:
        if not self.phases or self.phases[-1] != progress.phase:
            self.phases.append(progress.phase)
