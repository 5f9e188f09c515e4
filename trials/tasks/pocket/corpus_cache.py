"""The corpus on disk: parsing the sources takes seconds, in every process that reads them.

A file is kept in the user's cache folder for each state of the sources: the paths, sizes and times of change of all
files that may be read, and the code that reads them. So a cached corpus is the one that this process would read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_KEPT = 4
"""The number of files that are kept: one for each of the user's latest environments."""


def sources_digest(code: Path, rules: str, roots: Iterable[tuple[Path, Iterable[Path]]]) -> str:
    """Return the digest of everything that determines the corpus.

    Args:
        code: The file of the module that reads the sources.
        rules: Its settings.
        roots: The folder of each source, with its files.
    """
    digest = hashlib.sha256(code.read_bytes() + f"{rules} {sys.version}".encode())
    for root, files in roots:
        digest.update(f"\n{root}".encode())
        for path in files:
            with contextlib.suppress(OSError):
                found = path.stat()
                digest.update(f"\n{path} {found.st_size} {found.st_mtime_ns}".encode())
    return digest.hexdigest()


def read(digest: str) -> Any:
    """Return what `write` stored, or None if there is nothing readable."""
    try:
        return json.loads(_file(digest).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write(digest: str, corpus: Any) -> None:
    """Store plain data atomically; a disk that is full or read-only keeps nothing."""
    file = _file(digest)
    draft = file.with_name(f".{uuid.uuid4().hex}.tmp")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(json.dumps(corpus), encoding="utf-8")
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
        kept = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[_KEPT:]:
            path.unlink(missing_ok=True)


def _file(digest: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "autotune" / "docstrings" / f"{digest}.json"
