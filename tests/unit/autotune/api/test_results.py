"""Results as users meet them: data frames, points, figures and a summary, on a made-up sweep."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import pytest

from autotune import InvalidInputError, SweepResults, export_run, load_results
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmation_statistics
from tests.support.synthetic import synthetic_results

FIGURES = [name for name in dir(SweepResults) if name.startswith("plot_")]


@pytest.fixture(scope="module")
def tables() -> SweepTables:
    return synthetic_results(Path("sweeps/made-up"))


@pytest.fixture(scope="module")
def results(tables: SweepTables) -> SweepResults:
    return SweepResults(tables)


def test_the_front_is_a_data_frame_with_confirmed_and_test_scores(results: SweepResults) -> None:
    assert results.front["trial"].tolist() == results.trials.loc[
        results.trials["on_front"], "trial"
    ].tolist() or set(results.front["trial"]) == set(results.trials.loc[results.trials["on_front"], "trial"])
    assert {"accuracy", "confirmed.accuracy", "confirmed.accuracy.low", "test.accuracy"} <= set(results.front)
    assert results.front["trainable_params"].is_monotonic_increasing


def test_a_point_has_its_configuration_scores_and_costs(results: SweepResults, tables: SweepTables) -> None:
    point = results.best()
    row = tables.trials.set_index("trial").loc[point.trial]
    means = confirmation_statistics(tables, "accuracy").loc[point.trial]
    score = point.scores["accuracy"]
    assert point.configuration == row["config"]
    assert score.searched == row["accuracy"]
    assert (score.confirmed, score.seeds) == (means["mean"], 5)
    assert (
        min(score.searched, score.confirmed) - 0.01
        < score.estimate
        < max(score.searched, score.confirmed) + 0.01
    )
    assert score.interval == (means["low"], means["high"])
    assert score.test == means["test"]
    assert point.costs["trainable_params"] == row["trainable_params"]
    assert "train_flops" in point.costs
    assert f"trial {point.trial}" in str(point)
    assert "mean of 5 seeds; test " in str(point)


def test_a_point_that_was_not_confirmed_has_no_mean(results: SweepResults) -> None:
    trials = results.trials
    other = int(trials.loc[(trials["status"] == "complete") & ~trials["on_front"], "trial"].iloc[0])
    score = results.pick(other).scores["accuracy"]
    assert math.isnan(score.confirmed)
    assert (score.seeds, str(score)) == (
        0,
        f"accuracy {100 * score.searched:.1f}\u00a0% (search value, one seed)",
    )


@pytest.mark.parametrize("name", ["best", "knee", "smallest"])
def test_named_points_are_the_command_lines_own(
    name: str, results: SweepResults, tables: SweepTables
) -> None:
    assert getattr(results, name)().trial == pick_trial(tables, name)
    assert results.pick(name) == getattr(results, name)()


def test_only_a_recommendation_has_a_reason(results: SweepResults) -> None:
    assert results.knee().reason
    assert not results.best().reason


def test_conditions_narrow_the_choice(results: SweepResults) -> None:
    limit = float(results.front["trainable_params"].median())
    assert results.best(where=f"trainable_params <= {limit}").costs["trainable_params"] <= limit
    both = results.best(where=[f"trainable_params <= {limit}", "accuracy > 0.5"])
    assert both.scores["accuracy"].searched > 0.5
    with pytest.raises(InvalidInputError, match="meets trainable_params < 0"):
        results.best(where="trainable_params < 0")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_a_plotly_figure(
    name: str, results: SweepResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autotune.figures import importance

    monkeypatch.setattr(importance, "_SHUFFLES", 1)
    figure = getattr(results, name)()
    assert isinstance(figure, go.Figure)
    assert figure.data


def test_every_figure_of_the_report_is_offered() -> None:
    from autotune.figures import FIGURES as REPORT

    assert {entry.plot.__name__ for entry in REPORT} == set(FIGURES)


def test_the_summary_names_the_best_and_the_recommended_point(results: SweepResults) -> None:
    text = str(results)
    assert "27 trials over 4 adapter families" in text
    assert "Best accuracy, confirmed: " in text
    assert f"trial {results.knee().trial} (" in text
    assert repr(results) == f"SweepResults('sweeps/made-up': 30 trials, {len(results.front)} on the front)"


def test_html_is_escaped() -> None:
    changes = {"model": "<script>alert(1)</script>"}
    page = SweepResults(synthetic_results(Path("sweeps/<b>"), sweep=changes))._repr_html_()
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_an_empty_sweep_has_a_summary_and_no_point() -> None:
    empty = SweepResults(synthetic_results(Path("s"), trials=0))
    assert "no trial is on the front" in str(empty)
    assert empty._repr_html_()
    with pytest.raises(InvalidInputError, match="no front yet"):
        empty.knee()


def test_errors_name_the_arguments_of_the_functions(results: SweepResults, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for call, argument in (
        (lambda: results.pick("bets"), "pick"),
        (lambda: results.pick("²"), "pick"),
        (lambda: results.pick(where="nonsense"), "where"),
        (lambda: results.pick(where="foo<=1"), "where"),
        (lambda: results.best().export(tmp_path / "full"), "folder"),
        (lambda: load_results(tmp_path / "none"), "folder"),
        (lambda: export_run(results, tmp_path / "run", scale_to="nonsense"), "scale_to"),
    ):
        with pytest.raises(InvalidInputError) as raised:
            call()
        assert [problem.where for problem in raised.value.problems] == [argument]


def test_a_condition_on_a_score_is_on_the_objective_and_not_on_its_posterior(tmp_path: Path) -> None:
    made = synthetic_results(tmp_path)
    trials = made.trials.assign(**{
        "pooled.accuracy": made.trials["accuracy"] - 0.1,
        "posterior.accuracy": made.trials["accuracy"] - 0.2,
        "posterior_sd.accuracy": 0.01,
    })  # fmt: skip
    results = SweepResults(replace(made, trials=trials))
    least = float(results.front["accuracy"].max()) - 1e-9
    assert results.best(where=f"accuracy >= {least}").scores["accuracy"].searched >= least
    with pytest.raises(InvalidInputError, match="no point of the front meets accuracy"):
        results.best(where=f"accuracy >= {least + 0.05}")
    assert results.best(where="posterior_sd.accuracy < 0.02").trial == results.best().trial
