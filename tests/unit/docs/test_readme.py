"""The README is short, its links lead somewhere, its sweep file loads, its figures are those of the linked pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from autotune.sweep.sweep_file import parse_sweep
from search_spaces.errors import InvalidInputError

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README)
MEASURED = re.findall(r"^\| \[[^]]+\]\(([^)]+)\) \| ([^|]+) \| ([^|]+) \|$", README, flags=re.MULTILINE)
SWEEP = next(
    block for block in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL) if "model:" in block
)


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 130


def test_its_blocks_for_the_check_are_there() -> None:
    marked = re.findall(r"<!-- ci: (\w+) -->\n```bash\n", README)
    assert marked == ["install", "main", "export", "develop", "test"]


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_to_a_file(link: str) -> None:
    assert (ROOT / link).is_file()


def test_its_sweep_file_loads() -> None:
    sweep = parse_sweep({"name": "reviews", **yaml.safe_load(SWEEP)}, check_files=False)
    assert sweep.task.text == ("sentence",)
    assert (sweep.budget.trials, sweep.budget.hours) == (60, 2)


def test_its_errors_are_those_of_such_a_file() -> None:
    data = yaml.safe_load(SWEEP)
    data["task"]["metirc"] = "accuracy"
    data["objectives"] = ["accuracy", {"name": "trainable_params", "max": "5 percent"}]
    with pytest.raises(InvalidInputError) as raised:
        parse_sweep({"name": "reviews", **data}, check_files=False)
    for problem in raised.value.problems:
        assert f"  • {problem.where}: {problem.what}\n    → {problem.fix}\n" in README
    assert f"{len(raised.value.problems)} errors in" in README


@pytest.mark.parametrize(("page", "result", "setup"), MEASURED)
def test_its_figures_are_on_the_page_that_it_links(page: str, result: str, setup: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    figures = re.findall(r"\d[\d,.]*\d|\d", result)
    assert figures
    for figure in figures:
        short = figure.replace(",000", " k")
        assert re.search(rf"(?<![\d.]){re.escape(figure)}0?(?![\d])", text) or short in text, (figure, page)
