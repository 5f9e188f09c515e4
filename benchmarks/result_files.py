"""The committed results: tables of benchmarks with their setup, one JSON file per page of the documentation.

A benchmark's `--write` stores its tables with `store`; `python -m docs.generators.results` renders them on the pages.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Setup:
    """How a table was measured.

    Args:
        command: The shell command, from the repository's root.
        hardware: Processor, cores or threads, accelerator.
        commit: The commit of the measured code, abbreviated.
        date: The day, as YYYY-MM-DD.
    """

    command: str
    hardware: str
    commit: str
    date: str


@dataclass(frozen=True)
class Table:
    """A table of text cells, rounded as they are shown.

    Args:
        caption: What the table shows: data, number of runs, meaning of intervals.
        columns: Headings with units.
        rows: One sequence of cells per row, as long as `columns`.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if odd := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"{len(self.columns)} columns, but a row with {len(odd[0])} cells: {odd[0]}")

    def as_markdown(self) -> str:
        """Return the table without its caption."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
        )


def load(name: str, folder: Path = FOLDER) -> dict[str, tuple[Table, Setup]]:
    """Return the tables of a page by their names; empty where nothing was stored."""
    path = folder / f"{name}.json"
    if not path.exists():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return {key: (_table(entry["table"]), Setup(**entry["setup"])) for key, entry in data.items()}


def store(name: str, tables: Mapping[str, Table], setup: Setup | None = None, folder: Path = FOLDER) -> Path:
    """Replace tables of a page; its other tables stay.

    Args:
        name: The page's name, such as `throughput`.
        tables: By their names on the page.
        setup: By default the running command, this machine and the checked-out commit.
        folder: Where the files are.

    Returns:
        The path of the file.
    """
    setup = setup or this_run()
    stored = load(name, folder) | {key: (table, setup) for key, table in tables.items()}
    data = {key: {"setup": asdict(setup), "table": asdict(table)} for key, (table, setup) in stored.items()}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def this_run() -> Setup:
    """Return the setup of the benchmark that is running."""
    from trials.base.processor import model_name  # imports torch, which rendering a page does not need

    module = getattr(sys.modules["__main__"].__spec__, "name", "benchmarks").removesuffix(".__main__")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=FOLDER, check=False
    )
    return Setup(
        command=shlex.join(["python", "-m", module, *sys.argv[1:]]),
        hardware=f"{model_name()}, {len(os.sched_getaffinity(0))} cores",
        commit=commit.stdout.strip() or "unknown",
        date=datetime.now(UTC).date().isoformat(),
    )


def _table(entry: Mapping[str, object]) -> Table:
    columns, rows = entry["columns"], entry["rows"]
    assert isinstance(columns, Sequence)
    assert isinstance(rows, Sequence)
    return Table(str(entry["caption"]), tuple(map(str, columns)), tuple(tuple(map(str, row)) for row in rows))
