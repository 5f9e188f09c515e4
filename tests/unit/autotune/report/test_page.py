"""The report as a page and the tables that go with it."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

import autotune.report.page as report_module
from autotune.figures import FIGURES, FigureEntry
from autotune.figures import importance as importance_module
from autotune.report.front_rows import export_command, point_columns, point_rows
from autotune.report.headline import headline, mean_selection_bias
from autotune.report.page import failure_rows, figure_block, report_html, write_report
from autotune.results.recommendation import recommend
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import (
    configuration,
    confirmation_statistics,
    front_table,
    quality,
    selection_bias,
    trials_table,
    write_tables,
    write_whole,
)
from tests.support.synthetic import synthetic_results

SPACE = "\u00a0"


@pytest.fixture(autouse=True)
def few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance_module, "_SHUFFLES", 1)


@pytest.fixture(scope="module")
def results() -> SweepTables:
    return synthetic_results(Path("sweeps/my reviews"))


class Page(HTMLParser):
    """Elements, attributes, visible text and inlined data of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data: dict[str, Any] = {}
        self._inside: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = (tag, dict(attrs))
        self.tags.append(self._inside)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ("", {})

    def handle_data(self, data: str) -> None:
        tag, attributes = self._inside
        if tag == "script":
            if attributes.get("type") == "application/json":
                self.data[str(attributes["id"])] = json.loads(data)
        elif tag != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def page(results: SweepTables) -> Page:
    return Page(report_html(results))


