"""The architecture: imports point one way, packages stay small, and importing one is cheap."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml

from search_spaces.language import yaml_io
from tests.import_graph import ROOT, Graph, circles, module_graph, package_graph, sub_package

ALLOWED = {
    "search_spaces": {"search_spaces"},
    "trials": {"search_spaces", "trials"},
    "surrogates": {"search_spaces", "surrogates"},
    "autotune": {"search_spaces", "trials", "surrogates", "autotune"},
}


MOST_MODULES = 16
MANY_MODULES = {"search_spaces.families"}
"""One module per adapter family."""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return module_graph()


def test_the_four_packages_import_one_way(graph: Graph) -> None:
    assert {name.partition(".")[0] for name in graph} == set(ALLOWED)
    for module, imported in graph.items():
        assert {name.partition(".")[0] for name in imported} <= ALLOWED[module.partition(".")[0]], module


def test_no_module_imports_itself_through_others(graph: Graph) -> None:
    assert circles(graph) == []


def test_sub_packages_import_one_way(graph: Graph) -> None:
    assert circles(package_graph(graph)) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_packages_are_small(graph: Graph) -> None:
    sizes = Counter(sub_package(module, graph) for module in graph)
    assert {name for name, size in sizes.items() if size > MOST_MODULES} <= MANY_MODULES
    for package in ALLOWED:
        assert len(list((ROOT / package).glob("*.py"))) <= MOST_MODULES, package


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_no_file_is_too_long_to_read(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_search_spaces_and_surrogates_import_without_torch():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("search_spaces", "surrogates")
        for path in (ROOT / package).rglob("*.py")
        # Tuners are imported when an adapter is built, Gaussian processes when one is fitted.
        if path.name != "__init__.py" and not {"tuners", "gaussian_processes"} & set(path.parts)
    ]
    code = f"import sys, {', '.join(modules)}; print([m for m in ('torch', 'peft') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.strip() == "[]"


UNSAFE = (
    r"yaml\.load\((?!text, Loader=_Loader\))|pickle\.load|shell=True|torch\.load\(|os\.system"
    r"|(?<![\w.])(eval|exec)\("
)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_nothing_runs_what_a_file_or_a_user_says(package):
    for path in (ROOT / package).rglob("*.py"):
        assert not re.search(UNSAFE, path.read_text()), path
    assert issubclass(yaml_io._Loader, yaml.SafeLoader)
