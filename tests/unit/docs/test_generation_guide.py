"""The guide to generated text: its sweep files, defaults and metrics are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.language.yaml_io import parse_yaml
from trials.kinds.generation import TEXT_METRICS
from trials.tasks.generation_spec import GenerationSpec
from trials.tasks.metrics import metrics_for

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "generation.md").read_text(encoding="utf-8")


def sweeps() -> list[Sweep]:
    blocks = re.findall(r"```yaml.*?\n(.*?)```", GUIDE, re.S)
    return [parse_sweep({"name": "texts", **parse_yaml(block)}, check_files=False) for block in blocks]


def test_the_sweep_files_are_valid() -> None:
    chat, summaries = sweeps()
    assert (chat.task.type, summaries.task.type) == ("causal-lm", "seq2seq")
    for sweep in (chat, summaries):
        assert sweep.task.generation == GenerationSpec(metrics=("exact_match", "rougeL")), (
            "the stated defaults"
        )


def test_every_metric_is_described() -> None:
    table = "\n".join(line for line in GUIDE.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) == set(TEXT_METRICS)
    forced = set(metrics_for("causal-lm")) - set(TEXT_METRICS)
    _, _, text = GUIDE.partition("**Teacher-forced scores**")
    assert forced <= set(re.findall(r"`(\w+)`", text.partition("\n\n")[0]))
