"""Each figure's value against a case worked by hand, and each drawing against that value."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from autotune.figures import (
    FIGURES,
    TEMPLATE,
    NothingToShowError,
    plot_curves,
    plot_front,
    plot_hypervolume,
    plot_importance,
    plot_parallel_coordinates,
)
from autotune.figures import importance as importance_module
from autotune.figures.front_view import front_title, front_view, marks, opening_window, staircase
from autotune.figures.hypervolume import progress_view
from autotune.figures.importance import importance_title, importance_view, observed_distributions
from autotune.figures.parallel_coordinates import NOT_USED, color_range, parallel_axes
from autotune.figures.style import SYMBOLS, looks
from autotune.figures.trial_points import log_ticks, objective_axis, trial_points, zero_edge
from autotune.figures.validation_curves import curves_view
from autotune.formatting.units import (
    config_lines,
    difference,
    duration,
    label,
    plus_minus,
    quantity,
    ranges,
    si,
    significant,
    value_text,
    with_interval,
    within_sentence,
)
from autotune.results.estimates import feasible_rows, on_front
from autotune.results.sweep_tables import SweepTables
from tests.support.synthetic import synthetic_results, synthetic_sweep

SPACE = "\u00a0"


@pytest.fixture(autouse=True)
def few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shuffle costs as much as the importance itself."""
    monkeypatch.setattr(importance_module, "_SHUFFLES", 1)


@pytest.fixture(scope="module")
def results() -> SweepTables:
    return synthetic_results(Path("sweeps/reviews"))


def by_hand(rows: list[dict[str, Any]], *names: str, **objective: dict[str, Any]) -> SweepTables:
    """Results with nothing but these trials; `objective` holds changes to single objectives."""
    sweep = synthetic_sweep(names)
    changed = tuple(o.model_copy(update=objective.get(o.name, {})) for o in sweep.objectives)
    sweep = sweep.model_copy(update={"objectives": changed})
    defaults = {"status": "complete", "seconds": 10.0, "seed": 0, "error": None, "share": 1.0}
    table = pd.DataFrame([{"trial": i, "elapsed": 5.0 * i, **defaults, **row} for i, row in enumerate(rows)])
    values = table[list(names)].to_numpy(dtype=float)
    table["feasible"], table["on_front"] = feasible_rows(changed, values), on_front(changed, values)
    table["on_search_front"] = table["on_front"]
    empty = pd.DataFrame(columns=["trial"])
    return SweepTables(Path("sweeps/hand"), sweep, table, empty, empty, {})


FREE = {"max": None, "reference": None, "ideal": None, "floor": None}
FOUR = [  # a, b and d are on the front; c is dominated by b
    {"accuracy": 0.70, "trainable_params": 100.0},
    {"accuracy": 0.80, "trainable_params": 1_000.0},
    {"accuracy": 0.75, "trainable_params": 5_000.0},
    {"accuracy": 0.90, "trainable_params": 10_000.0},
]


