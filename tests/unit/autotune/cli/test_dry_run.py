"""`autotune run --dry-run`: what it prints, that it writes nothing, and that it fails where a run would fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from autotune.cli.app import app
from autotune.engine import plan as plan_module
from autotune.estimate.trial_work import Speed
from autotune.sweep.sweep_file import dump_sweep
from tests.support.sweeps import fake_run, small_sweep


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, list(arguments))


@pytest.fixture
def sweep_file(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A sweep on a machine that does 1 GFLOP/s and needs 0.5 s to start a trial."""
    speed = Speed(seconds_per_flop=1e-9, seconds_per_step=0.01, seconds_per_trial=0.5)
    monkeypatch.setattr(plan_module, "measured_speed", lambda *_, **__: speed)
    monkeypatch.chdir(tmp_path)
    dump_sweep(small_sweep(tiny_model("bert"), reviews), tmp_path / "small.yaml")
    yield tmp_path / "small.yaml"
    assert [path.name for path in tmp_path.iterdir() if path.name != "sweeps"] == ["small.yaml"]


def test_it_shows_the_data_an_example_the_space_and_the_time(sweep_file: Path) -> None:
    result = invoke("run", str(sweep_file), "--dry-run")
    assert result.exit_code == 0, result.output
    lines = {" ".join(line.split()) for line in result.stdout.splitlines()}
    assert "small: a dry run; nothing is trained or written" in lines
    assert "examples 240 train, 120 validation, 120 test" in lines
    assert "per trial 48 training examples per epoch; 40 validation examples, scored 2 times" in lines
    assert any(line.startswith("space 3 families (lora, norm, head)") for line in lines)
    assert any(line.startswith("smallest 0 parameters, 0 % of the base model: head") for line in lines)
    assert any(line.startswith("largest") and "lora" in line for line in lines)
    assert any(line.startswith("[CLS] ") and line.endswith("[SEP]") for line in lines)
    assert any(line.startswith("label: ") and "(class " in line for line in lines)
    assert any(line.startswith("search ") and line.endswith("for 6 trials") for line in lines)
    assert "ended by budget.trials: 6" in lines
    assert any(line.startswith("speed 1 GFLOP/s and 10 ms per step") for line in lines)
    assert not Path("sweeps").exists()


def test_it_prints_json(sweep_file: Path) -> None:
    result = invoke("run", str(sweep_file), "--dry-run", "--json", "--examples", "2")
    found = json.loads(result.stdout)
    assert found["examples"] == {"train": 240, "validation": 120, "test": 120}
    assert found["sweep"]["fidelity"]["train_samples"] == 48
    assert found["time"]["trials"] == 6
    assert found["time"]["trial"]["low"] > 0.5
    assert found["largest"]["trainable_params"] > found["smallest"]["trainable_params"]
    assert [len(example["spans"]) for example in found["preview"]] == [1, 1]


def test_finished_trials_are_counted(
    sweep_file: Path, tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    fake_run(small_sweep(tiny_model("bert"), reviews, confirm={"seeds": 0}), Path("sweeps/small"))
    result = invoke("run", str(sweep_file), "--dry-run", "--trials", "9")
    assert "6 trials of this sweep; a run resumes after them" in result.stdout


def test_json_is_an_option_of_a_dry_run(sweep_file: Path) -> None:
    result = invoke("run", str(sweep_file), "--json")
    assert result.exit_code == 2
    assert "--dry-run" in result.stderr
    assert not Path("sweeps").exists()


def test_options_change_the_sweep_as_in_a_run(sweep_file: Path) -> None:
    found = json.loads(invoke("run", str(sweep_file), "--dry-run", "--json", "--trials", "12").stdout)
    assert found["time"]["trials"] == 12


def test_it_fails_where_a_run_would_fail(sweep_file: Path) -> None:
    text = sweep_file.read_text()
    sweep_file.write_text(text.replace("label: label", "label: stars"))
    planned, run = invoke("run", str(sweep_file), "--dry-run"), invoke("run", str(sweep_file))
    sweep_file.write_text(text)
    assert planned.exit_code == run.exit_code == 2
    assert "task.label: train has no column 'stars'" in planned.stderr
    assert planned.stderr == run.stderr


def test_a_folder_with_another_sweep_is_refused(
    sweep_file: Path, tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    other = small_sweep(tiny_model("bert"), reviews, seed=1, confirm={"seeds": 0})
    fake_run(other, Path("sweeps/small"))
    before = {path: path.stat().st_mtime_ns for path in Path("sweeps/small").iterdir()}
    result = invoke("run", str(sweep_file), "--dry-run")
    assert result.exit_code == 2
    assert "already holds another sweep: seed differ" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in Path("sweeps/small").iterdir()} == before
