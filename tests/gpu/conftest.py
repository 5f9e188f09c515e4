"""Runners on the device of these tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gpu import DEVICE, write_wide_model
from tests.support.shared import shared_folder
from tests.support.trials import classification
from trials.execution.runner import Runner
from trials.tasks.specs import ModelSpec


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "wide", write_wide_model)


@pytest.fixture(scope="module")
def runners(tiny_model: Callable[[str], Path], reviews: Path) -> Callable[..., Runner]:
    """`runners(weights="nf4")` is a runner on the tiny BERT, on the device and in fp32 unless told otherwise."""

    def make(**changes: object) -> Runner:
        given = {"name": str(tiny_model("bert")), "device": DEVICE, "precision": "fp32", **changes}
        return Runner(ModelSpec(**given), classification(reviews))

    return make
