"""The front confirmed at the full budget: what the runs train on, which runs count, and what the commands say."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from autotune.cli.app import app
from autotune.cli.status import overview
from autotune.engine.sweep_run import has_nothing_left
from autotune.ledger.ledger import open_ledger
from autotune.report.agreement import rank_agreement
from autotune.report.page import report_html
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.results.tables import front_table
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import changed_confirm
from autotune.trial_attributes import TrialAttributes
from search_spaces.errors import InvalidInputError
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import fake_run, small_sweep
from trials.records import Fidelity

pytestmark = pytest.mark.usefixtures("light_sweeps")

FULL = {"seeds": 2, "points": 4, "data": "full", "stop": "best", "evaluations": 5, "patience": 2}
WHOLE = Fidelity(train_samples=None, eval_samples=None, evaluations=5, patience=2, score="best")


@pytest.fixture
def sweep(tiny_model, reviews) -> Sweep:
    return small_sweep(tiny_model("bert"), reviews, budget={"trials": 8}, confirm=FULL)


@pytest.fixture(scope="module")
def searched(tiny_model, reviews, tmp_path_factory, light_sweeps) -> SweepTables:
    """A sweep that confirmed at the fidelity of its search: only to be read."""
    sweep = small_sweep(tiny_model("bert"), reviews, budget={"trials": 8})
    return fake_run(sweep, tmp_path_factory.mktemp("searched") / "out")


@pytest.fixture
def folder(searched, tmp_path) -> Path:
    """A copy of the finished sweep."""
    return shutil.copytree(searched.folder, tmp_path / "out")


def test_the_confirmation_trains_on_all_data_and_stops_at_the_best(sweep, tmp_path):
    executor = FakeExecutor()
    results = fake_run(sweep, tmp_path / "out", executor=executor)
    by_kind = {spec.score_test: spec.fidelity for spec in executor.specs}
    assert by_kind == {False: sweep.fidelity, True: WHOLE}
    assert not set(results.confirmations["seed"]) & set(results.trials["seed"])
    assert not results.confirmations["as_search"].any()


def test_estimates_are_the_means_of_the_runs_without_the_search(sweep, tmp_path):
    results = fake_run(sweep, tmp_path / "out")
    means = results.confirmations.groupby("trial")["metric.accuracy"].mean()
    front = results.front.set_index("trial")
    table = front_table(results).set_index("trial")
    for trial in front.index.intersection(means.index):
        assert table.loc[trial, "estimate.accuracy"] == pytest.approx(means[trial])


def test_an_earlier_confirmation_is_kept_and_does_not_count(searched, folder):
    sweep = changed_confirm(searched.sweep, FULL)
    assert not has_nothing_left(folder, sweep)
    before = len(searched.confirmations)
    results = fake_run(sweep, folder)
    assert not results.confirmations["as_search"].any()
    runs = [TrialAttributes(t) for t in open_ledger(folder, sweep, "confirm").trials]
    assert [run.fidelity for run in runs[:before]] == [searched.sweep.fidelity] * before
    assert len(runs) == before + len(results.confirmations)
    assert has_nothing_left(folder, sweep)
    executor = FakeExecutor()
    fake_run(sweep, folder, executor=executor)
    assert executor.specs == []
    again = read_tables(folder, searched.sweep.confirm)
    assert again.confirmations["as_search"].all()
    assert len(again.confirmations) == before


def test_the_command_takes_the_options_of_the_section(searched, folder, monkeypatch):
    started: list[Sweep] = []
    monkeypatch.setattr("autotune.cli.search_commands._search", lambda sweep, *_, **__: started.append(sweep))
    command = ["confirm", str(folder), "--data", "full", "--stop", "best", "--seeds", "5"]
    assert CliRunner().invoke(app, command).exit_code == 0
    changed = {"data": "full", "stop": "best", "seeds": 5}
    assert started[0] == searched.sweep.model_copy(
        update={"confirm": searched.sweep.confirm.model_copy(update=changed)}
    )
    wrong = CliRunner().invoke(app, ["confirm", str(folder), "--data", "half"])
    assert isinstance(wrong.exception, InvalidInputError) or wrong.exit_code != 0
    assert len(started) == 1


def test_status_and_report_say_how_far_the_ranking_held(searched, folder):
    results = fake_run(changed_confirm(searched.sweep, {**FULL, "points": 8}), folder)
    found = rank_agreement(results)
    if found is None:
        assert results.confirmations["trial"].nunique() < 3
        return
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(overview(results))
    assert "complete; on all data, stop: best" in console.export_text()
    page = report_html(results)
    assert "between search and the full budget" in page
    assert found.choice_words.split(":")[0] in page
