"""Tables as Markdown, and the consoles of databases, write them: vertical bars around padded fields, and rules."""

from __future__ import annotations

import re

STYLE = "it is a table drawn with vertical bars; its rules and the spaces around fields are not read"
ESCAPE = "Write a vertical bar within a field as \\|, and remove lines that are no rows of the table."

_RULE = re.compile(
    r"[|+](?:[ ]*:?[-=]+:?[ ]*[|+])+|[ ]*:?[-=]{3,}:?[ ]*(?:[|+][ ]*:?[-=]{3,}:?[ ]*)+"
).fullmatch
"""The line below the header: `|---|:--|`, `--- | ---`, or `+----+----+` of a database."""
_BAR = re.compile(r"(?<!\\)\|")


def read_drawn(text: str) -> tuple[list[list[str]], list[int]] | None:
    r"""Return the fields of each row of a drawn table, the header first, and its line; None for other files.

    Args:
        text: The content, with plain line ends.

    Example:
        >>> read_drawn("| text | label |\n|------|-------|\n| a \\| b | 1 |\n")
        ([['text', 'label'], ['a | b', '1']], [1, 3])
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    head = [line for _, line in lines[:3]]
    if head and head[0].startswith("+") and _RULE(head[0]):
        kept = [(number, line) for number, line in lines if not (line.startswith("+") and _RULE(line))]
    elif len(head) > 1 and "|" in head[0] and _RULE(head[1]) and not _RULE(head[0]):
        kept = [lines[0], *lines[2:]]
    else:
        return None
    return [_fields(line) for _, line in kept], [number for number, _ in kept]


def _fields(line: str) -> list[str]:
    line = line.removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [field.strip().replace("\\|", "|") for field in _BAR.split(line)]
