"""The layer of each test, from its folder, and the models and data that tests of every layer share."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("AUTOTUNE_PREFIX_CACHE", "0")  # nothing of the tests stays in the user's folder
os.environ.setdefault("XDG_CACHE_HOME", os.path.join(tempfile.gettempdir(), f"autotune-tests-{os.getuid()}"))
os.environ.setdefault("AUTOTUNE_CALIBRATION", "0")  # timing must not decide how a test computes
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; two thread pools on a core crawl

import gc
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.expression import Expression
from optuna.storages._rdb.storage import _VersionManager
from sqlalchemy import Engine, event

from tests.support.base_models import write_model
from tests.support.shared import shared_folder
from tests.support.sweeps import small_sweep
from tests.support.texts import reviews_frame

TESTS = Path(__file__).parent
LAYERS = {"unit": "unit", "contract": "contract", "e2e": "e2e", "benchmarks": "slow", "gpu": "gpu"}
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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the folder of a layer that `-m` cannot select: importing its tests takes seconds."""
    layer = LAYERS.get(collection_path.name) if collection_path.parent == TESTS else None
    if layer is None:
        return None
    expression = Expression.compile(config.option.markexpr)
    others = sorted(set(LAYERS.values()) - {layer})
    cases = ({**dict.fromkeys(others, False), "slow": is_slow} for is_slow in (False, True))  # in any folder
    selects = any(
        expression.evaluate(lambda name, case=case, **_: name == layer or case.get(name, False))
        for case in cases
    )
    return None if selects else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the layer of its folder, before `-m` selects."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        item.add_marker(LAYERS.get(folder, "unit"))


def pytest_collection_finish() -> None:
    """Take what is imported and collected out of garbage collection, which would look through it again and again."""
    gc.collect()
    gc.freeze()


@event.listens_for(Engine, "connect")
def _skip_waiting_for_the_disk(connection: Any, record: object) -> None:
    """Let SQLite leave its writes to the operating system: a killed process loses nothing by that."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="session", autouse=True)
def _read_migrations_once() -> Iterator[None]:
    """Optuna reads all its migrations whenever it opens a database; here the first time serves for all."""
    read = _VersionManager.get_head_version
    heads: list[str] = []

    def head_version(manager: _VersionManager) -> str:
        if not heads:
            heads.append(read(manager))
        return heads[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_VersionManager, "get_head_version", head_version)
        yield


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.tsv (240 rows), validation.tsv (120) and test.tsv (120)."""

    def make(folder: Path) -> None:
        for name, rows, seed in (("train", 240, 1), ("validation", 120, 2), ("test", 120, 3)):
            reviews_frame(rows, seed).to_csv(folder / f"{name}.tsv", sep="\t", index=False)

    return shared_folder(tmp_path_factory, "reviews", make)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_model("bert")` (or gpt2, llama, deberta, t5, bart) is a folder with a small random model."""
    return lambda kind: shared_folder(tmp_path_factory, kind, lambda folder: write_model(folder, kind))


@pytest.fixture(scope="session")
def deep_model(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT with twice the layers."""
    from transformers import AutoConfig, AutoModel

    def make(folder: Path) -> None:
        shutil.copytree(tiny_model("bert"), folder, dirs_exist_ok=True)
        config = AutoConfig.from_pretrained(folder)
        config.num_hidden_layers = 4
        AutoModel.from_config(config).save_pretrained(folder)

    return shared_folder(tmp_path_factory, "deep-bert", make)


@pytest.fixture(scope="session")
def finished_sweep(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a sweep that is finished and really trained, once per run of the tests: only to be read."""
    from autotune.engine.sweep_run import run_sweep

    space = {
        "families": ["lora", "norm", "head"],
        "parameters": {
            "epochs": 5,
            "batch_size": 16,
            "lora.rank": {"low": 2, "high": 8},
            "lora.learning_rate": {"low": 5e-3, "high": 2e-2},
            "lora.targets": "all",
            "lora.dora": False,
        },
    }
    sweep = small_sweep(
        tiny_model("bert"), reviews, space=space, budget={"trials": 5}, fidelity={"evaluations": 1}
    )
    return shared_folder(tmp_path_factory, "finished-sweep", lambda folder: run_sweep(sweep, folder))


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[[str, list[dict[str, object]]], Path]:
    def write(name: str, rows: list[dict[str, object]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
