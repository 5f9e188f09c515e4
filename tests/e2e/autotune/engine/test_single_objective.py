"""A sweep with one objective, from the search to the export, with a fake executor."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import autotune
from autotune.api.notebook_display import NotebookProgress
from autotune.cli.app import app
from autotune.cli.live_display import LiveProgress, PlainProgress
from autotune.engine.progress import Progress
from autotune.figures import plot_front, plot_hypervolume
from autotune.figures.hypervolume import progress_view
from autotune.report.page import report_html
from autotune.results.recommendation import recommend
from autotune.results.sweep_tables import SweepTables, read_tables
from search_spaces.parameters.types import Configuration
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import fake_run, small_sweep

SMALL_LORA = {
    "include": "lora-plain",
    "constraints": ["trainable_params <= 1000"],
    "parameters": {"epochs": 1, "batch_size": 16},
}


@pytest.fixture(scope="module")
def folder(
    tiny_model: Any, reviews: Path, tmp_path_factory: pytest.TempPathFactory, light_sweeps: None
) -> Path:
    folder = tmp_path_factory.mktemp("single") / "out"
    sweep = small_sweep(
        tiny_model("bert"),
        reviews,
        objectives=["accuracy"],
        budget={"trials": 12},
        sampler={"n_startup": 4},
    )
    fake_run(sweep, folder)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> SweepTables:
    return read_tables(folder)


def best_searched(results: SweepTables) -> int:
    return int(results.trials.set_index("trial")["accuracy"].idxmax())


def best_confirmed(results: SweepTables) -> int:
    (trial,) = results.front["trial"]
    return int(trial)


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_front_is_one_trial(results: SweepTables) -> None:
    assert results.search_front["trial"].tolist() == [best_searched(results)]
    assert len(results.front) == 1
    assert 0 < results.hypervolume < 1
    assert recommend(results, results.front).trial == best_confirmed(results)


def test_the_best_trials_are_confirmed(results: SweepTables) -> None:
    best = results.trials.sort_values("accuracy", ascending=False)["trial"].head(2)
    assert set(best) <= set(results.confirmations["trial"])
    assert best_confirmed(results) in set(results.confirmations["trial"])


def test_a_trial_that_was_lucky_is_not_the_best(
    tiny_model: Any, reviews: Path, tmp_path: Path, light_sweeps: None
) -> None:
    lucky: list[Configuration] = []

    def metrics(config: Configuration, seed: int, share: float) -> dict[str, float]:
        lucky[:] = lucky or [dict(config)]
        is_search = seed % 2 == 0  # confirmation seeds are odd
        return {"accuracy": 0.9 if is_search and config == lucky[0] else 0.6 + 1e-9 * (seed % 1000)}

    sweep = small_sweep(
        tiny_model("bert"), reviews, objectives=["accuracy"], confirm={"seeds": 2, "points": 3}
    )
    results = fake_run(sweep, tmp_path / "out", executor=FakeExecutor(metrics=metrics))
    assert results.search_front["trial"].tolist() == [0]
    assert results.confirmations["trial"].nunique() >= 3
    assert results.confirmations["metric.accuracy"].max() < 0.61


def test_the_progress_is_the_best_value_so_far(results: SweepTables) -> None:
    progress = progress_view(results)
    values = results.trials["accuracy"].tolist()
    assert progress.table["best"].tolist()[1:] == [max(values[: i + 1]) for i in range(len(values))]
    figure = plot_hypervolume(results)
    best = best_searched(results)
    assert f"reached by trial {best} after {best + 1} of 12 trials" in figure.layout.title.text.replace(
        "<br>", " "
    )
    assert list(figure.data[0].y[1:]) == progress.table["best"].tolist()[1:]
    assert "Accuracy" in figure.layout.yaxis.title.text


def test_the_figure_of_the_front_says_why_it_is_missing(results: SweepTables) -> None:
    assert "one objective" in plot_front(results).layout.meta["reason"]


def test_the_report_shows_the_best_trial(results: SweepTables) -> None:
    page = report_html(results)
    assert "for accuracy." in page
    assert "The sweep has one objective, so its front is one trial" in page
    assert '<p class="missing">This figure could not be drawn' not in page
    assert "of the box between ideal and reference values" not in page.split("<main>")[0]
    assert f"--pick {best_confirmed(results)} --to" in page


def test_status(folder: Path, results: SweepTables) -> None:
    text = invoke("status", folder)
    assert f"trial {best_confirmed(results)}: accuracy" in text
    assert "hypervolume" not in text
    found = json.loads(invoke("status", folder, "--json"))
    assert [point["trial"] for point in found["front"]] == [best_confirmed(results)]
    assert found["recommended"] == best_confirmed(results)


@pytest.mark.parametrize("pick", ["knee", "best", "smallest"])
def test_every_pick_is_the_best_trial(folder: Path, results: SweepTables, pick: str) -> None:
    point = autotune.load_results(folder).pick(pick)
    assert point.trial == best_confirmed(results)
    assert set(point.scores) == {"accuracy"}
    assert "adapter parameters" in str(point)


def test_the_results_in_python(folder: Path) -> None:
    results = autotune.load_results(folder)
    assert len(results.front) == 1
    assert "confirmed.accuracy" in results.front
    for text in (str(results), results._repr_html_()):
        assert "for accuracy." in text
        assert "hypervolume" not in text
    for plot in (results.plot_parallel_coordinates, results.plot_curves, results.plot_importance):
        assert "reason" not in (
            plot().layout.meta or {}
        )  # the least trials of the importance are these twelve


def test_it_is_exported(folder: Path, tmp_path: Path, results: SweepTables) -> None:
    invoke("export", folder, "--to", tmp_path / "run")
    readme = (tmp_path / "run" / "README.md").read_text()
    assert f"trial {best_confirmed(results)}" in readme.lower()


@pytest.mark.parametrize(
    "changes",
    [
        {"ladder": {"min": 0.34}, "budget": {"trials": 8}},
        {"space": SMALL_LORA},
        {"objectives": [{"name": "eval_loss", "max": 1.5}], "sampler": "cmaes"},
    ],
    ids=["ladder", "limited-costs", "limited-loss"],
)
def test_kinds_of_sweeps(
    tiny_model: Any, reviews: Path, tmp_path: Path, light_sweeps: None, changes: dict[str, Any]
) -> None:
    sweep = small_sweep(tiny_model("bert"), reviews, **{"objectives": ["accuracy"], **changes})
    results = fake_run(sweep, tmp_path / "out")
    complete = results.trials[results.trials["status"] == "complete"]
    assert len(results.front) == 1
    if changes.get("space"):
        assert (complete["cost.trainable_params"] <= 1000).all()
    (objective,) = results.objectives
    feasible = complete[complete["feasible"]]
    best = feasible.iloc[int(objective.loss(feasible[objective.name]).argmin())]
    assert results.search_front["trial"].tolist() == [best["trial"]]


def test_displays_show_the_best_value(tiny_model: Any, reviews: Path) -> None:
    sweep = small_sweep(tiny_model("bert"), reviews, objectives=["accuracy"])
    state = Progress("search", finished=3, total=6, front_size=1, hypervolume=0.5, best={"accuracy": 0.875})
    shown = []
    for display in (PlainProgress, LiveProgress):
        console = Console(file=io.StringIO(), width=120, force_terminal=False)
        watcher = display(console)
        watcher.sweep_started(sweep, [])
        watcher.progress(state)
        if isinstance(watcher, LiveProgress):
            console.print(watcher.render())
        else:
            shown.append(watcher._progress_text())
        shown.append(console.file.getvalue())  # type: ignore[attr-defined]
    notebook = NotebookProgress()
    notebook.sweep_started(sweep, [])
    notebook._state = state
    shown.append(notebook.html())
    shown = [text.replace("\u00a0", " ") for text in shown]
    assert shown[0] == "best 87.5 %"
    assert "best accuracy 87.5 %" in shown[2]
    assert "best accuracy 87.5 %" in shown[3]
    assert not any("hypervolume" in text or "front" in text for text in shown)
