"""`autotune law suggest`: laws that cover the run, refusals, JSON, and errors without a number."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from autotune.cli.app import QUIETING, app
from autotune.laws.suggestion_target import read_suggestion_target
from search_spaces.errors import InvalidInputError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["law", "suggest", *arguments], env={**QUIETING, "COLUMNS": "160"})


def test_every_law_that_covers_the_run_is_shown_with_its_source() -> None:
    result = run("--at", "params=1B,tokens=20B,seq=2048")
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if line.startswith("step-law"))
    assert row.split() == ["step-law", "0.000996", "441,892", "216"]
    assert "arXiv 2503.04715" in result.output
    assert "range from 0.000348 to 0.000996, a factor of 2.9" in result.output
    assert "Not used: deepseek: flops = 1.2e+20 is above 1e+20" in result.output


def test_json_has_domains_sequences_and_refusals() -> None:
    found = json.loads(run("--at", "params=1e9,tokens=2e10,seq=2048", "--json").output)
    first = found["suggestions"][0]
    assert first["batch_sequences"] == pytest.approx(first["batch_tokens"] / 2048)
    assert first["domain"]["tokens"] == [4e9, 1e11]
    assert {each["law"] for each in found["refused"]} == {"deepseek", "porian"}


def test_a_run_that_no_law_covers_gives_no_number() -> None:
    result = run("--at", "params=70B,tokens=20T")
    assert result.exit_code == 2
    assert "no published law covers" in result.stderr
    assert result.stdout == ""


def test_targets_take_suffixes_and_a_family() -> None:
    target = read_suggestion_target("hidden=4k, rank=16, family=llama, seq=2048")
    assert target.at == {"hidden": 4000.0, "rank": 16.0}
    assert (target.sequence_length, target.model_family) == (2048.0, "llama")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parms=1e9", "Did you mean 'params'"),
        ("params=-1", "not a positive number"),
        ("params", "not a positive number"),
        ("params=1,params=2", "given twice"),
        ("family=lama,hidden=4096", "Did you mean 'llama'"),
        ("seq=2048", "no quantity"),
        ("", "no quantity"),
    ],
)
def test_malformed_targets_are_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read_suggestion_target(text)
