"""The layer of each test, from its folder, and the models and data that tests of every layer share."""

from __future__ import annotations

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("AUTOTUNE_PREFIX_CACHE", "0")  # nothing of the tests stays in the user's folder
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; two thread pools on a core crawl

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.base_models import write_model
from tests.support.texts import reviews_frame

TESTS = Path(__file__).parent
LAYERS = {"unit": "unit", "contract": "contract", "e2e": "e2e", "benchmarks": "slow"}
"""The marker of the tests in each folder; a test beside this file is a unit test."""
ON_REQUEST = ("slow", "gpu")
"""Markers of tests that run only where the expression after `-m` names them."""


def pytest_configure(config: pytest.Config) -> None:
    """Leave out the slow tests and those of a GPU, unless `-m` names them: `-m unit` runs the quick unit tests."""
    given = config.option.markexpr
    excluded = [f"not {marker}" for marker in ON_REQUEST if not re.search(rf"\b{marker}\b", given)]
    config.option.markexpr = " and ".join([f"({given})"] * bool(given) + excluded)


def pytest_report_header() -> list[str]:
    """Name the CPU, on which precisions and kernels depend, at the top of each run."""
    from trials.base.processor import describe

    return describe()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the layer of its folder, before `-m` selects."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        item.add_marker(LAYERS.get(folder, "unit"))


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.tsv (240 rows), validation.tsv (120) and test.tsv (120)."""
    folder = tmp_path_factory.mktemp("reviews")
    for name, rows, seed in (("train", 240, 1), ("validation", 120, 2), ("test", 120, 3)):
        reviews_frame(rows, seed).to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_model("bert")` (or gpt2, llama, deberta, t5) is a folder with a small random model."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = write_model(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return make


@pytest.fixture(scope="session")
def deep_model(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT with twice the layers."""
    from transformers import AutoConfig, AutoModel

    folder = tmp_path_factory.mktemp("deep") / "bert"
    shutil.copytree(tiny_model("bert"), folder)
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 4
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[[str, list[dict[str, object]]], Path]:
    def write(name: str, rows: list[dict[str, object]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
