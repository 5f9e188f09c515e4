"""Folders and studies that an earlier version wrote: they are read, reported, exported and resumed.

`tests/data/earlier_version` holds a sweep on a ladder. It was confirmed, resumed with a larger budget, and killed:
six trials are complete, one is paused on the lowest rung, and one was running. Beside it is a study of
`autotune.optimize`. Both were written before the trial attributes had a module of their own.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from typer.testing import CliRunner

import autotune
from autotune.blackbox.result import OptimizeResult
from autotune.cli.app import app
from autotune.engine.sweep_run import run_sweep
from autotune.ledger.ledger import read_sweep
from autotune.results.sweep_tables import read_tables
from autotune.sweep.budget_spec import Budget
from tests.support.fake_executor import FakeExecutor
from trials.tasks.specs import ROWS_APART, TEXTS_GENERATED

DATA = Path(__file__).parents[3] / "data" / "earlier_version"


@pytest.fixture
def folder(tiny_model, reviews, tmp_path: Path) -> Path:
    """The sweep's folder, on the model and the data of this run."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "study.db").write_bytes(gzip.decompress((DATA / "study.db.gz").read_bytes()))
    text = (DATA / "sweep.yaml").read_text()
    text = text.replace("MODEL", str(tiny_model("bert"))).replace("DATA", str(reviews))
    (folder / "sweep.yaml").write_text(text)
    return folder


def test_the_tables_hold_every_trial(folder: Path) -> None:
    tables = read_tables(folder)
    assert tables.trials["status"].tolist() == ["complete"] * 6 + ["paused", "running"]
    assert tables.trials["accuracy"].tolist()[:6] == pytest.approx([0.45, 0.45, 0.475, 0.45, 0.425, 0.6])
    assert tables.trials["trial"][tables.trials["on_front"]].tolist() == [5]
    assert tables.ladder is not None
    assert (tables.ladder.reached, tables.ladder.waiting) == ((7, 6, 6), 1)
    assert tables.confirmations["trial"].tolist() == [5]
    assert tables.baselines["majority class"] == pytest.approx(0.5167, abs=1e-4)


def test_it_is_shown_reported_and_exported(folder: Path, tmp_path: Path) -> None:
    for command in (
        ["status", str(folder)],
        ["report", str(folder)],
        ["export", str(folder), "--pick", "best", "--to", str(tmp_path / "run")],
    ):
        ran = CliRunner().invoke(app, command, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
    assert (folder / "report.html").is_file()
    assert (tmp_path / "run" / "train.py").is_file()


def test_it_is_resumed(folder: Path) -> None:
    before = read_tables(folder).trials
    sweep = read_sweep(folder)
    assert sweep.task.data_version == ROWS_APART
    task = sweep.task.model_copy(update={"data_version": TEXTS_GENERATED})  # that of a sweep file today
    sweep = sweep.model_copy(update={"task": task, "budget": Budget(trials=9)})
    executor = FakeExecutor()
    after = run_sweep(sweep, folder, executor=executor).trials
    assert after["config"].tolist()[:8] == before["config"].tolist()
    assert after["accuracy"].tolist()[:6] == before["accuracy"].tolist()[:6]
    assert after["status"][7] == "lost"
    again = after[8:][[config == before["config"][7] for config in after["config"][8:]]]
    assert again["seed"].tolist() == [before["seed"][7]]
    spent = after["status"].isin(["complete", "paused", "stopped", "failed"])
    assert spent.sum() == 9
    assert len(after) == 10
    assert read_sweep(folder).task.data_version == ROWS_APART, "its data are split and scored as they were"
    assert executor.task is not None
    assert executor.task.data_version == ROWS_APART, "and those of its new trials alike"
    assert after["seed"][0] != executor.specs[0].seed, "a complete trial is not trained again"


def test_a_study_of_optimize_is_resumed(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    file.write_bytes(gzip.decompress((DATA / "optimize.db.gz").read_bytes()))
    states = []

    def evaluate(config, fidelity, state):
        states.append(state)
        return {"loss": (config["x"] - 0.5) ** 2 + 1 / fidelity}, {"fidelity": fidelity}

    space = {"x": FloatDistribution(-2, 2)}

    def search(budget: float) -> OptimizeResult:
        return autotune.optimize(
            evaluate, space, ["loss"], autotune.Ladder(1, 9), budget, storage=file, seed=1
        )

    before = search(40)
    assert states == [], "its budget is spent"
    counts = [trial.status for trial in before.trials]
    assert (counts.count("complete"), counts.count("failed"), counts.count("waiting")) == (3, 1, 8)
    assert before.used == 40
    after = search(60)
    assert after.used > 50
    assert {"fidelity": 1} in states
    assert [t.config for t in after.trials[:12]] == [t.config for t in before.trials]
