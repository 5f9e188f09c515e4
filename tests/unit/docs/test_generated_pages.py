"""Pages that are made from the code say what the code says."""

from __future__ import annotations

from docs.generators.families import ARCHITECTURES, PAGE, built_in, families_page, parameters_formula
from search_spaces.families import REGISTRY


def test_the_page_of_families_is_what_the_script_makes() -> None:
    page = families_page()
    assert PAGE.read_text(encoding="utf-8") == page, "run python -m docs.generators.families"
    for family in built_in():
        assert f"| `{family.name}` | {family.title} |" in page
    for name in ARCHITECTURES.values():
        assert f"| {name} |" in page


def test_formulas_are_first_lines() -> None:
    assert parameters_formula(REGISTRY["lora"]) == (
        "r(i+o) parameters a matrix, r·o with A frozen, and o more with DoRA"
    )
    assert parameters_formula(REGISTRY["prompt"]).startswith("tokens · d parameters")
    assert parameters_formula(REGISTRY["head"]) == "–"