class TestPage:
    def test_it_loads_nothing_from_anywhere(self, page: Page) -> None:
        for tag, attributes in page.tags:
            assert tag not in ("link", "iframe", "img", "object", "embed")
            for name in ("src", "href", "action", "srcset"):
                value = attributes.get(name)
                assert value is None or value.startswith("#"), (tag, name, value)
        policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
        assert str(policy).startswith("default-src 'none';")
        assert "http" not in str(policy)

    def test_plotly_is_inlined_once(self, results: SweepTables) -> None:
        from plotly.offline import get_plotlyjs

        assert report_html(results).count(get_plotlyjs()) == 1

    def test_every_figure_is_there_as_data(self, page: Page) -> None:
        assert set(page.data) == {f"data-{entry.key}" for entry in FIGURES}
        assert all(figure["data"] for figure in page.data.values())
        places = {a["id"] for _, a in page.tags if a.get("class") == "plot"}
        assert places == {f"plot-{entry.key}" for entry in FIGURES}

    def test_links_within_the_page_lead_somewhere(self, page: Page) -> None:
        ids = {attributes.get("id") for _, attributes in page.tags}
        targets = [str(a["href"])[1:] for tag, a in page.tags if tag == "a"]
        assert targets
        assert set(targets) <= ids

    def test_every_point_has_its_command_with_a_button(self, page: Page, results: SweepTables) -> None:
        commands = [a["data-copy"] for tag, a in page.tags if tag == "button"]
        assert commands == [export_command(results, trial) for trial in results.front["trial"]]
        first = shlex.split(str(commands[0]))
        trial = str(results.front["trial"].iloc[0])
        assert first == [
            "autotune",
            "export",
            "sweeps/my reviews",
            "--pick",
            trial,
            "--to",
            f"runs/reviews-{trial}",
        ]

    def test_it_contains_the_search_and_its_limitations(self, page: Page) -> None:
        for words in (
            "sentence-transformers/all-MiniLM-L6-v2",
            "27 trials over 4 adapter families",
            "accuracy and adapter parameters",
            "24 complete, 3 failed, 3 pruned",
            "the loss is not finite after 40 steps",
            "used validation scores only",
            "name: reviews",
        ):
            assert words in page.text

    def test_text_from_users_is_escaped(self, results: SweepTables) -> None:
        evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
        trials = results.trials.copy()
        trials["param.lora.targets"] = trials["param.lora.targets"].where(
            trials["param.lora.targets"].isna(), evil
        )
        trials["config"] = [
            {**config, "lora.targets": evil, evil: evil} for config in trials["config"]
        ]  # fmt: skip
        trials["error"] = trials["error"].where(trials["error"].isna(), evil)
        trials["param.family"] = trials["param.family"].replace("lora", evil)
        sweep = results.sweep.model_copy(
            update={"task": results.sweep.task.model_copy(update={"train": evil})}
        )
        attacked = replace(results, trials=trials, sweep=sweep, baselines={evil: 0.79})
        html = report_html(attacked)
        found = Page(html)
        assert "alert(1)" in found.text  # shown
        assert "img" not in {tag for tag, _ in found.tags}
        assert not re.search(r"<script>alert", html)
        scripts = [attributes for tag, attributes in found.tags if tag == "script"]
        assert len(scripts) == len(FIGURES) + 2
        for figure in found.data.values():  # plotly obeys some tags: none may come from a user
            assert not re.search(r"<(script|img)", json.dumps(_obeyed(figure)))

    def test_what_the_start_said_about_the_data_is_kept(self, results: SweepTables) -> None:
        cut = "84 of 84 training examples are cut at 128 tokens (median 958, longest 1,204)"
        html = report_html(replace(results, notes=(f"warning: {cut}", "3 rows without <text> dropped")))
        assert f"Warning:</strong> {cut}." in html
        assert "3 rows without &lt;text&gt; dropped." in html
        assert "Data and setup" not in Page(report_html(results)).text

    def test_the_data_of_several_files_are_named(self, results: SweepTables) -> None:
        task = results.sweep.task.model_copy(update={"train": ("data/a.tsv", "data/b.tsv", "data/c.tsv")})
        many = replace(results, sweep=results.sweep.model_copy(update={"task": task}))
        assert "on a.tsv and 2 more files" in Page(report_html(many)).text

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_it_is_written_for_any_number_of_objectives(self, count: int, tmp_path: Path) -> None:
        results = synthetic_results(tmp_path / "sweep", objectives=count, trials=14)
        path = write_report(results)
        assert path == tmp_path / "sweep" / "report.html"
        assert list(path.parent.iterdir()) == [path]  # no draft is left
        found = Page(path.read_text(encoding="utf-8"))
        assert "could not be drawn" not in " ".join(found.words)

    @pytest.mark.parametrize("changes", [
        {"confirm_seeds": 0}, {"confirm_seeds": 1}, {"trials": 1}, {"statuses": ["failed", "lost"]},
        {"statuses": ["running"]}, {"trials": 0}, {"statuses": ["pruned"] * 3},
    ])  # fmt: skip
    def test_it_is_written_whatever_the_sweep_brought(self, changes: dict[str, Any], tmp_path: Path) -> None:
        found = Page(write_report(synthetic_results(tmp_path, **changes)).read_text(encoding="utf-8"))
        assert "could not be drawn" not in found.text
        assert "Limitations" in found.text
        assert "nan" not in found.text

    def test_a_figure_that_raises_does_not_take_the_report_down(
        self, results: SweepTables, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(_: SweepTables) -> go.Figure:
            raise KeyError("not <i>expected</i> here")

        entries = (FigureEntry("front", "The front", broken, "…"), *FIGURES[1:])
        monkeypatch.setattr(report_module, "FIGURES", entries)
        found = Page(report_html(results))
        assert "could not be drawn (KeyError: 'not <i>expected</i> here')" in found.text
        assert set(found.data) == {f"data-{entry.key}" for entry in FIGURES[1:]}
        assert "front" in caplog.text

    def test_the_reason_of_a_missing_figure_is_printed(self) -> None:
        results = synthetic_results(Path("s"), statuses=["failed"])
        block = figure_block(FIGURES[0], results)
        assert block.data is None
        assert block.reason == "No trial is complete yet (1 failed)."


def _obeyed(part: Any, key: str = "") -> list[str]:
    """The texts of a figure in which plotly obeys tags."""
    if isinstance(part, dict):
        return [words for name, value in part.items() for words in _obeyed(value, name)]
    if isinstance(part, list):
        return [words for value in part for words in _obeyed(value, key)]
    return [part] if isinstance(part, str) and key in ("text", "hovertext", "name", "title", "y") else []


class TestHeadline:
    def test_the_best_is_the_best_confirmed_mean(self, results: SweepTables) -> None:
        means = results.confirmations.groupby("trial")["metric.accuracy"].mean()
        best = headline(results)[0]
        assert best.name == "Best accuracy, confirmed"
        assert best.value.startswith(f"{100 * means.max():.1f}{SPACE}% ± ")
        assert f"trial {means.idxmax()}, mean of 5 report seeds, test " in best.note

    def test_without_confirmation_it_warns(self) -> None:
        best = headline(synthetic_results(Path("s"), confirm_seeds=0))[0]
        assert best.name == "Best accuracy, search value"
        assert "not confirmed" in best.note

    def test_seeds_are_counted_and_compared(self, results: SweepTables) -> None:
        seeds = headline(results)[-1]
        assert (seeds.value, seeds.note) == ("30 + 5", "30 search seeds, 5 report seeds; none is in both")
        shared = results.confirmations.assign(seed=range(len(results.confirmations)))
        assert "in both" in headline(replace(results, confirmations=shared))[-1].note
        assert "not independent" in headline(replace(results, confirmations=shared))[-1].note

    def test_the_recommended_point_is_the_one_that_export_takes(self, results: SweepTables) -> None:
        from autotune.results.selection import pick_trial

        recommended = headline(results)[1]
        assert recommended.name.startswith("Recommended")
        assert recommended.value == f"trial {pick_trial(results, 'knee')}"
        assert recommended.note.startswith("accuracy ")
        assert "confirmed, adapter parameters" in recommended.note
        assert recommended.note.endswith(recommend(results, results.front).reason)

    def test_without_a_front_nothing_is_recommended(self) -> None:
        recommended = headline(synthetic_results(Path("s"), statuses=["failed"]))[1]
        assert (recommended.value, recommended.note) == ("–", "no trial is on the front")

    def test_selection_bias_is_positive_where_the_search_saw_too_much(self, results: SweepTables) -> None:
        accuracy = results.objectives[0]
        assert selection_bias(accuracy, 0.9, 0.8) == pytest.approx(0.1)
        loss = synthetic_results(
            Path("s"), objectives=("eval_loss", "trainable_params"), trials=3
        ).objectives[0]
        assert selection_bias(loss, 0.3, 0.4) == pytest.approx(0.1)
        front = results.front.set_index("trial")["accuracy"]
        means = results.confirmations.groupby("trial")["metric.accuracy"].mean()
        assert mean_selection_bias(results) == f"+{100 * (front - means).mean():.1f}{SPACE}%"
        assert mean_selection_bias(synthetic_results(Path("s"), confirm_seeds=0)) == ""


class TestPoints:
    def test_rows_have_a_cell_a_column_and_one_best(self, results: SweepTables) -> None:
        rows, columns = point_rows(results), point_columns(results)
        assert all(len(row.cells) == len(columns) for row in rows)
        assert [row.trial for row in rows] == results.front["trial"].tolist()
        assert sum("best" in row.marks for row in rows) == 1
        recommended = [row.trial for row in rows if {"knee", "recommended"} & set(row.marks)]
        assert recommended == [recommend(results, results.front).trial]
        assert columns[-2:] == ["Adapter parameters", "Head parameters"]

    def test_the_adapter_is_shown_where_it_is_no_objective(self) -> None:
        results = synthetic_results(Path("s"), objectives=("accuracy", "train_flops"))
        assert point_columns(results)[-2:] == ["Adapter parameters", "Head parameters"]
        assert all(len(row.cells) == len(point_columns(results)) for row in point_rows(results))

    def test_points_that_were_not_confirmed_say_so(self, results: SweepTables) -> None:
        first = results.front["trial"].iloc[0]
        rest = results.confirmations[results.confirmations["trial"] != first]
        cells = point_rows(replace(results, confirmations=rest))[0].cells
        assert cells[1:5] == ("–",) * 4

    def test_failures_are_grouped_by_message(self, results: SweepTables) -> None:
        assert failure_rows(results) == [
            {
                "status": "failed",
                "message": "the loss is not finite after 40 steps (learning rate 0.031)",
                "count": 3,
                "trials": "4, 14, 24",
            }
        ]


class TestTables:
    def test_intervals_pool_the_noise_over_the_points(self, results: SweepTables) -> None:
        # Squared deviations 0.02 + 0 + 0.02 over 6 - 3 degrees of freedom: a variance of 0.04 / 3. t(0.975, 3) =
        # 3.18245.
        runs = pd.DataFrame(
            {"trial": [1, 1, 2, 3, 3, 3], "seed": range(6), "metric.accuracy": [0.6, 0.8, 0.9, 0.4, 0.5, 0.6]}
        )
        found = confirmation_statistics(replace(results, confirmations=runs), "accuracy")
        assert found["mean"].tolist() == pytest.approx([0.7, 0.9, 0.5])
        deviation = math.sqrt(0.04 / 3)
        widths = [3.18245 * deviation / math.sqrt(n) for n in (2, 1, 3)]
        assert (found["mean"] - found["low"]).tolist() == pytest.approx(widths, rel=1e-5)
        widths[1] = 0.1  # no accuracy exceeds 1
        assert (found["high"] - found["mean"]).tolist() == pytest.approx(widths, rel=1e-5)
        assert found["freedom"].tolist() == [3, 3, 3]
        assert found["test"].isna().all()

    def test_confirmation_of_one_trial(self, results: SweepTables) -> None:
        runs = pd.DataFrame(
            {
                "trial": [7, 7],
                "seed": [1, 2],
                "elapsed": [1.0, 2.0],
                "metric.accuracy": [0.8, 0.9],
                "test.accuracy": [0.7, 0.7],
            }
        )
        row = confirmation_statistics(replace(results, confirmations=runs), "accuracy").loc[7]
        assert row["mean"] == pytest.approx(0.85)
        assert row["mean"] - row["low"] == pytest.approx(12.7062 * 0.05, rel=1e-4)  # t(0.975, 1) s / √2
        assert row["high"] == 1.0
        assert (row["test"], row["seeds"]) == (0.7, 2)
        assert confirmation_statistics(replace(results, confirmations=runs), "matthews").empty

    def test_the_front_as_a_table(self, results: SweepTables) -> None:
        table = front_table(results)
        assert table["trial"].tolist() == results.front["trial"].tolist()
        assert table["trainable_params"].is_monotonic_increasing
        assert (table["report_seeds"] == 5).all()
        between = table["confirmed.accuracy.low"] < table["confirmed.accuracy"]
        assert (between & (table["confirmed.accuracy"] < table["confirmed.accuracy.high"])).all()
        assert {"test.accuracy", "cost.head_params", "param.family", "param.batch_size"} <= set(table)
        assert "confirmed.trainable_params" not in table
        means = results.confirmations.groupby("trial")["metric.accuracy"].mean()
        assert table.set_index("trial")["confirmed.accuracy"].to_dict() == pytest.approx(means.to_dict())

    def test_the_front_without_confirmation_has_the_same_columns(self, results: SweepTables) -> None:
        bare = front_table(synthetic_results(Path("s"), confirm_seeds=0))
        assert list(bare) == list(front_table(results))
        assert bare["confirmed.accuracy"].isna().all()
        assert (bare["report_seeds"] == 0).all()

    def test_both_files_read_back(self, results: SweepTables, tmp_path: Path) -> None:
        front, trials = write_tables(replace(results, folder=tmp_path))
        assert [front.name, trials.name] == ["front.csv", "trials.parquet"]
        assert sorted(tmp_path.iterdir()) == [front, trials]
        assert len(pd.read_csv(front)) == len(results.front)
        table = pd.read_parquet(trials)
        assert table["trial"].tolist() == results.trials["trial"].tolist()
        assert [json.loads(config) for config in table["config"]] == results.trials["config"].tolist()
        ranks = table["param.lora.rank"].dropna()
        assert ranks.tolist() == results.trials["param.lora.rank"].dropna().tolist()
        assert pd.api.types.is_integer_dtype(table["param.lora.rank"])
        assert pd.api.types.is_bool_dtype(table["param.bottleneck.parallel"])

    def test_columns_of_mixed_kinds_become_text(self, results: SweepTables) -> None:
        trials = results.trials.copy()
        trials["param.mixed"] = [8 if i % 2 else "all" for i in range(len(trials))]
        table = trials_table(replace(results, trials=trials))
        assert set(table["param.mixed"]) == {"8", "all"}

    def test_tables_of_a_sweep_that_has_not_begun(self, tmp_path: Path) -> None:
        front, trials = write_tables(synthetic_results(tmp_path, trials=0))
        assert pd.read_csv(front).empty
        assert pd.read_parquet(trials).empty

    def test_a_configuration_comes_from_its_row(self, results: SweepTables) -> None:
        for _, row in results.trials.iterrows():
            assert configuration(row.drop("config")) == configuration(row) == row["config"]

    def test_quality_is_the_first_objective_that_is_no_cost(self) -> None:
        results = synthetic_results(Path("s"), objectives=("trainable_params", "eval_loss"), trials=3)
        assert quality(results).name == "eval_loss"

    def test_a_failed_write_leaves_the_old_file(self, tmp_path: Path) -> None:
        target = tmp_path / "kept.txt"
        target.write_text("old")

        def half(path: Path) -> None:
            path.write_text("ne")
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            write_whole(target, half)
        assert target.read_text() == "old"
        assert list(tmp_path.iterdir()) == [target]