class TestUnits:
    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("accuracy", 0.9134, "91.3 %"),
            ("trainable_params", 1_234_567, "1.23 M"),
            ("trainable_params", 999.6, "1 k"),
            ("trainable_params", 0, "0"),
            ("train_flops", 3.4e12, "3.4 TFLOPs"),
            ("stored_bytes", 5.25e6, "5.25 MB"),
            ("train_seconds", 12.34, "12.3 s"),
            ("train_seconds", 245, "4 min 05 s"),
            ("eval_loss", 0.31234, "0.3123"),
            ("matthews", -0.5, "−0.5"),
            ("eval_loss", math.nan, "–"),
            ("trainable_params", math.inf, "∞"),
        ],
    )
    def test_quantities_carry_their_unit(self, name: str, value: float, text: str) -> None:
        assert quantity(name, value) == text.replace(" ", SPACE)

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.42, "0.42 s"),
            (59.96, "1 min 00 s"),
            (3_599.7, "1 h 00 min"),
            (7_800, "2 h 10 min"),
            (273_600, "3 d 4 h"),
        ],
    )
    def test_durations_never_show_sixty(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text.replace(" ", SPACE)

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.0003, "0.0003"), (3e-5, "3e−5"), (123456, "123456"), (2.5e9, "2.5e9"), (-2, "−2"), (0, "0")],
    )
    def test_plain_numbers(self, value: float, text: str) -> None:
        assert significant(value) == text

    def test_si_prefixes_change_before_a_fourth_digit(self) -> None:
        assert [si(999.4), si(999.6), si(999_600)] == ["999", f"1{SPACE}k", f"1{SPACE}M"]

    def test_intervals_are_as_exact_as_their_width(self) -> None:
        assert plus_minus("eval_loss", 0.458712, 0.009216) == "0.4587 ± 0.0092"
        assert plus_minus("accuracy", 0.8112, 0.0078) == f"81.1{SPACE}% ± 0.8{SPACE}%"
        assert with_interval("accuracy", 0.8112, 0.8034, 0.819) == f"81.1{SPACE}% ± 0.8{SPACE}%"
        assert with_interval("accuracy", 0.155, 0.0, 0.473) == f"15.5{SPACE}% (0.0{SPACE}% to 47.3{SPACE}%)"
        assert with_interval("accuracy", 0.155, math.nan, math.nan) == f"15.5{SPACE}%"
        assert difference("eval_loss", -0.0117) == "−0.012"
        assert difference("accuracy", 0.008) == f"+0.8{SPACE}%"

    def test_masks_become_ranges(self) -> None:
        config = {"family": "lora", **{f"layers.{i}": i in (0, 3, 4, 5) for i in range(6)}, "lora.rank": 8}
        assert config_lines(config) == ["family: lora", "layers: 0, 3–5", "lora.rank: 8"]
        assert ranges([]) == "none"

    def test_values_of_numpy_read_like_values_of_python(self) -> None:
        assert [value_text(v) for v in (np.bool_(True), False, np.float64(0.00031), np.int64(8), "a")] == [
            "on", "off", "0.00031", "8", "a",
        ]  # fmt: skip

    def test_labels_in_sentences_keep_acronyms(self) -> None:
        assert within_sentence(label("accuracy")) == "accuracy"
        assert within_sentence(label("f1")) == "F1"


