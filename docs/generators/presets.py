"""The reference page of the presets, from the files that the package ships."""

from __future__ import annotations

from pathlib import Path

import search_spaces

_FOLDER = Path(search_spaces.__file__).parent / "presets"
_INTRODUCTION = """\
# Presets

A preset is a search space that ships with the package: `space: NAME` in a sweep file, or `include: NAME` in a space
of your own ([Write a search space](../guides/search-spaces.md)). `autotune spaces --model MODEL --space NAME`
prints its size and the costs of its smallest and largest adapters on a model.
"""


def presets_page() -> str:
    """Return the page as Markdown, with each preset's file."""
    files = sorted(_FOLDER.glob("*.yaml"))
    sections = [
        f"## `{path.stem}`\n\n```yaml\n{path.read_text(encoding='utf-8').strip()}\n```\n" for path in files
    ]
    return "\n".join([_INTRODUCTION, *sections])
