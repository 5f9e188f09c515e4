"""Hooks of MkDocs: the reference pages that are generated from the code whenever the site is built."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from docs.generators.cli import cli_page
from docs.generators.output_files import output_files_page
from docs.generators.packages import packages_table
from docs.generators.presets import presets_page
from docs.generators.python_api import python_api_page
from docs.generators.sweep_file import sweep_file_page

PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/sweep-file.md": sweep_file_page,
    "reference/presets.md": presets_page,
    "reference/outputs.md": output_files_page,
    "reference/python-api.md": python_api_page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the table of sub-packages where a page asks for it."""
    return markdown.replace("<!-- generated: packages -->", packages_table())


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load something from another server: the site must work without a network."""
    if found := re.search(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?https?://[^\s\">]+", output):
        raise PluginError(f"{page.file.src_uri} loads from another server: {found[0]}")
    return output
