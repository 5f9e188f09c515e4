"""The classification task of the tests, and the training parameters of a short trial."""

from __future__ import annotations

from pathlib import Path

from trials.tasks.specs import TaskSpec

COMMON = {"batch_size": 16, "epochs": 3, "weight_decay": 0.01, "warmup": 0.1, "schedule": "linear"}


def classification(folder: Path, **changes: object) -> TaskSpec:
    named = {name: str(folder / f"{name}.tsv") for name in ("train", "validation", "test")}
    return TaskSpec(text="sentence", label="label", **{**named, **changes})
