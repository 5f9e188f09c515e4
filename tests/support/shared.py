"""Folders that the first process of a run makes and all its processes use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

Make = Callable[[Path], None]


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str, make: Make) -> Path:
    """Return the folder `name` of this run of the tests; the first caller makes it with `make(folder)`.

    The folder keeps its path, so that files in it may name it. The other processes of pytest-xdist wait.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name, root / f".{name}.done"
    with FileLock(root / f".{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
