"""A front's points on parts of the data: what is run, that it is kept, and what it predicts."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from autotune.cli import probe
from autotune.cli.app import QUIETING, app
from autotune.engine.sweep_run import run_sweep
from autotune.figures.forecast import plot_probe_forecast
from autotune.probe.excluded_points import excluded_points
from autotune.probe.forecast import FACTORS, Curves, forecast
from autotune.probe.runner import RATES, missing_probes, plan_probe, run_probe
from autotune.probe.runner import SHARES as USUAL_SHARES
from autotune.probe.text import exclusions_text, expected_text, order_text
from autotune.report.page import report_html
from autotune.results.probe_runs import ProbeRun
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables, read_tables
from benchmarks.forecast import compare, table
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.types import Configuration
from tests.support.sweeps import small_sweep
from tests.support.synthetic import synthetic_results
from trials.data.task_data import load_task
from trials.execution.executors import EXECUTORS
from trials.execution.in_process import LocalExecutor
from trials.records import TrialResult, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec
from trials.training.subsets import subset

SHARES = (0.25, 0.4, 0.5, 0.7, 1.0)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIETING.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def searched(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("probe") / "out"
    run_sweep(small_sweep(tiny_model("bert"), reviews, budget={"trials": 4}), folder)
    return folder


@pytest.fixture(scope="module")
def probed(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probed") / "out"
    shutil.copytree(searched, folder)
    results = read_tables(folder)
    run_probe(results, plan_probe(results, ["best"], SHARES, rates=(0.5, 1.0, 2.0)))
    return folder


def test_a_plan_lists_the_runs_with_the_cheapest_first(searched: Path) -> None:
    results = read_tables(searched)
    runs = plan_probe(results, ["best"], SHARES, rates=(0.5, 2.0))
    assert [run.share for run in runs] == sorted(run.share for run in runs)
    assert {run.rate for run in runs if run.share in (0.4, 0.7)} == {1.0}
    assert {run.rate for run in runs if run.share in (0.25, 0.5, 1.0)} == {0.5, 1.0, 2.0}
    even = plan_probe(results, ["best"], (0.2, *SHARES), rates=(2.0,))
    assert {run.share for run in even if run.rate != 1.0} == {0.25, 0.5, 1.0}  # counted from the largest
    every_point = plan_probe(results, shares=SHARES)
    assert {run.trial for run in every_point} >= set(results.confirmations["trial"]) & set(
        results.front["trial"]
    )
    further = plan_probe(results, ["best"], SHARES, models=["other"], seeds=2)
    assert {run.model for run in further} == {results.sweep.model.name, "other"}
    own = [run.model == results.sweep.model.name for run in further]
    assert own == sorted(own, reverse=True)
    assert len({run.seed for run in further}) == 2
    assert not {run.seed for run in further} & set(results.trials["seed"])


def test_only_the_picks_vary_the_learning_rate(tmp_path: Path) -> None:
    results = synthetic_results(tmp_path)
    runs = plan_probe(results, rates=(0.5, 2.0))
    picks = {pick_trial(results, pick) for pick in ("best", "knee", "smallest")}
    assert {run.trial for run in runs if run.rate != 1.0} == picks < {run.trial for run in runs}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"points": ["bset"]}, "Did you mean 'best'"),
        ({"shares": (0.5, 1.0)}, "too few for a forecast"),
        ({"rates": (0.0, 1.0)}, "--rates: 0.0 is not above 0"),
    ],
)
def test_an_impossible_plan_is_refused(searched: Path, asked, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        plan_probe(read_tables(searched), **asked)


def test_a_probe_on_all_of_the_data_is_the_confirmation_run(probed: Path) -> None:
    results = read_tables(probed)
    runs = results.probes
    whole = runs[(runs["share"] == 1.0) & (runs["rate"] == 1.0)].iloc[0]
    again = results.confirmations.set_index(["trial", "seed"]).loc[(whole["trial"], whole["seed"])]
    assert whole["metric.eval_loss"] == pytest.approx(again["metric.eval_loss"], rel=1e-6)
    config = results.config(int(whole["trial"]))
    own_rate = config[f"{config['family']}.learning_rate"]
    assert whole["learning_rate"] == own_rate
    assert (runs["learning_rate"] == own_rate * runs["rate"]).all()
    train = load_task(results.sweep.task, results.sweep.model).splits["train"]
    for run in runs.itertuples():
        seen = subset(train, run.examples, seed=0)
        assert run.tokens == config["epochs"] * sum(len(example["input_ids"]) for example in seen)
    assert sorted(runs["examples"].unique()) == [12, 19, 24, 34, 48]
    assert runs["tokens"].is_monotonic_increasing


def test_recorded_runs_are_not_repeated(probed: Path) -> None:
    results = read_tables(probed)
    runs = plan_probe(results, ["best"], SHARES, rates=(0.5, 1.0, 2.0, 4.0))
    assert {run.rate for run in missing_probes(probed, results.sweep, runs)} == {4.0}
    seen: list[tuple[ProbeRun, TrialResult]] = []
    run_probe(
        results, [run for run in runs if run.rate != 4.0], lambda run, result: seen.append((run, result))
    )
    assert not seen


def test_another_base_model_is_probed_at_its_own_depth(
    searched: Path, deep_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(searched, tmp_path / "out")
    results = read_tables(tmp_path / "out")
    point = str(results.trials.loc[results.trials["param.family"] == "lora", "trial"].iloc[0])
    runs = plan_probe(results, [point], SHARES, rates=(1.0,), models=[str(deep_model)])
    run_probe(results, [run for run in runs if run.model == str(deep_model)])
    probes = read_tables(tmp_path / "out").probes
    assert len(probes) == len(SHARES)
    own = read_tables(searched)
    assert probes["params"].nunique() == 1
    assert probes["params"].iloc[0] > own.trials["cost.trainable_params"].max()
    found = forecast(read_tables(tmp_path / "out"))
    assert found is not None
    assert [base.model for base in found.bases] == [str(deep_model)]


def test_a_revision_belongs_to_one_model() -> None:
    own = ModelSpec(name="here", revision="v2", precision="fp32")
    assert own.other("here") == own
    assert own.other("there") == ModelSpec(name="there", precision="fp32")


def test_too_large_shares_are_refused_before_training(searched: Path) -> None:
    results = read_tables(searched)
    runs = plan_probe(results, ["best"], (*SHARES, 6.0), rates=(1.0,))
    with pytest.raises(InvalidInputError, match="training split has 240 examples: give shares up to 5"):
        run_probe(results, runs)
    assert read_tables(searched).probes.empty


def test_the_command_plans_trains_and_prints_a_forecast(searched: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(searched, folder)
    options = [str(folder), "--points", "best", "--shares", "25%,0.4,1/2,0.7,1", "--rates", "1"]
    planned = CliRunner().invoke(app, ["probe", *options, "--plan"])
    assert planned.exit_code == 0, planned.output
    assert "5 of 5 runs are missing; they cost as much training as 2.8 trials" in planned.output
    assert read_tables(folder).probes.empty
    done = CliRunner().invoke(app, ["probe", *options])
    assert done.exit_code == 0, done.output
    assert "10 × the data" in done.output
    assert "With 2 × the data" not in done.output  # one point has no order
    assert "10 × the data" in (folder / "report.html").read_text()
    wrong = CliRunner().invoke(app, ["probe", str(folder), "--rates", "half"])
    assert wrong.exit_code == 2
    assert "'half' is not a number" in wrong.output
    lost = CliRunner().invoke(app, ["probe", str(folder), "--model", "./nowhere"])
    assert lost.exit_code == 2
    assert "there is no folder" in lost.output


class Unlucky(LocalExecutor):
    """Trains nothing: runs on 12 examples are lost, those on 24 fail with the configuration `fails`, others score."""

    fails: Configuration | None = None

    def start(self, model, task) -> None: ...

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self.now = ticket, spec

    def next_result(self) -> tuple[int, TrialResult]:
        ticket, spec = self.now
        size = spec.fidelity.train_samples
        assert size is not None
        if size == 12:
            return ticket, TrialResult(TrialStatus.LOST, error="the worker [pid 7] died")
        if size == 24 and spec.config == self.fails:
            return ticket, TrialResult(TrialStatus.FAILED, error="MemoryError: [/too] large\nat line 1")
        scores = {"accuracy": 1.0 - 0.3 * size**-0.2, "eval_loss": size**-0.2}
        return ticket, TrialResult(TrialStatus.COMPLETE, scores, seconds=1.0)

    def stop(self) -> None: ...


def test_lost_and_failed_runs_and_their_exclusions_are_reported(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched, folder := tmp_path / "out")
    results = read_tables(folder)
    distinct = results.trials[~results.trials["config"].map(repr).duplicated()]
    first, *_ = points = [int(trial) for trial in distinct["trial"].iloc[:3]]
    monkeypatch.setattr(Unlucky, "fails", results.config(first))
    monkeypatch.setitem(EXECUTORS, results.sweep.executor.name, Unlucky)
    shares = (0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
    asked = ["probe", str(folder), "--points", ",".join(map(str, points)), "--rates", "1"]
    done = CliRunner().invoke(app, [*asked, "--shares", ",".join(map(str, shares))])
    assert done.exit_code == 0, done.output
    assert done.output.count("the worker [pid 7] died") == 3
    assert "MemoryError: [/too] large" in done.output
    own = results.sweep.model.name
    said = f"Left out: trial {first} on {own} (its run on 24 examples failed: MemoryError: [/too] large)."
    assert said in done.output
    assert said in report_html(read_tables(folder))
    assert list(read_tables(folder).failed_probes["examples"]) == [24]

    runs = plan_probe(results, list(map(str, points)), shares, rates=(1.0,))
    lost = missing_probes(folder, results.sweep, runs)
    assert {(run.trial, run.share) for run in lost} == {(point, 0.25) for point in points}
    seen: list[tuple[ProbeRun, str | None]] = []
    run_probe(results, runs, lambda run, result: seen.append((run, result.error)))
    assert seen == [(run, "the worker [pid 7] died") for run in lost]


def test_batch_sizes_are_multiples_of_that_of_the_point(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched, folder := tmp_path / "out")
    results = read_tables(folder)
    monkeypatch.setitem(EXECUTORS, results.sweep.executor.name, Unlucky)
    runs = plan_probe(results, ["best"], (0.3, *SHARES[1:]), rates=(1.0,), batches=(2.0, 0.001))
    run_probe(results, runs)
    own = results.config(runs[0].trial)["batch_size"]
    sizes = read_tables(folder).probes.groupby("batch")["batch_size"].unique()
    assert {batch: list(size) for batch, size in sizes.items()} == {0.001: [1], 1.0: [own], 2.0: [2 * own]}


def test_the_defaults_of_the_command_are_those_of_the_plan() -> None:
    assert probe._numbers("--rates", inspect.signature(probe.probe).parameters["rates"].default) == RATES
    assert probe._numbers("--shares", probe.DEFAULT_SHARES) == pytest.approx(USUAL_SHARES, abs=0.005)


# --- the forecast


def with_probes(folder: Path, errors: dict[int, tuple[float, float]], noise: float = 0.0) -> SweepTables:
    """Made-up results whose points have the error level · share^-slope, by trial (level, slope)."""
    results = synthetic_results(folder)
    rng, rows = np.random.default_rng(0), []
    for trial, (level, slope) in errors.items():
        for share in 2.0 ** (-np.arange(6, -1, -1) / 2):
            error = level * share**-slope * np.exp(noise * rng.normal())
            rows.append({
                "trial": trial, "model": results.sweep.model.name, "share": share, "rate": 1.0, "batch": 1.0,
                "seed": 1, "examples": round(1000 * share), "tokens": 1, "params": 10, "learning_rate": 1.0,
                "batch_size": 8, "metric.accuracy": 1.0 - error, "metric.eval_loss": error,
            })  # fmt: skip
    return replace(results, probes=pd.DataFrame(rows))


def cheapest(results: SweepTables, count: int) -> list[int]:
    return [int(trial) for trial in results.front["trial"].iloc[:count]]


def test_scores_are_extrapolated_through_their_distance_from_the_best(tmp_path: Path) -> None:
    first, second = cheapest(synthetic_results(tmp_path), 2)
    results = with_probes(tmp_path, {second: (0.2, 0.3), first: (0.4, 0.1)})
    found = forecast(results)
    assert found is not None
    base = found.bases[0]
    assert [point.trial for point in base.points] == [first, second]
    assert base.examples == 1000
    for point, (level, slope) in zip(base.points, [(0.4, 0.1), (0.2, 0.3)], strict=True):
        assert point.now.is_measured
        assert point.now.value == pytest.approx(1.0 - level, abs=1e-9)
        for factor, each in zip(FACTORS, point.later, strict=True):
            assert each.value == pytest.approx(1.0 - level * factor**-slope, abs=1e-3)
            assert each.worst <= each.value <= each.best <= 1.0
    assert base.swaps == ((), ())
    assert order_text(base).startswith("With 2 × the data the order along the front is expected to remain.")
    assert expected_text("accuracy", base.points[0].now).startswith("60.0")


def test_a_forecast_starts_at_the_largest_measured_share(tmp_path: Path) -> None:
    first, second = cheapest(synthetic_results(tmp_path), 2)
    results = with_probes(tmp_path, {first: (0.4, 0.1), second: (0.2, 0.3)})
    more = results.probes.assign(share=4 * results.probes["share"], examples=4 * results.probes["examples"])
    found = forecast(replace(results, probes=pd.concat([results.probes, more[more["share"] > 1.0]])))
    assert found is not None
    assert found.bases[0].examples == 4000
    less = results.probes[results.probes["share"] < 0.6].replace({"examples": {125: 130}})
    found = forecast(replace(results, probes=less))
    assert found is not None
    assert found.bases[0].examples == 1000
    assert not found.bases[0].points[0].now.is_measured


def test_neighbors_that_may_swap_are_named(tmp_path: Path) -> None:
    first, second = cheapest(synthetic_results(tmp_path), 2)
    results = with_probes(tmp_path, {first: (0.30, 0.5), second: (0.29, 0.1)}, noise=0.01)
    found = forecast(results)
    assert found is not None
    later = found.bases[0].swaps[1]
    assert [(swap.cheaper, swap.costlier) for swap in later] == [(first, second)]
    assert later[0].probability > 0.9
    assert f"may swap (probability): {first} and {second}" in order_text(found.bases[0])


def test_the_probability_of_a_swap_is_that_of_two_normal_forecasts(tmp_path: Path) -> None:
    pair = cheapest(synthetic_results(tmp_path), 2)
    results = with_probes(tmp_path, dict(zip(pair, [(0.30, 0.3), (0.29, 0.25)], strict=True)), noise=0.03)
    found = forecast(results)
    assert found is not None
    base = found.bases[0]
    ahead = base.curves.at(FACTORS[1] * base.examples)
    mean, spread = np.log(ahead.value), np.log(ahead.high / ahead.low) / (2 * 1.2816)
    worse = int(base.curves.errors[1, -1] > base.curves.errors[0, -1])
    better = 1 - worse
    gap = (mean[worse] - mean[better]) / np.sqrt((spread**2).sum())
    assert base.swaps[1][0].probability == pytest.approx(NormalDist().cdf(-gap), abs=1e-4)


def test_swaps_are_relative_to_the_latest_order(tmp_path: Path) -> None:
    """They crossed within the curves, and go on as they are."""
    pair = cheapest(synthetic_results(tmp_path), 2)
    found = forecast(with_probes(tmp_path, dict(zip(pair, [(0.30, 0.5), (0.33, 0.1)], strict=True))))
    assert found is not None
    assert found.bases[0].swaps == ((), ())


def test_the_cheapest_point_and_the_sweeps_own_base_come_first(tmp_path: Path) -> None:
    points = cheapest(synthetic_results(tmp_path), 5)
    assert points != sorted(points)
    results = with_probes(tmp_path, dict.fromkeys(points, (0.4, 0.1)))
    own = results.sweep.model.name
    further = [results.probes.assign(model=name, params=20) for name in ("0", "~")]
    tried = [results.probes.assign(**{knob: 2.0, "metric.accuracy": 0.1}) for knob in ("rate", "batch")]
    found = forecast(replace(results, probes=pd.concat([*further, *tried, results.probes])))
    assert found is not None
    assert [(base.model, base.params) for base in found.bases] == [(own, 10), ("0", 20), ("~", 20)]
    for base in found.bases:
        assert [point.trial for point in base.points] == points
        assert base.points[0].now.value == pytest.approx(0.6)  # other learning rates are no part of it


def test_rare_shares_are_left_out_and_perfect_scores_are_allowed(
    tmp_path: Path,
) -> None:
    first, second = cheapest(synthetic_results(tmp_path), 2)
    results = with_probes(tmp_path, {first: (0.4, 0.1), second: (0.2, 0.3)})
    table = results.probes
    found = forecast(replace(results, probes=table[(table["trial"] != first) | (table["examples"] != 250)]))
    assert found is not None
    assert [point.trial for point in found.bases[0].points] == [first, second]
    assert 250 not in found.bases[0].curves.examples
    perfect = table.assign(
        **{"metric.accuracy": table["metric.accuracy"].where(table["examples"] < 1000, 1.0)}
    )
    found = forecast(replace(results, probes=perfect))
    assert found is not None
    assert [point.now.value for point in found.bases[0].points] == pytest.approx([0.999, 0.999])


def test_points_without_a_complete_curve_are_named(tmp_path: Path) -> None:
    one, two, three = cheapest(synthetic_results(tmp_path), 3)
    results = with_probes(tmp_path, {one: (0.4, 0.1), two: (0.3, 0.2), three: (0.2, 0.3)})
    assert excluded_points(results, forecast(results)) == []
    assert exclusions_text([]) == ""
    table, own = results.probes, results.sweep.model.name
    gone = (table["trial"] == two) & table["examples"].isin([250, 500])
    gappy = replace(results, probes=table[~gone])
    assert exclusions_text(excluded_points(gappy, forecast(gappy))) == (
        f"Left out: trial {two} on {own} (it has no score on 250, 500 examples yet)."
    )
    failed = table[gone & (table["examples"] == 500)].assign(error="MemoryError: too large\nat line 1")
    elsewhere = failed.assign(trial=three, model="other", examples=125)
    # On a share of its own, where another seed has a score, and at another learning rate: these leave no gap.
    apart = [
        failed.assign(examples=60),
        failed.assign(examples=125, seed=2),
        failed.assign(examples=250, rate=2.0),
    ]
    harmless = pd.concat(apart).assign(error="of no account")
    unlucky = replace(gappy, failed_probes=pd.concat([harmless, elsewhere, failed]))
    assert [(gap.trial, gap.model, gap.reason) for gap in excluded_points(unlucky, forecast(unlucky))] == [
        (two, own, "its run on 500 examples failed: MemoryError: too large"),
        (three, "other", "its run on 125 examples failed: MemoryError: too large"),
    ]
    few = replace(results, probes=table[table["examples"] > 400])
    assert forecast(few) is None
    assert [gap.trial for gap in excluded_points(few, None)] == sorted([one, two, three])
    assert "(it has a score on 3 shares of the data, and a forecast needs 5)" in exclusions_text(
        excluded_points(few, None)
    )
    assert "No point has a score on 5 shares of the data yet" in report_html(few)
    apart = [
        table[(table["trial"] == one) & (table["examples"] < 700)],
        table[(table["trial"] == two) & (table["examples"] > 150)].assign(
            examples=lambda t: t["examples"] + 1
        ),
    ]
    strange = replace(results, probes=pd.concat(apart))
    assert {gap.reason for gap in excluded_points(strange, forecast(strange))} == {
        "it shares too few numbers of examples with the other points"
    }


def test_the_report_tells_how_to_get_a_forecast_and_shows_it(tmp_path: Path) -> None:
    bare = synthetic_results(tmp_path, probed=False)
    assert forecast(bare) is None
    assert f"Run: autotune probe {bare.folder}" in report_html(bare)
    first, second = cheapest(bare, 2)
    results = with_probes(tmp_path, {first: (0.4, 0.1), second: (0.2, 0.3)})
    page = report_html(results)
    assert "1,000 examples" in page
    assert "the order along the front is expected to remain" in page
    figure = plot_probe_forecast(results)
    measured = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(measured) == 2
    assert len(measured[0].x) == 7
    ahead = [trace for trace in figure.data if trace.error_y.array is not None]
    assert all((np.array(trace.error_y.arrayminus) >= 0).all() for trace in ahead)


def test_the_benchmark_hides_what_lies_beyond_the_search(tmp_path: Path) -> None:
    examples = 1000.0 * 2.0 ** np.arange(-3, 2.5, 0.5)
    laws = np.array([[0.5], [0.3]]) * (examples / 1000) ** -np.array([[0.1], [0.3]])
    rows = compare("made up", "accuracy", Curves((1, 2), examples, laws), searched=1000)
    assert [row.ahead for row in rows] == pytest.approx([2**0.5, 2, 2**1.5, 4])
    assert all(row.error < 1e-6 and row.slope < 1e-6 and row.inside == 2 for row in rows)
    assert [row.last for row in rows] == pytest.approx([0.2 * np.log(row.ahead) for row in rows])
    assert "| made up | accuracy | × 4 | 0.0 % | 0.0 % | 27.7 % | 2 of 2 |" in table(rows)
