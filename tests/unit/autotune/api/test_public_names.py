"""The names that `import autotune` offers: lazy, complete, and not shadowed by modules."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import autotune
from search_spaces.errors import DISTRIBUTION, install_hint
from tests.import_graph import PACKAGES, ROOT, sources

HEAVY = {
    "torch",
    "transformers",
    "peft",
    "datasets",
    "optuna",
    "pandas",
    "numpy",
    "scipy",
    "plotly",
    "pydantic",
}
MOST_SECONDS = 0.3


def cpu_seconds(code: str, *arguments: str) -> float:
    """Run code in a new interpreter, check that it imported nothing heavy, and return the processor time it took."""
    ending = (
        "\nimport sys, time\n"
        f"loaded = {HEAVY!r} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "print(time.process_time(), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code + ending, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stderr.split()[-1])


def test_importing_the_package_is_cheap() -> None:
    assert min(cpu_seconds("import autotune") for _ in range(3)) < MOST_SECONDS


def test_help_is_cheap() -> None:
    code = "from autotune.cli.app import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    assert min(cpu_seconds(code, "--help") for _ in range(3)) < MOST_SECONDS


def test_every_public_name_exists_where_its_module_says() -> None:
    assert set(autotune._MODULES) == set(autotune.__all__) - {"__version__"}
    for name, module in autotune._MODULES.items():
        assert getattr(autotune, name) is getattr(import_module(module), name)
    assert set(autotune.__all__) <= set(dir(autotune))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'tune'"):
        autotune.tune  # noqa: B018


def test_no_module_shadows_a_public_name() -> None:
    for name in autotune.__all__:
        assert not (ROOT / "autotune" / name).exists(), name
        assert not (ROOT / "autotune" / f"{name}.py").exists(), name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exception_derives_from_the_root(package: str) -> None:
    for path in sources(package):
        # Exported runs have copies of these packages; the search raises InvalidInputError instead.
        if {"reading", "kinds", "scoring"} & set(path.parts):
            continue
        for line in re.findall(r"^class [A-Z]\w+Error\(.*", path.read_text(), re.MULTILINE):
            is_root = "class AutotuneError(Exception)" in line
            assert is_root or "AutotuneError" in line or "(InvalidInputError)" in line, (path, line)


def test_public_exceptions_derive_from_the_root() -> None:
    errors = [name for name in autotune.__all__ if name.endswith("Error")]
    assert len(errors) >= 7
    assert all(issubclass(getattr(autotune, name), autotune.AutotuneError) for name in errors)


@pytest.mark.parametrize("package", PACKAGES)
def test_types_are_shipped(package: str) -> None:
    assert (Path(ROOT) / package / "py.typed").is_file()


def test_no_text_installs_the_distribution_of_others() -> None:
    """On PyPI `autotune`, `trials` and `surrogates` belong to other projects."""
    wrong = re.compile(
        r"pip install (?:[^\n]*?['\" ])?(autotune|trials|surrogates|search_spaces)(\[|['\"`\s]|$)"
    )
    assert wrong.search("pip install 'autotune[ray]'")
    assert wrong.search("run pip install autotune")
    assert not wrong.search(f"run {install_hint('ray')}")
    files = [*(path for package in PACKAGES for path in sources(package)), ROOT / "README.md"]
    files += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    said = {path: wrong.search(path.read_text()) for path in files}
    warned = ROOT / "docs" / "getting-started" / "install.md"  # says that the name belongs to others
    assert {path for path, found in said.items() if found} <= {warned}


def test_the_distribution_has_the_name_of_the_hints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    extras = re.findall(r"install_hint\([\"'](\w+)[\"']\)", "".join(p.read_text() for p in sources("trials")))
    assert extras
    assert set(extras) <= set(project["optional-dependencies"])
