"""Every block of docs/guides/scaling-laws.md runs, in its order, and every command answers what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autotune.cli.app import QUIETING, app

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "scaling-laws.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def run(command: str) -> str:
    words = shlex.split(command.removeprefix("$ autotune "))
    return CliRunner().invoke(app, words).output.strip()


def lines_of(text: str) -> list[str]:
    """Lines with one blank between words: tables are as wide as their numbers."""
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def test_the_guide_runs_and_says_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**QUIETING, "COLUMNS": "110"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    commands = 0
    for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), names)
            continue
        commands += 1
        command, _, shown = text.partition("\n")
        said, expected = lines_of(run(command)), lines_of(shown)
        assert [NUMBER.sub("#", line) for line in said] == [NUMBER.sub("#", line) for line in expected], (
            command
        )
        for line, wanted in zip(said, expected, strict=True):
            found = [float(number) for number in NUMBER.findall(line)]
            # The last digit that is shown may differ with the linear algebra underneath.
            assert found == pytest.approx([float(n) for n in NUMBER.findall(wanted)], rel=0.02, abs=0.011), (
                wanted
            )
    assert commands == 9
    assert (tmp_path / "law.html").stat().st_size > 1000