class TestFront:
    def test_the_staircase_has_a_corner_between_neighbors(self) -> None:
        view = front_view(by_hand(FOUR, "accuracy", "trainable_params", accuracy=FREE, trainable_params=FREE))
        accuracy, params = view.objectives
        xs, ys = staircase(view, params, accuracy)
        assert xs == [100, 1_000, 1_000, 10_000, 10_000]
        assert ys == [0.70, 0.70, 0.80, 0.80, 0.90]

    def test_the_staircase_runs_on_to_the_references(self) -> None:
        box = {"accuracy": {**FREE, "reference": 0.5}, "trainable_params": {**FREE, "reference": 50_000.0}}
        view = front_view(by_hand(FOUR, "accuracy", "trainable_params", **box))
        accuracy, params = view.objectives
        xs, ys = staircase(view, params, accuracy)
        assert (xs[0], ys[0]) == (100, 0.5)
        assert (xs[-1], ys[-1]) == (50_000, 0.90)

    def test_the_staircase_leaves_out_what_breaks_a_limit(self) -> None:
        limit = {"trainable_params": {**FREE, "max": 2_000.0}}
        view = front_view(by_hand(FOUR, "accuracy", "trainable_params", accuracy=FREE, **limit))
        accuracy, params = view.objectives
        assert staircase(view, params, accuracy)[0] == [100, 1_000, 1_000]

    def test_the_title_counts_and_gives_the_ends(self) -> None:
        view = front_view(by_hand(FOUR, "accuracy", "trainable_params", accuracy=FREE, trainable_params=FREE))
        counts, ends = front_title(view).replace(SPACE, " ").split(": ")
        assert counts == "3 of 4 complete trials are on the front"
        assert ends == "accuracy 70.0 % to 90.0 %, adapter parameters 100 to 10 k"

    def test_zero_parameters_lie_left_of_the_least(self) -> None:
        rows = [{"accuracy": 0.6, "trainable_params": 0.0}, *FOUR]
        results = by_hand(rows, "accuracy", "trainable_params", accuracy=FREE, trainable_params=FREE)
        params = results.objectives[1]
        edge = zero_edge(params, results.trials["trainable_params"])
        assert edge is not None
        assert 0 < edge < 100
        axis = objective_axis(params, results.trials["trainable_params"])
        assert axis["type"] == "log"
        assert dict(zip(axis["tickvals"], axis["ticktext"], strict=True))[edge] == "0"  # type: ignore[call-overload]
        drawn = [
            x
            for trace in plot_front(results).data
            if trace.mode == "markers"
            for x in trace.x
            if x is not None
        ]
        assert min(drawn) == pytest.approx(edge)
        assert len(drawn) == 5

    def test_a_diverged_trial_does_not_set_the_window(self) -> None:
        rows = [{"eval_loss": 0.3 + 0.01 * i, "trainable_params": 100.0 * (20 - i)} for i in range(19)]
        rows.append({"eval_loss": 40.0, "trainable_params": 3_000.0})
        results = by_hand(rows, "eval_loss", "trainable_params", trainable_params=FREE)
        low, high = opening_window(front_view(results), results.objectives[0])
        assert low < 0.3
        assert 0.48 < high < 1.0

    def test_near_baselines_are_inside_the_window_and_far_ones_outside(self) -> None:
        for baseline, inside in ((0.68, True), (0.10, False)):
            results = by_hand(FOUR, "accuracy", "trainable_params", accuracy=FREE, trainable_params=FREE)
            results = replace(results, baselines={"majority class": baseline})
            low, high = opening_window(front_view(results), results.objectives[0])
            assert (low <= baseline <= high) is inside
            words = [a.text for a in plot_front(results).layout.annotations]
            assert words == [f"{'' if inside else '↓ '}majority class {quantity('accuracy', baseline)}"]

    def test_marks_say_what_they_are_once(self, results: SweepTables) -> None:
        view = front_view(results)
        # The reference of the accuracy is the majority class, so it has one mark, not two.
        assert [m.kind for m in marks(view, view.objectives[0])] == ["baseline"]
        assert [m.kind for m in marks(view, view.objectives[1])] == ["limit", "reference"]

    def test_a_baseline_of_another_metric_is_not_drawn(self) -> None:
        results = synthetic_results(Path("s"), objectives=("eval_loss", "trainable_params"))
        assert front_view(results).baselines == {}

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_every_trial_is_drawn_in_every_panel(self, count: int) -> None:
        results = synthetic_results(Path("s"), objectives=count)
        complete = int((results.trials["status"] == "complete").sum())
        panels: dict[str, int] = {}
        for trace in plot_front(results).data:
            if trace.type != "scatter" or trace.mode != "markers" or trace.legendgroup == "confirmed":
                continue
            panels[trace.xaxis or "x"] = panels.get(trace.xaxis or "x", 0) + sum(
                x is not None for x in trace.x
            )
        assert list(panels.values()) == [complete] * (count * (count - 1) // 2)

    def test_three_objectives_are_also_drawn_in_space(self) -> None:
        results = synthetic_results(Path("s"), objectives=3)
        space = [t for t in plot_front(results).data if t.type == "scatter3d" and t.mode == "markers"]
        assert sum(len(trace.x) for trace in space) == (results.trials["status"] == "complete").sum()

    def test_confirmed_means_stand_where_the_runs_say(self, results: SweepTables) -> None:
        trace = next(t for t in plot_front(results).data if t.legendgroup == "confirmed")
        means = results.confirmations.groupby("trial")["metric.accuracy"].mean()
        assert sorted(trace.y) == pytest.approx(sorted(means))
        assert min(trace.error_y.array) > 0

    def test_one_seed_has_no_interval(self) -> None:
        results = synthetic_results(Path("s"), confirm_seeds=1)
        trace = next(t for t in plot_front(results).data if t.legendgroup == "confirmed")
        assert trace.error_y.array is None
        assert trace.name == "confirmed value"

    def test_hover_tells_the_configuration_and_what_was_confirmed(self, results: SweepTables) -> None:
        points = trial_points(results)
        hover = points[points["on_front"]].iloc[0]["hover"]
        for words in ("Accuracy", "confirmed", "5 seeds", "test", "head 149", "family: ", "learning_rate: "):
            assert words in hover

    def test_tags_in_values_are_shown_not_obeyed(self) -> None:
        rows = [{**row, "param.family": "<b>bold</b>"} for row in FOUR]
        hover = trial_points(by_hand(rows, "accuracy", "trainable_params"))["hover"].iloc[0]
        assert "&lt;b&gt;bold&lt;/b&gt;" in hover


class TestHypervolume:
    BOX = {  # noqa: RUF012
        "accuracy": {**FREE, "ideal": 1.0, "reference": 0.5},
        "trainable_params": {**FREE, "scale": "linear", "ideal": 0.0, "reference": 100.0},
    }

    def test_the_growth_of_a_front_worked_by_hand(self) -> None:
        rows = [
            {"accuracy": 0.75, "trainable_params": 50.0},  # half of each side: 0.25
            {"accuracy": 0.70, "trainable_params": 60.0},  # dominated: nothing
            {"status": "failed", "accuracy": np.nan, "trainable_params": np.nan},
            {
                "accuracy": 1.00,
                "trainable_params": 75.0,
            },  # the ideal in accuracy: 0.25 more wide, half of it new
            {"accuracy": 0.40, "trainable_params": 1.0},  # worse than the reference: nothing
        ]
        table = progress_view(by_hand(rows, "accuracy", "trainable_params", **self.BOX)).table
        # After the fourth: 0.25 · 1 for the new point plus 0.25 · 0.5 that only the first covers.
        assert table["hypervolume"].tolist() == pytest.approx([0, 0.25, 0.25, 0.25, 0.375, 0.375])
        assert table["ended"].tolist() == [0, 1, 2, 3, 4, 5]
        assert table["seconds"].tolist() == [0, 0, 5, 10, 15, 20]

    def test_flops_are_summed_over_complete_trials(self) -> None:
        rows = [
            {**FOUR[0], "cost.train_flops": 1e12},
            {**FOUR[1], "cost.train_flops": 5e12, "status": "failed", "accuracy": np.nan},
            {**FOUR[3], "cost.train_flops": 2e12},
        ]
        assert progress_view(by_hand(rows, "accuracy", "trainable_params")).table["flops"].tolist() == [
            0,
            1e12,
            1e12,
            3e12,
        ]

    def test_trials_count_in_the_order_in_which_they_ended(self) -> None:
        times = pd.to_datetime(["2026-01-01 12:02", "2026-01-01 12:01"])
        rows = [{**row, "finished": time} for row, time in zip(FOUR[:2], times, strict=True)]
        assert progress_view(by_hand(rows, "accuracy", "trainable_params")).table["trial"].tolist() == [
            -1,
            1,
            0,
        ]

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_the_last_value_is_that_of_the_results(self, count: int) -> None:
        results = synthetic_results(Path("s"), objectives=count)
        assert progress_view(results).final == pytest.approx(results.search_hypervolume)

    def test_points_beyond_a_limit_add_nothing(self) -> None:
        limit = {**self.BOX, "trainable_params": {**self.BOX["trainable_params"], "max": 10.0}}
        rows = [{"accuracy": 0.75, "trainable_params": 50.0}]
        assert progress_view(by_hand(rows, "accuracy", "trainable_params", **limit)).final == 0.0

    def test_when_most_of_it_was_there(self) -> None:
        rows = [{"accuracy": 0.95, "trainable_params": 50.0}, {"accuracy": 0.96, "trainable_params": 50.0}]
        progress = progress_view(by_hand(rows, "accuracy", "trainable_params", **self.BOX))
        assert progress.ended_before(0.9) == 1  # 0.45 of 0.46
        assert progress.ended_before(1.0) == 2

    def test_buttons_change_what_is_counted(self, results: SweepTables) -> None:
        figure = plot_hypervolume(results)
        buttons = {b.label: b.args[0]["x"][0] for b in figure.layout.updatemenus[0].buttons}
        assert list(buttons) == ["Trials", "FLOPs", "Time"]
        assert buttons["Trials"][-1] == len(results.trials)
        assert buttons["Time"][-1] == results.search_seconds


class TestParallelCoordinates:
    def test_inactive_parameters_have_a_level_of_their_own(self) -> None:
        rows = [
            {**FOUR[0], "param.family": "lora", "param.lora.rank": 4, "param.lora.targets": "query"},
            {**FOUR[1], "param.family": "lora", "param.lora.rank": 16, "param.lora.targets": "all"},
            {**FOUR[2], "param.family": "ia3"},
        ]
        axes = {a.title: a for a in parallel_axes(by_hand(rows, "accuracy", "trainable_params"))}
        assert axes["lora.rank"].positions.tolist() == [0.0, 1.0, NOT_USED]
        assert axes["lora.rank"].ticks == ((NOT_USED, "not used"), (0.0, "4"), (1.0, "16"))
        assert axes["lora.targets"].positions.tolist() == [1.0, 0.0, NOT_USED]
        assert axes["family"].ticks == ((0.0, "ia3"), (1.0, "lora"))

    def test_families_share_the_axis_of_a_knob_they_share(self) -> None:
        rows = [
            {**FOUR[0], "param.family": "lora", "param.lora.learning_rate": 1e-4},
            {**FOUR[1], "param.family": "ia3", "param.ia3.learning_rate": 1e-2},
            {**FOUR[2], "param.family": "ia3", "param.ia3.learning_rate": 1e-3},
        ]
        axes = {a.title: a for a in parallel_axes(by_hand(rows, "accuracy", "trainable_params"))}
        assert axes["learning_rate"].positions.tolist() == pytest.approx([0.0, 1.0, 0.5])  # logarithmic
        assert not any("lora." in title or "ia3." in title for title in axes)

    def test_knobs_of_different_kinds_keep_their_own_axes(self) -> None:
        rows = [
            {**FOUR[0], "param.family": "lora", "param.lora.size": 4},
            {**FOUR[1], "param.family": "lora", "param.lora.size": 8},
            {**FOUR[2], "param.family": "ia3", "param.ia3.size": "small"},
            {**FOUR[3], "param.family": "ia3", "param.ia3.size": "large"},
        ]
        titles = [a.title for a in parallel_axes(by_hand(rows, "accuracy", "trainable_params"))]
        assert {"lora.size", "ia3.size"} <= set(titles)

    def test_masks_count_their_layers_and_constants_have_no_axis(self) -> None:
        rows = [
            {**FOUR[0], "param.layers.0": True, "param.layers.1": False, "param.epochs": 3},
            {**FOUR[1], "param.layers.0": True, "param.layers.1": True, "param.epochs": 3},
        ]
        axes = {a.title: a for a in parallel_axes(by_hand(rows, "accuracy", "trainable_params"))}
        assert axes["layers (layers on)"].ticks == ((0.0, "1"), (1.0, "2"))
        assert "epochs" not in axes

    def test_the_quality_is_last_but_for_the_front(self, results: SweepTables) -> None:
        titles = [axis.title for axis in parallel_axes(results)]
        assert titles[-3:] == ["Adapter parameters ↓", "Accuracy ↑", "On the front"]

    def test_every_trial_is_a_line_with_a_place_on_every_axis(self, results: SweepTables) -> None:
        trace = plot_parallel_coordinates(results).data[0]
        complete = (results.trials["status"] == "complete").sum()
        for dimension in trace.dimensions:
            low, high = dimension.range
            assert len(dimension.values) == complete
            assert all(low <= value <= high for value in dimension.values)

    def test_the_color_scale_ends_at_the_best_and_leaves_a_tenth_out(self) -> None:
        objective = synthetic_sweep(("eval_loss", "trainable_params")).objectives[0]
        assert color_range(objective, np.array([*np.linspace(0.1, 0.2, 10), 40.0])) == pytest.approx(
            (0.1, 0.2)
        )


class TestImportance:
    @staticmethod
    def decided_by_rate(count: int = 40) -> SweepTables:
        rng = np.random.default_rng(0)
        rates, noises = 10 ** rng.uniform(-5, -2, count), rng.uniform(size=count)
        rows = [
            {"accuracy": 0.9 - 0.1 * (math.log10(rate) + 3) ** 2, "trainable_params": 100.0,
             "param.learning_rate": rate, "param.dropout": noise}
            for rate, noise in zip(rates, noises, strict=True)
        ]  # fmt: skip
        return by_hand(rows, "accuracy", "trainable_params")

    def test_what_decides_stands_out_and_what_does_not_decide_does_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importance_module, "_SHUFFLES", 3)
        view = importance_view(self.decided_by_rate())
        table = view.table.set_index("parameter")
        assert table.loc["learning_rate", "importance"] > 0.8
        assert table.loc["learning_rate", "importance"] > table.loc["learning_rate", "noise"]
        assert table.loc["dropout", "importance"] < table.loc["dropout", "noise"]
        assert importance_title(view) == "Parameters above the noise level for accuracy: learning_rate"
        assert set(table["objective"]) == {"accuracy"}  # the parameters are known in advance

    def test_pure_noise_is_said_to_be_noise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importance_module, "_SHUFFLES", 3)
        results = self.decided_by_rate()
        rng = np.random.default_rng(1)
        shuffled = results.trials.assign(accuracy=rng.permutation(results.trials["accuracy"]))
        view = importance_view(replace(results, trials=shuffled))
        assert view.table["predicted"].iloc[0] < 0.2
        assert (view.table["importance"] <= view.table["noise"]).all()
        assert importance_title(view).startswith("No parameter is above the noise level")

    def test_a_family_is_asked_about_its_own_knobs(self) -> None:
        # The families take turns: 12, 12, 11 and 11 trials.
        view = importance_view(synthetic_results(Path("s"), statuses=["complete"] * 46))
        scopes = {scope: set(part["parameter"]) for scope, part in view.table.groupby("scope")}
        assert set(scopes) == {"all trials", "bottleneck", "head_only"}
        assert scopes["all trials"] == {"family", "batch_size"}
        assert "bottleneck.size" in scopes["bottleneck"]
        assert view.skipped == {"ia3": 11, "lora": 11}

    def test_only_shared_parameters_that_vary_have_a_distribution(self) -> None:
        configs = [{"a": 1, "b": "x", "c": True, "d": 1e-5}, {"a": 1, "c": False, "d": 1e-2}]
        found = observed_distributions(configs)  # type: ignore[arg-type]
        assert list(found) == ["c", "d"]
        assert found["d"].log  # type: ignore[attr-defined]

    def test_too_few_trials_are_said_to_be_too_few(self) -> None:
        with pytest.raises(NothingToShowError, match="11 complete trials are too few"):
            importance_view(self.decided_by_rate(11))

    def test_nothing_that_varies_means_nothing_to_explain(self) -> None:
        rows = [{**FOUR[i % 4], "param.epochs": 3} for i in range(20)]
        with pytest.raises(NothingToShowError, match="takes more than one value"):
            importance_view(by_hand(rows, "accuracy", "trainable_params"))


