"""What one part has measured: rows by table, notes on what was left out, errors; saved whenever it grows."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MAX_TRACEBACK = 6000
"""Characters of a traceback that are kept, from its end."""


class Report:
    """The results of a part, which another process reads even if this one is killed.

    Args:
        path: The file, JSON.
        seconds: The time that the part may take from now.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._end = path, time.monotonic() + seconds
        self.data: dict[str, Any] = {"rows": {}, "notes": [], "errors": []}
        self._save()

    @property
    def remaining(self) -> float:
        """The seconds that the part may still take."""
        return self._end - time.monotonic()

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table so far."""
        found: list[dict[str, Any]] = self.data["rows"].get(table, [])
        return found

    def row(self, table: str, row: dict[str, Any]) -> None:
        """Add a row to a table."""
        self.data["rows"].setdefault(table, []).append(row)
        print(f"{table}: {json.dumps(row)}", flush=True)
        self._save()

    def add(self, **facts: Any) -> None:
        """Add facts that are in no table."""
        self.data.update(facts)
        self._save()

    def has_time(self, seconds: float, what: str) -> bool:
        """Return whether so many seconds are left; if not, note what is left out."""
        if seconds < self.remaining:
            return True
        self.data["notes"].append(f"{what}: left out, {seconds:.0f} s do not fit into {self.remaining:.0f} s")
        self._save()
        return False

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Turn an exception of the block into an error of the report."""
        try:
            yield
        except Exception as error:  # of any kind: the other measurements are independent of it
            text = "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:]
            print(text, file=sys.stderr, flush=True)
            lines = str(error).strip().splitlines() or [""]
            entry = {"what": what, "error": f"{type(error).__name__}: {lines[0]}", "traceback": text}
            self.data["errors"].append(entry)
            # The frames of the traceback hold tensors.
            traceback.clear_frames(error.__traceback__)
            self._save()

    def _save(self) -> None:
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps(self.data), encoding="utf-8")
        os.replace(draft, self._path)


def read(path: Path) -> dict[str, Any]:
    """Return the data of a report, empty if the part has not come to write any."""
    empty: dict[str, Any] = {"rows": {}, "notes": [], "errors": []}
    if not path.is_file():
        return empty
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
