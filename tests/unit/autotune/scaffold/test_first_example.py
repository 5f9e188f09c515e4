"""The first example that `autotune init` shows, or why it shows none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from typer.testing import CliRunner

from autotune.cli.app import app
from autotune.scaffold.first_example import first_example
from autotune.sweep.schema import Sweep
from tests.support.sweeps import small_sweep


@pytest.fixture
def make(tiny_model: Callable[[str], Path], reviews: Path) -> Callable[..., Sweep]:
    def sweep(model: Path | None = None, **changes: Any) -> Sweep:
        return small_sweep(model or tiny_model("bert"), reviews, **changes)

    return sweep


def test_the_first_example_is_encoded_as_in_a_run(make: Callable[..., Sweep]) -> None:
    example = first_example(make())
    assert not isinstance(example, str)
    assert example.spans[0].text.startswith("[CLS] ")
    assert example.place == "line 2 of train.tsv"
    assert example.label_index in (0, 1)


def test_a_model_that_is_not_here_is_not_downloaded(make: Callable[..., Sweep]) -> None:
    example = first_example(make(Path("nobody/such-model")))
    assert example == (
        "example: not shown, since the tokenizer of 'nobody/such-model' is not on this machine; "
        "autotune run --dry-run downloads it"
    )


def test_a_model_in_the_cache_is_used(
    make: Callable[..., Sweep], tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cached(name: str, file: str, **_: Any) -> str | None:
        path = tiny_model("bert") / file
        return str(path) if path.is_file() else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    example = first_example(make(Path("org/model")))
    assert not isinstance(example, str)


def test_data_that_a_run_refuses_are_named(make: Callable[..., Sweep], reviews: Path) -> None:
    task = {"train": str(reviews / "train.tsv"), "text": "sentence", "label": "class"}
    example = first_example(make(task=task))
    assert isinstance(example, str)
    assert example.startswith("example: not shown, and autotune run will refuse this file: task.")


def test_init_prints_the_example(tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path) -> None:
    arguments = ["init", "--model", str(tiny_model("bert")), "--data", str(reviews / "train.tsv")]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "new.yaml")])
    assert result.exit_code == 0, result.output
    assert "Example (line 2 of train.tsv): " in result.stdout
    assert "  label: " in result.stdout
    assert f"autotune run {tmp_path / 'new.yaml'} --dry-run" in result.stdout


def test_init_wraps_a_long_example(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    words = " ".join(["good", "bad"] * 25)
    rows = "".join(f"{words} {'good ' * i}\t{i % 2}\n" for i in range(40))
    (tmp_path / "train.tsv").write_text(f"sentence\tlabel\n{rows}")
    arguments = ["init", "--model", str(tiny_model("bert")), "--data", str(tmp_path / "train.tsv")]
    result = CliRunner(env={"COLUMNS": "60"}).invoke(app, [*arguments, "--out", str(tmp_path / "new.yaml")])
    assert " ".join(result.stdout.split()).count("good bad") >= 25
