"""Exported runs in the process of the tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def script_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The exported train.py as a module."""
    monkeypatch.syspath_prepend(str(run))
    beside = ("reading", "scores", "parameter_groups")
    assert not any(name.partition(".")[0] in beside for name in sys.modules)
    spec = importlib.util.spec_from_file_location("exported_train", run / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in [name for name in sys.modules if name.partition(".")[0] in beside]:
        del sys.modules[name]  # of another run the next time
    return module
