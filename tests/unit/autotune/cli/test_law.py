"""`autotune law`: tables read, columns found, laws and rules told apart, figures with bands, JSON for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from autotune.cli.app import QUIETING, app
from autotune.cli.law import LawName
from autotune.figures.scaling_laws import law_view, plot_fit, plot_valley
from autotune.laws.fit_table import LAWS, fit_law, read_columns, read_table, target_of
from autotune.laws.fits import LossFit, StepFit
from autotune.results import sweep_tables as results_module
from search_spaces.errors import InvalidInputError
from tests.support.synthetic import synthetic_results

DATA = 100 * 2.0 ** np.arange(12)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {**QUIETING, "COLUMNS": "160"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def two_scales() -> pd.DataFrame:
    """L = 1.8 + 400/N^0.34 + 2000/D^0.37 and 0.2 % of noise."""
    N, D = (each.ravel() for each in np.meshgrid(np.geomspace(1e7, 1e9, 4), np.geomspace(1e9, 1e11, 4)))
    noise = np.exp(0.002 * np.random.default_rng(0).normal(size=len(N)))
    return pd.DataFrame({"params": N, "tokens": D, "loss": (1.8 + 400 / N**0.34 + 2000 / D**0.37) * noise})


def fine_tuning() -> pd.DataFrame:
    noise = np.exp(0.001 * np.random.default_rng(1).normal(size=len(DATA)))
    return pd.DataFrame({"examples": DATA, "test_loss": (0.3 + 60 / (30 + DATA**0.4)) * noise})


def a_floor() -> pd.DataFrame:
    """A loss that stops falling: the last value knows it, a law does not."""
    return pd.DataFrame({"steps": DATA, "loss": np.maximum(3.0 - 0.3 * np.arange(12), 1.5)})


def grid(scales: tuple[float, ...] = (1e8, 4e8, 1.6e9)) -> pd.DataFrame:
    rows = [
        (
            N,
            D,
            x,
            y,
            (2 + 30 / N**0.2) * np.exp(0.006 * np.log(x * N**0.5 / 20) ** 2 + 0.005 * np.log(y / 1e5) ** 2),
        )
        for N in scales
        for D in (2e9, 2e10)
        for x in 20 * N**-0.5 * 2.0 ** np.arange(-3, 4)
        for y in 1e5 * 2.0 ** np.arange(-3, 4)
    ]
    return pd.DataFrame(rows, columns=["params", "tokens", "lr", "batch_size", "loss"])


def law(*words: str) -> Result:
    return CliRunner().invoke(app, ["law", *words])


def said(*words: str) -> dict[str, Any]:
    result = law(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_the_commands_know_the_laws() -> None:
    assert [name.value for name in LawName] == list(LAWS)


def test_a_fit_in_json() -> None:
    two_scales().to_csv("points.csv", index=False)
    found = said("fit", "points.csv", "--figure", "law.html")
    assert found["law"] == "chinchilla"
    assert found["columns"] == {"loss": "loss", "params": "params", "tokens": "tokens"}
    a = found["coefficients"]["a"]
    assert a["low"] < a["value"] < a["high"]
    assert a["value"] == pytest.approx(0.34, abs=0.03)
    assert {one["name"] for one in found["held_out"]} == {
        "chinchilla", "joint", "last three points' slope", "last value",
    }  # fmt: skip
    assert found["outliers"] == []
    assert set(found["next_runs"][0]["scales"]) == {"params", "tokens"}
    assert "plotly" in Path("law.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", ["tsv", "json", "jsonl", "parquet"])
def test_tables_of_any_kind(ending: str, tmp_path: Path) -> None:
    frame, path = two_scales(), tmp_path / f"points.{ending}"
    if ending == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=ending == "jsonl")
    pd.testing.assert_frame_equal(read_table(path), frame, rtol=1e-6, check_dtype=False)


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "points.txt").write_text("1")
    with pytest.raises(InvalidInputError, match=r"'.txt' is not a known ending"):
        read_table(tmp_path / "points.txt")
    (tmp_path / "points.json").write_text("{")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_table(tmp_path / "points.json")


def test_columns_can_be_named() -> None:
    two_scales().set_axis(["width", "seen", "nats"], axis=1).to_csv("points.csv", index=False)
    refused = law("fit", "points.csv")
    assert refused.exit_code == 2
    assert "--column tokens=COLUMN" in refused.output
    options = ("--column", "params=width", "--column", "tokens=seen", "--column", "loss=nats")
    assert said("fit", "points.csv", *options)["law"] == "chinchilla"
    assert "unknown column 'wide'" in law("fit", "points.csv", "--column", "params=wide").output


def test_columns_that_cannot_be_read() -> None:
    assert read_columns(["unique-tokens = seen", "loss=nats"]) == {"unique_tokens": "seen", "loss": "nats"}
    with pytest.raises(InvalidInputError) as caught:
        read_columns(["parms=width", "tokens"])
    message = str(caught.value)
    assert "'parms' is not a role. Did you mean 'params'?" in message
    assert "'tokens' names no column. Write tokens=COLUMN" in message


def test_the_rectified_law_fits_fine_tuning_data() -> None:
    fine_tuning().to_csv("points.csv", index=False)
    assert said("fit", "points.csv")["law"] == "rectified"
    found = said("predict", "points.csv", "--law", "rectified", "--at", "tokens=1.6M", "--level", "0.9")
    assert found["level"] == 0.9
    assert found["at"] == {"tokens": 1.6e6}
    truth = 0.3 + 60 / (30 + 1.6e6**0.4)
    assert found["loss"]["low"] < truth < found["loss"]["high"]
    assert "rectified" in law("predict", "points.csv", "--at", "tokens=1.6M").output


def test_a_baseline_that_is_better_replaces_the_law() -> None:
    a_floor().to_csv("points.csv", index=False)
    found = said("fit", "points.csv", "--law", "power")
    assert found["law"] in ("last value", "last three points' slope")
    assert found["coefficients"] == {}
    assert found["formula"] is None
    assert "no law is used" in found["verdict"]
    assert said("fit", "points.csv", "--law", "power", "--force-law")["law"] in ("power", "pure-power")
    loss = said("predict", "points.csv", "--law", "power", "--at", "steps=1M")["loss"]
    assert loss["low"] < 1.5 < loss["high"]


def test_a_step_law() -> None:
    grid().to_csv("points.csv", index=False)
    found = said("fit", "points.csv")
    assert found["law"] == "step"
    assert found["optima"]["learning_rate"]["params"]["value"] == pytest.approx(-0.5, abs=0.01)
    assert found["optima_at_grid_edge"] == {"learning_rate": 0, "batch": 0}
    best = said("predict", "points.csv", "--at", "params=6.4B,tokens=20B")["optima"]
    assert best["learning_rate"]["value"] == pytest.approx(20 * 6.4e9**-0.5, rel=0.02)
    low, high = best["learning_rate"]["plateau"]
    assert low < best["learning_rate"]["value"] < high
    shown = law("fit", "points.csv").output
    assert "best learning_rate = factor · params^… · tokens^…" in shown


def test_a_grid_at_one_size_leaves_its_exponent_out() -> None:
    found = fit_law(grid((4e8,)), "step")
    assert isinstance(found, StepFit)
    assert found.law.scales == ("tokens",)


def test_targets() -> None:
    assert target_of("params=7B, tokens=1.4e11", ["params", "tokens"]) == {"params": 7e9, "tokens": 1.4e11}
    with pytest.raises(InvalidInputError) as caught:
        target_of("parms=7B,tokens=many", ["params", "tokens"])
    message = str(caught.value)
    assert "Did you mean 'params'" in message
    assert "'tokens=many' is not a positive number" in message
    assert "params is missing" in message
    with pytest.raises(InvalidInputError, match="params is missing"):
        target_of("tokens=1", ["params", "tokens"])


def test_laws_that_the_table_cannot_determine() -> None:
    with pytest.raises(InvalidInputError, match="is not a law"):
        fit_law(two_scales(), "chinchila")
    with pytest.raises(InvalidInputError, match="both vary"):
        fit_law(two_scales(), "power")
    with pytest.raises(InvalidInputError, match=r"Measure at examples = .* next"):
        fit_law(fine_tuning().assign(examples=100.0), "rectified")


def test_intervals_contain_the_law(tmp_path: Path) -> None:
    for frame, lines in ((two_scales(), 4), (fine_tuning(), 1), (a_floor(), 1)):
        found = fit_law(frame, "auto")
        assert isinstance(found, LossFit)
        view = law_view(found)
        assert view["line"].nunique() == lines
        assert (view["low"] < view["value"]).all()
        assert (view["value"] < view["high"]).all()
        figure = plot_fit(found)
        drawn = [trace for trace in figure.data if trace.name == "measured"]
        assert sum(len(trace.x) for trace in drawn) == len(frame)
        assert sum(trace.fill == "toself" for trace in figure.data) == lines


def test_the_valley_has_its_least_loss_at_the_optimum() -> None:
    found = fit_law(grid(), "auto")
    assert isinstance(found, StepFit)
    assert {trace.type for trace in plot_fit(found).data} == {"heatmap", "contour"}
    alone = fit_law(grid().drop(columns="batch_size").query("tokens == 2e9"), "step")
    assert isinstance(alone, StepFit)
    valley = plot_valley(alone, {"params": 4e8})
    cost = np.array(valley.data[0].y)
    assert cost.argmin() == pytest.approx(30, abs=1)


def test_trends_of_a_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = synthetic_results(tmp_path)
    monkeypatch.setattr(results_module, "read_tables", lambda folder: made)
    shown = law("trends", str(tmp_path))
    assert shown.exit_code == 0, shown.output
    assert "finished trials over trainable_params" in shown.output
    assert "best hyperparameters over trainable_params" in shown.output
    assert "batch_size" in shown.output
    assert "no law for lora.rank:" in shown.output
    assert "finished trials with a value and a score; a law needs 12" in shown.output
    assert "hyperparameters along the front, over trainable_params" in shown.output
    assert "Trials of cost 0, left out: 7" in shown.output
    found = json.loads(law("trends", str(tmp_path), "--json").output)
    [batch] = [each for each in found["laws"] if each["name"] == "batch_size"]
    assert 0 <= batch["changes"] <= 1
    assert batch["best"][1] < batch["best"][0] < batch["best"][2]
    assert all(
        0 <= trend["probability"] <= 1 and trend["name"].startswith("param.") for trend in found["front"]
    )
    assert law("trends", str(tmp_path), "--cost", "parameters").exit_code == 2


def test_trends_of_few_trials_say_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = synthetic_results(tmp_path, trials=8)
    monkeypatch.setattr(results_module, "read_tables", lambda folder: made)
    shown = law("trends", str(tmp_path))
    assert shown.exit_code == 0, shown.output
    assert "a law needs 12" in shown.output
    assert json.loads(law("trends", str(tmp_path), "--json").output)["trials"] < 12
