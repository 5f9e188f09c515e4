"""Exported runs in the process of the tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_BESIDE = (
    "task",
    "parameter_groups",
    "initialization",
    "token_choice",
    "early_stopping",
    "search_trainer",
    "added_loss",
)
"""The modules that stand beside train.py."""


def script_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The exported train.py as a module."""
    monkeypatch.syspath_prepend(str(run))
    _forget_modules()  # a function of an earlier run may have imported one
    spec = importlib.util.spec_from_file_location("exported_train", run / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _forget_modules()  # they are of another run the next time
    return module


def _forget_modules() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in _BESIDE]:
        del sys.modules[name]


def arguments_of(script: ModuleType, settings: Mapping[str, Any]) -> Any:
    """The arguments of the Trainer as the script makes them of its settings."""
    return script.TrainingArguments(output_dir=str(script.HERE / "checkpoints"), **settings)
