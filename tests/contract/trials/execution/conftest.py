"""The base model and the task that all executors load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trials.tasks.specs import ModelSpec, TaskSpec


@pytest.fixture(scope="module")
def setup(tiny_model: Callable[[str], Path], reviews: Path) -> tuple[ModelSpec, TaskSpec]:
    task = TaskSpec(
        train=str(reviews / "train.tsv"),
        validation=str(reviews / "validation.tsv"),
        test=str(reviews / "test.tsv"),
        text="sentence",
        label="label",
    )
    return ModelSpec(name=str(tiny_model("bert")), precision="fp32"), task  # threads differ; bf16 shows it
