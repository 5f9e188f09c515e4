"""Arguments and options that several commands share, and the text of their help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="The folder of a sweep, such as sweeps/quickstart.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Code = Annotated[
    list[Path] | None,
    typer.Option(
        "--code",
        metavar="FILE",
        help="A Python file with the scores of your own that the sweep names, such as my_score.py; can be repeated. "
        "A sweep file alone runs no code.",
        show_default=False,
    ),
]


def help_text(command: Callable[..., None]) -> str:
    r"""Return the docstring of a command for its help: every paragraph on one line, so that the terminal wraps it.

    Paragraphs that start with `\b`, such as tables and examples, keep their lines.
    """
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(
        p.removeprefix("\b") if p.startswith("\b") else p.replace("\n", " ") for p in paragraphs
    )
