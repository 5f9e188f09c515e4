"""The blocks of the guides to the ladder and to black boxes run, in order."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from autotune.ladder.spec import LadderSpec, read_ladder

GUIDES = Path(__file__).parents[3] / "docs" / "guides"


def blocks(page: str, language: str) -> list[str]:
    text = (GUIDES / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_blocks_run_and_say_what_the_text_says(tmp_path: Path, capsys) -> None:
    names: dict[str, Any] = {"math": math, "folder": tmp_path}
    found = blocks("black-box.md", "python")
    assert len(found) == 6
    for block in found:
        exec(compile(block, "docs/guides/black-box.md", "exec"), names)
    assert names["Ladder"](2, 50, eta=3).rungs == (2, 6, 17, 50)
    assert len(names["result"].trials) == 12
    assert names["second"].used <= 40
    assert "rank correlation with the final result" in capsys.readouterr().out


def test_the_defaults_of_a_sweeps_ladder_are_those_that_the_text_shows() -> None:
    short, long, shares, bases = [
        LadderSpec.model_validate(read_ladder(yaml.safe_load(block)["ladder"]))
        for block in blocks("ladder.md", "yaml")
    ]
    assert short == long == LadderSpec()
    assert shares == LadderSpec(of="base", bases=("25%", "50%"))
    assert bases == LadderSpec(of="base", bases=("prajjwal1/bert-tiny", "prajjwal1/bert-small"))
