"""Texts use the words of the glossary, in American spelling, and none of the words that were replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docs.generators.cli import cli_page
from docs.generators.output_files import output_files_page
from docs.generators.sweep_file import sweep_file_page

ROOT = Path(__file__).parents[3]
GLOSSARY = ROOT / "docs" / "glossary.md"

TEXTS = ("*.md", "docs/**/*.md", "benchmarks/notes/*.md")
"""What people read, as patterns below the repository's root."""
SOURCES = (
    "autotune/**/*.py",
    "autotune/builtin/*.yaml",
    "benchmarks/**/*.py",
    "docs/generators/*.py",
    "examples/**/*.*",
    "notebooks/*.ipynb",
    "search_spaces/**/*.py",
    "search_spaces/presets/*.yaml",
    "surrogates/**/*.py",
    "trials/**/*.py",
)
"""Sources whose names, comments and messages are held to the same words."""

REPLACED = {
    r"foret(ell|old|ells)": "predict",
    r"climb(s|er|ers|ed|ing)?": "promote",
    r"nobody|whoever": "no trial, any trial",
    r"anew": "again",
    r"dear(er|est)": "more expensive",
    r"hopeless": "prunable",
    r"goes_on": "resumes_from_checkpoint",
    r"beliefs?|believed?|believes": "posterior, predict",
    r"outlook": "forecast",
    r"regardless": "even if",
    r"had come|is through|of one's own": "a plain verb",
    r"winner's luck": "selection bias",
    r"knobs?": "parameter",
    r"the base(?! (model|class|layer|module))": "the base model",
    r"frozen base(?! model)": "frozen base model",
    r"further base": "additional base model",
    r"(a|one) row an? \w+": "one row per",
    r"spelt": "spelled",
    r"things? (is|are) wrong": "errors",
    r"(optim|normal|general|token|quant|util|initial|regular|recogn)is(e|ed|er|ers|es|ing|ation)": "-ize",
    r"centre[ds]?|neighbour\w*|behaviour\w*|colour\w*|modell(ed|ing)|labell(ed|ing)": "American spelling",
}
"""Pattern of whole words, in any case -> what stands for it."""

UNUSED = {"part", "target", "layer"}
"""Terms whose plain use cannot be told from the term by a search; they are in the glossary for their definition."""


def texts() -> list[Path]:
    found = {path for pattern in (*TEXTS, *SOURCES) for path in ROOT.glob(pattern)}
    return sorted(found)


def replaced_words(text: str) -> Iterator[str]:
    """Yield every replaced word in a text, with its line; a space also stands for a line's end within a comment."""
    for pattern, instead in REPLACED.items():
        words = pattern.replace(" ", r"[\s#]+")
        for found in re.finditer(rf"(?<![\w-])(?:{words})(?![\w])", text, flags=re.IGNORECASE):
            number = text.count("\n", 0, found.start()) + 1
            line = text.splitlines()[number - 1].strip()
            yield f"line {number}: {found[0]!r}, write {instead!r}: {line[:90]}"


def terms() -> list[str]:
    """Return the terms of the glossary."""
    defined = re.findall(r"^(\S[^\n]*)\n:   ", GLOSSARY.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [term for line in defined for term in line.split(", ")]


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_text_has_none_of_the_replaced_words(path: Path) -> None:
    assert not list(replaced_words(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("make", [cli_page, sweep_file_page, output_files_page])
def test_a_generated_page_has_none_of_the_replaced_words(make: Callable[[], str]) -> None:
    assert not list(replaced_words(make()))


def test_replaced_words_are_found() -> None:
    text = "It climbs.\nThe base model is fine, the base\n# is not; the base\nmodel is.\nOne row a trial, optimised."
    found = {line.split(", write")[0] for line in replaced_words(text)}
    assert found == {
        "line 1: 'climbs'",
        "line 2: 'the base'",
        "line 5: 'One row a trial'",
        "line 5: 'optimised'",
    }


def test_the_terms_of_the_glossary_are_used() -> None:
    read = [path.read_text(encoding="utf-8") for path in texts() if path != GLOSSARY]
    everything = re.sub(r"\s+", " ", " ".join([*read, cli_page()])).lower()
    assert len(terms()) > 60
    unused = [term for term in terms() if term not in UNUSED and term.lower() not in everything]
    assert not unused


def test_the_help_uses_the_terms_of_the_glossary() -> None:
    page = cli_page().lower()
    for term in ("sweep", "trial", "front", "search space", "base model", "budget", "point", "scaling law"):
        assert term in page, term