class TestCurves:
    def test_curves_are_in_order_and_know_the_front(self) -> None:
        results = by_hand(FOUR[:2], "accuracy", "trainable_params")
        rows = [(1, 8, 200, 0.4, 0.8), (1, 4, 100, 0.5, 0.7), (0, 4, 100, 0.9, 0.6)]
        columns = ["trial", "step", "samples", "metric.eval_loss", "metric.accuracy"]
        view = curves_view(replace(results, curves=pd.DataFrame(rows, columns=columns)))
        assert view.names == ["eval_loss", "accuracy"]
        assert view.table[["trial", "samples", "eval_loss"]].to_numpy().tolist() == [
            [0, 100, 0.9], [1, 100, 0.5], [1, 200, 0.4],
        ]  # fmt: skip

    def test_trials_on_the_front_have_lines_of_their_own(self, results: SweepTables) -> None:
        lines = [t for t in plot_curves(results).data if t.legendgroup != "rest"]
        assert len(lines) == 2 * len(results.front)  # loss and accuracy
        assert all(len(line.x) == 4 for line in lines)

    def test_a_loss_that_spans_much_is_drawn_on_a_logarithmic_axis(self, results: SweepTables) -> None:
        curves = results.curves.copy()
        curves.loc[0, "metric.eval_loss"] = 500.0
        assert plot_curves(replace(results, curves=curves)).layout.yaxis.type == "log"
        assert plot_curves(results).layout.yaxis.type is None


