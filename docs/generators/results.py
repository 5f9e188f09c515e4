"""Render the committed results of benchmarks on the pages of results.

    python -m docs.generators.results

A page says where a table belongs with the lines `<!-- table: FILE/TABLE -->` and `<!-- end of table -->`; FILE is a
file of `benchmarks/results` without its suffix. A table that waits for its first measurement is marked with `pending
table` instead, and the page says so until it is stored. A test compares the committed pages with the rendered ones.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from benchmarks.result_files import Setup, Table, load

DOCS = Path(__file__).parents[1]
_MARK = re.compile(
    r"<!-- (?P<pending>pending )?table: (?P<file>[\w-]+)/(?P<table>[\w-]+) -->.*?<!-- end of table -->",
    re.DOTALL,
)
_PENDING = "*Not measured yet.*"

_NO_BREAK, _SHORT, _NUMERIC = "\N{NO-BREAK SPACE}", 24, re.compile(r"[-+>≤<]?\s?\d")


def rendered(page: str) -> str:
    """Return the page with every table rendered again.

    Raises:
        KeyError: A table that no file of results has and that is not pending.
    """
    return _MARK.sub(_block, page)


def pages() -> list[Path]:
    """Return the pages with tables of results."""
    return [path for path in sorted(DOCS.rglob("*.md")) if _MARK.search(path.read_text(encoding="utf-8"))]


def used_tables() -> set[tuple[str, str]]:
    """Return the (file, table) pairs that pages show."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages())
    return {
        (found["file"], found["table"])
        for found in _MARK.finditer(text)
        if not found["pending"] or found["table"] in load(found["file"])
    }


def _block(found: re.Match[str]) -> str:
    tables = load(found["file"])
    start = f"<!-- {found['pending'] or ''}table: {found['file']}/{found['table']} -->"
    if found["table"] not in tables:
        if found["pending"]:
            return f"{start}\n{_PENDING}\n<!-- end of table -->"
        raise KeyError(f"benchmarks/results/{found['file']}.json has no table {found['table']!r}")
    table, setup = tables[found["table"]]
    return f"{start}\n{_unbroken(table).as_markdown()}\n\n{_legend(table, setup)}\n<!-- end of table -->"


def _unbroken(table: Table) -> Table:
    """Return the table with short cells on one line: a range such as `3.70 (3.43 to 3.97)` does not wrap."""
    rows = tuple(
        tuple(
            cell.replace(" ", _NO_BREAK) if len(cell) <= _SHORT and _NUMERIC.match(cell) else cell
            for cell in row
        )
        for row in table.rows
    )
    return replace(table, rows=rows)


def _legend(table: Table, setup: Setup) -> str:
    command = f"`{setup.command}`; " if setup.command else ""
    return f"*{table.caption}* {command}{setup.hardware}; commit `{setup.commit}`, {setup.date}."


if __name__ == "__main__":
    for path in pages():
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(path)
