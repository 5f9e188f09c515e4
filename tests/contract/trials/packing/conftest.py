"""Runners that the tests of packed training share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trials.execution.runner import Runner
from trials.tasks.specs import ModelSpec, TaskSpec


@pytest.fixture(scope="module", params=["bert", "gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def runner(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path], reviews: Path) -> Runner:
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    model = ModelSpec(name=str(tiny_model(request.param)), precision="fp32")
    return Runner(model, TaskSpec(text="sentence", label="label", **named))