@pytest.mark.parametrize("entry", FIGURES, ids=lambda entry: entry.key)
class TestEveryFigure:
    def test_it_has_a_title_and_the_house_style(self, entry: Any, results: SweepTables) -> None:
        figure = entry.plot(results)
        assert isinstance(figure, go.Figure)
        assert len(figure.layout.title.text) > 10
        assert figure.layout.template.layout.font.family.startswith("Inter")
        assert figure.layout.template == go.Figure(layout={"template": TEMPLATE}).layout.template
        assert "sendChartToCloud" in figure.layout.template.layout.modebar.remove  # nothing leaves the page
        assert not (figure.layout.meta or {}).get("reason")
        assert entry.heading
        assert entry.reading

    @pytest.mark.parametrize("statuses", [["failed"] * 3, ["running"], []])
    def test_without_a_complete_trial_it_says_why(self, entry: Any, statuses: list[str]) -> None:
        results = synthetic_results(Path("s"), statuses=statuses, trials=len(statuses))
        figure = entry.plot(replace(results, curves=results.curves.iloc[:0]))
        assert figure.layout.meta["reason"] == figure.layout.annotations[0].text
        assert figure.layout.meta["reason"].startswith("No ")

    def test_one_trial_is_enough_not_to_fall_over(self, entry: Any) -> None:
        assert isinstance(entry.plot(synthetic_results(Path("s"), trials=1)), go.Figure)

    def test_it_draws_a_space_without_families(self, entry: Any) -> None:
        results = synthetic_results(Path("s"))
        kept = [c for c in results.trials if c not in ("config", "param.family") and ".learning" not in c]
        assert not (entry.plot(replace(results, trials=results.trials[kept])).layout.meta or {}).get("reason")


def test_groups_differ_in_look_as_long_as_there_are_pairs() -> None:
    found = looks([str(i) for i in range(56)])
    assert len({(color, symbol) for color, symbol, _ in found.values()}) == 56
    assert len({symbol for _, symbol, _ in list(found.values())[:7]}) == len(SYMBOLS)


def test_ticks_on_a_logarithmic_axis_are_round_and_inside() -> None:
    assert log_ticks([90.0, 1.1e4]) == [100.0, 1_000.0, 10_000.0]
    assert log_ticks([1.0, 20.0]) == [1.0, 2.0, 5.0, 10.0, 20.0]


def test_importance_puts_back_the_verbosity_of_optuna(results: SweepTables) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        plot_importance(results)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)
