"""Pages that are generated from code or from measurements equal their source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import autotune
from autotune.results.tables import front_table, trials_table
from benchmarks.result_files import FOLDER, Setup, Table, load
from docs.generators import (
    architectures,
    cli,
    markdown,
    output_files,
    packages,
    python_api,
    results,
    sweep_file,
)
from docs.generators.families import ARCHITECTURES, PAGE, built_in, families_page, parameters_formula
from search_spaces.families import REGISTRY
from tests.import_graph import PACKAGES, ROOT
from tests.support.synthetic import synthetic_results


def test_the_page_of_families_is_what_the_script_makes() -> None:
    page = families_page()
    assert PAGE.read_text(encoding="utf-8") == page, "run python -m docs.generators.families"
    for family in built_in():
        assert f"| `{family.name}` | {family.title} |" in page
    for name in ARCHITECTURES.values():
        assert f"| {name} |" in page


def test_the_page_of_architectures_is_what_the_script_makes_of_some_of_them() -> None:
    """Every sixteenth type, and the complete page on request: it takes half a minute."""
    page = architectures.PAGE.read_text(encoding="utf-8")
    notes = {reason: int(number) for number, reason in re.findall(r"^(\d+)\. (.+)$", page, re.MULTILINE)}
    listed = re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)
    assert sorted(listed) == architectures.kinds(), "run python -m docs.generators.architectures"
    for kind in architectures.kinds()[::16]:
        reading, known = architectures.read(kind), dict(notes)
        cells = (f"`{kind}`", reading.reason) if reading.shape is None else architectures.row(reading, known)
        assert markdown.table(cells, ()).splitlines()[0] in page, (
            "run python -m docs.generators.architectures"
        )
        assert known == notes


@pytest.mark.slow
def test_the_whole_page_of_architectures_is_what_the_script_makes() -> None:
    page = architectures.architectures_page([architectures.read(kind) for kind in architectures.kinds()])
    assert architectures.PAGE.read_text(encoding="utf-8") == page, (
        "run python -m docs.generators.architectures"
    )


def test_formulas_are_first_lines() -> None:
    assert parameters_formula(REGISTRY["lora"]) == (
        "r(i+o) parameters per matrix, r·o with A frozen, and o more with DoRA"
    )
    assert parameters_formula(REGISTRY["prompt"]).startswith("tokens · d parameters")
    assert parameters_formula(REGISTRY["head"]) == "–"


@pytest.mark.parametrize("page", results.pages(), ids=lambda page: page.name)
def test_tables_of_results_are_those_of_the_committed_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == results.rendered(text), "run python -m docs.generators.results"


def test_every_committed_table_is_on_a_page() -> None:
    stored = {(path.stem, name) for path in FOLDER.glob("*.json") for name in load(path.stem)}
    assert stored == results.used_tables()


def test_a_table_that_was_not_stored_is_an_error() -> None:
    with pytest.raises(KeyError, match="no table 'missing'"):
        results.rendered("<!-- table: sampler/missing -->\n<!-- end of table -->")


def test_a_pending_table_is_shown_once_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = "<!-- pending table: gpu-of-a-test/speed -->\n{}\n<!-- end of table -->"
    assert results.rendered(marked.format("")) == marked.format("*Not measured yet.*")
    stored = Table("Speed.", ("K",), (("8",),)), Setup("python -m x", "a card", "abc", "2026-01-01")
    monkeypatch.setattr(results, "load", lambda _: {"speed": stored})
    assert results.rendered(marked.format("*Not measured yet.*")) == marked.format(
        "| K |\n| --- |\n| 8 |\n\n*Speed.* `python -m x`; a card; commit `abc`, 2026-01-01."
    )


def test_the_command_line_page_has_every_command_and_option() -> None:
    import typer

    from autotune.cli.app import app

    page = cli.cli_page()
    for name, command in cli.commands(typer.main.get_command(app), "autotune"):
        assert f"`{name}`\n" in page
        for parameter in command.params:
            for option in parameter.opts:
                assert option in ("--help", "-h") or not option.startswith("-") or f"`{option}`" in page, (
                    name,
                    option,
                )


def test_the_sweep_page_describes_every_key() -> None:
    from autotune import Sweep

    page = sweep_file.sweep_file_page()
    keys = {key for key, _ in sweep_file.models(Sweep) if key}
    assert keys == {
        "model",
        "task",
        "task.generation",
        "task.scores",
        "task.also",
        "objectives",
        "budget",
        "fidelity",
        "ladder",
        "sampler",
        "priors",
        "executor",
        "confirm",
    }
    for key, model in sweep_file.models(Sweep):
        described = sweep_file.documented_fields(model)
        section = page.split(f"{sweep_file.heading(key, model)}\n")[1].split("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \|.* \| (.*) \|$", section, flags=re.MULTILINE)
        in_python = {
            each.alias: name for name, each in getattr(model, "model_fields", {}).items() if each.alias
        }
        assert {in_python.get(name, name) for name, _ in rows} == set(described), key
        assert all(meaning.strip() for _, meaning in rows), key


@pytest.mark.parametrize("objectives", [2, 4])
def test_every_column_of_the_tables_is_documented(tmp_path: Path, objectives: int) -> None:
    found = synthetic_results(tmp_path, objectives=objectives)
    names = {objective.name for objective in found.objectives}
    for table, documented in (
        (front_table(found), output_files.FRONT),
        (trials_table(found), output_files.TRIALS),
    ):
        for column in map(str, table.columns):
            described = [
                each.name for each in documented if each.name != "OBJECTIVE" and each.matches(column)
            ]
            assert described or column in names, column


def test_every_documented_column_exists(tmp_path: Path) -> None:
    found = synthetic_results(tmp_path)
    not_in_every_sweep = {"rung", "pooled.OBJECTIVE", "posterior.METRIC", "posterior_sd.METRIC"}
    for table, documented in (
        (front_table(found), output_files.FRONT),
        (trials_table(found), output_files.TRIALS),
    ):
        for column in documented:
            present = any(column.matches(str(name)) for name in table.columns)
            assert present or column.name in not_in_every_sweep, column.name


def test_the_page_of_the_python_api_has_every_public_name() -> None:
    page = python_api.python_api_page()
    for name in set(autotune.__all__) - {"__version__"}:
        assert f"::: autotune.{name}\n" in page, name


def test_the_diagram_of_the_architecture_has_every_sub_package() -> None:
    drawn = (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8")
    folders = {path.parent.name for package in PACKAGES for path in (ROOT / package).glob("*/__init__.py")}
    assert len(folders) > 20
    assert {folder for folder in folders if f">{folder}<" not in drawn} == set()


def test_the_table_of_packages_names_a_purpose_for_each() -> None:
    rows = [line for line in packages.packages_table().splitlines() if line.startswith("| `")]
    assert len(rows) > 20
    for row in rows:
        assert row.split(" | ")[1].strip(), row
