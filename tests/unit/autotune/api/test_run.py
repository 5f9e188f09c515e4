"""`autotune.run` with an executor that trains nothing, and its display in a notebook."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest

import autotune
from autotune import InvalidInputError, SweepResults
from autotune.api import run as run_module
from autotune.api.notebook_display import NotebookProgress, in_notebook
from autotune.sweep.sampler_spec import NamedSamplerSpec
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import as_mapping, dump_sweep
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import light_sweeps, small_sweep


@pytest.fixture
def sweep(tiny_model: Callable[[str], Path], reviews: Path) -> Sweep:
    return small_sweep(tiny_model("bert"), reviews)


@pytest.fixture
def light() -> Iterator[None]:
    with light_sweeps():
        yield


def test_a_sweep_a_mapping_and_a_file_give_the_same(sweep: Sweep, tmp_path: Path) -> None:
    dump_sweep(sweep, tmp_path / "small.yaml")
    found = [
        autotune.run(given, tmp_path / str(place), executor=FakeExecutor(), quiet=True)
        for place, given in enumerate([sweep, as_mapping(sweep), tmp_path / "small.yaml"])
    ]
    assert all(isinstance(results, SweepResults) for results in found)
    assert len(found[0].trials) == 6
    assert all(results.front.equals(found[0].front) for results in found)
    assert (tmp_path / "0" / "report.html").is_file()


@pytest.mark.usefixtures("light")
def test_a_finished_sweep_is_not_run_again(sweep: Sweep, tmp_path: Path) -> None:
    autotune.run(sweep, tmp_path / "out", executor=FakeExecutor(), quiet=True)
    again = FakeExecutor()
    results = autotune.run(sweep, tmp_path / "out", executor=again, trials=8, quiet=True)
    assert len(results.trials) == 8
    assert sum(spec.seed in set(results.trials["seed"]) for spec in again.specs) == 2


@pytest.mark.usefixtures("light")
def test_the_folder_is_named_after_the_sweep(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = autotune.run(sweep, executor=FakeExecutor(), seed=3, quiet=True)
    assert results.folder == Path("sweeps/small")
    assert results.sweep.seed == 3


def test_an_executor_by_name_is_checked_as_in_a_file(sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="executor"):
        autotune.run(sweep, tmp_path / "out", executor="lokal", quiet=True)
    with pytest.raises(InvalidInputError, match="local runs one trial at a time"):
        autotune.run(sweep, tmp_path / "out", executor={"name": "local", "workers": 2}, quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("light")
def test_a_sampler_is_checked_as_in_a_file(sweep: Sweep, tmp_path: Path) -> None:
    given = {"name": "tpe", "n_startup_trials": 4}
    results = autotune.run(sweep, tmp_path / "out", executor=FakeExecutor(), sampler=given, quiet=True)
    assert results.sweep.sampler == NamedSamplerSpec(**given)
    with pytest.raises(InvalidInputError, match=r"Did you mean 'n_startup_trials'"):
        autotune.run(sweep, tmp_path / "other", sampler={"name": "tpe", "n_startup_trial": 4}, quiet=True)
    with pytest.raises(InvalidInputError, match="already holds another sweep: sampler differ"):
        autotune.run(sweep, tmp_path / "out", executor=FakeExecutor(), sampler="pareto", quiet=True)
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("light")
def test_other_libraries_are_quiet_during_the_run_alone(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Observer(FakeExecutor):
        def start(self, model: Any, task: Any) -> None:
            super().start(model, task)
            seen.append((optuna.logging.get_verbosity(), os.environ["TRANSFORMERS_VERBOSITY"]))

    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    seen: list[tuple[int, str]] = []
    before = optuna.logging.get_verbosity()
    autotune.run(sweep, tmp_path / "out", executor=Observer(), quiet=True)
    assert seen == [(optuna.logging.ERROR, "error")]
    assert optuna.logging.get_verbosity() == before
    assert "TRANSFORMERS_VERBOSITY" not in os.environ


@pytest.mark.usefixtures("light")
def test_elsewhere_progress_is_one_line_per_trial(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    autotune.run(sweep, tmp_path / "out", executor=FakeExecutor())
    assert capsys.readouterr().out.count("trial ") >= 6


@dataclass
class Page:
    """Stands for the notebook: what is displayed, and every update of it."""

    blocks: list[str] = field(default_factory=list)
    displays: int = 0

    def display(self, block: Any, *, display_id: bool) -> Page:
        assert display_id
        self.displays += 1
        self.update(block)
        return self

    def update(self, block: Any) -> None:
        self.blocks.append(block.data)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page()
    monkeypatch.setattr("IPython.display.display", page.display)
    monkeypatch.setattr(run_module, "in_notebook", lambda: True)
    monkeypatch.setattr("autotune.api.notebook_display._PAUSE", 0.0)
    return page


@pytest.mark.usefixtures("light")
def test_a_notebook_shows_one_block_that_is_updated(sweep: Sweep, tmp_path: Path, page: Page) -> None:
    executor = FakeExecutor(fails=lambda spec: spec.config["family"] == "norm")
    results = autotune.run(sweep, tmp_path / "out", executor=executor)
    assert page.displays == 1
    assert "Loading model and data" in page.blocks[0]
    searching = [block for block in page.blocks if "Searching" in block]
    assert any("· 3/6 ·" in block for block in searching)
    assert any("trial\u00a00" in block and "accuracy" in block for block in searching)
    assert any("confirm\u00a0" in block for block in page.blocks)
    assert "Done" in page.blocks[-1]
    assert f">front: {len(results.front)} point" in page.blocks[-1]
    assert f"hypervolume {results.hypervolume:.3f}" in page.blocks[-1]
    assert any("search front: " in block for block in page.blocks)
    assert f"{(results.trials['status'] == 'failed').sum()} failed" in page.blocks[-1]


@pytest.mark.usefixtures("light")
def test_a_quiet_run_shows_nothing_in_a_notebook(sweep: Sweep, tmp_path: Path, page: Page) -> None:
    autotune.run(sweep, tmp_path / "out", executor=FakeExecutor(), quiet=True)
    assert page.displays == 0


@pytest.mark.usefixtures("light")
def test_updates_within_a_phase_are_few(
    sweep: Sweep, tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotune.api.notebook_display._PAUSE", 1e9)
    autotune.run(sweep, tmp_path / "out", executor=FakeExecutor())
    assert len(page.blocks) == 5  # one per phase


def test_errors_of_trials_are_escaped_in_the_block() -> None:
    from trials.records import TrialResult, TrialStatus

    shown = NotebookProgress()
    shown.trial_started(0, {"family": "<i>"}, seed=1)
    shown.trial_finished(0, TrialResult(TrialStatus.FAILED, error="<img src=x>"), {}, False)
    assert "<img" not in shown.html()
    assert "&lt;img src=x&gt;" in shown.html()
    assert "<i>" not in shown.html()


def test_this_process_is_no_notebook() -> None:
    assert not in_notebook()
