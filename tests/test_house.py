"""The shape of the house: imports point one way, and importing a room is cheap."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from search_spaces import yamls

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "search_spaces": {"search_spaces"},
    "trials": {"search_spaces", "trials"},
    "surrogates": {"search_spaces", "surrogates"},
    "autotune": {"search_spaces", "trials", "surrogates", "autotune"},
}


def imported(path: Path) -> set[str]:
    """The top-level names of every import in a file, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_point_one_way(room):
    files = [path for path in (ROOT / room).rglob("*.py") if "templates" not in path.parts]
    assert files
    for path in files:
        assert imported(path) & set(ALLOWED) <= ALLOWED[room], path


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_no_file_is_too_long_to_read(room):
    for path in (ROOT / room).rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_search_spaces_and_surrogates_import_without_torch():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("search_spaces", "surrogates")
        for path in (ROOT / room).rglob("*.py")
        if path.name != "__init__.py" and "tuners" not in path.parts  # imported when an adapter is built
    ]
    code = f"import sys, {', '.join(modules)}; print([m for m in ('torch', 'peft') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.strip() == "[]"


UNSAFE = (
    r"yaml\.load\((?!text, Loader=_Loader\))|pickle\.load|shell=True|torch\.load\(|os\.system"
    r"|(?<![\w.])(eval|exec)\("
)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_nothing_runs_what_a_file_or_a_user_says(room):
    for path in (ROOT / room).rglob("*.py"):
        assert not re.search(UNSAFE, path.read_text()), path
    assert issubclass(yamls._Loader, yaml.SafeLoader)
