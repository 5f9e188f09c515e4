"""Markdown that several generators write: tables, and blocks between marks on a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a `|` within a cell is escaped."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def replace_block(page: str, name: str, text: str) -> str:
    """Replace what stands between `<!-- table: NAME -->` and `<!-- end of table -->` on a page.

    Raises:
        ValueError: The page has no such marks.
    """
    start, end = f"<!-- table: {name} -->", "<!-- end of table -->"
    marked = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not marked.search(page):
        raise ValueError(f"no {start} … {end}; add both lines where the table belongs")
    return marked.sub(lambda _: f"{start}\n\n{text.strip()}\n\n{end}", page, count=1)
