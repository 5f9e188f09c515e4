"""`export --scale-to`: what is carried along which law, what stays, and that the run trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner

from autotune.cli.app import QUIETING, app
from autotune.engine.sweep_run import run_sweep
from autotune.export.run_folder import export_run, train_run
from autotune.export.scaling import (
    Change,
    RateLaw,
    Scale,
    Target,
    joined_changes,
    law_of_probe,
    law_of_table,
    read_target,
    scaled,
)
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.types import Configuration
from tests.support.sweeps import small_sweep
from tests.support.synthetic import synthetic_results
from trials.data.task_data import load_task
from trials.training.subsets import subset

CONFIG: Configuration = {"family": "lora", "lora.learning_rate": 1e-3, "batch_size": 16, "epochs": 2}
HERE = Scale(tokens=1e5, params=1e7)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIETING.items():
        monkeypatch.setenv(name, value)


def probes(
    exponents: dict[str, float], trials: tuple[int, ...] = (0,), batches: tuple[float, ...] = (1.0,)
) -> pd.DataFrame:
    """Runs whose best learning rate goes with tokens and params by these exponents, exactly; the best batch size
    with tokens^0.5."""
    rows = []
    for trial in trials:
        for params in (1e7, 4e7) if exponents.get("params") else (1e7,):
            for tokens in (1.25e4, 2.5e4, 5e4, 1e5):
                best = (tokens / 5e4) ** exponents["tokens"] * (params / 1e7) ** exponents.get("params", 0.0)
                best_batch = (tokens / 5e4) ** 0.5
                for rate in (0.25, 0.5, 1.0, 2.0, 4.0):
                    for batch in batches:
                        bowl = 0.05 * np.log(rate / best) ** 2 + 0.04 * np.log(batch / best_batch) ** 2
                        rows.append({
                            "trial": trial, "model": str(params), "share": tokens / 1e5, "rate": rate, "batch": batch,
                            "seed": 1, "examples": tokens / 20, "tokens": tokens, "params": params,
                            "learning_rate": 1e-3 * rate, "batch_size": 16 * batch,
                            "metric.eval_loss": 2.0 * np.exp(bowl),
                        })  # fmt: skip
    return pd.DataFrame(rows)


def results_with(folder: Path, table: pd.DataFrame) -> SweepTables:
    return replace(synthetic_results(folder), probes=table)


def test_the_learning_rate_goes_along_the_law_that_the_probe_shows(tmp_path: Path) -> None:
    law = law_of_probe(results_with(tmp_path, probes({"tokens": -0.4})), 0)
    found, changes = scaled(CONFIG, law, HERE, Scale(tokens=1e6, params=1e7))
    assert found["lora.learning_rate"] == pytest.approx(1e-3 * 10**-0.4, rel=1e-3)
    assert found["batch_size"] == 16
    assert "scales as tokens^-0.40" in changes[0].why
    assert changes[1].why == "kept: there is no law for it"


def test_a_probe_of_two_bases_carries_it_along_their_size(tmp_path: Path) -> None:
    law = law_of_probe(results_with(tmp_path, probes({"tokens": -0.4, "params": -0.25})), 0)
    found, _ = scaled(CONFIG, law, HERE, Scale(tokens=1e5, params=1.6e8))
    assert found["lora.learning_rate"] == pytest.approx(1e-3 * 16**-0.25, rel=1e-3)


def test_batch_sizes_follow_where_they_were_tried(tmp_path: Path) -> None:
    table = probes({"tokens": -0.4}, batches=(0.25, 0.5, 1.0, 2.0))
    law = law_of_probe(results_with(tmp_path, table), 0)
    found, changes = scaled(CONFIG, law, HERE, Scale(tokens=9e5, params=1e7))
    assert found["batch_size"] == 48
    assert "tokens^0.50" in changes[1].why
    found, _ = scaled({**CONFIG, "batch_size": 2}, law, HERE, Scale(tokens=9e5, params=1e7))
    assert found["batch_size"] == 6  # small ones are not rounded to multiples of eight


class Stub:
    """A law with this exponent of tokens and its interval."""

    hyperparameters = ("learning_rate",)

    def __init__(self, *exponent: float) -> None:
        self.exponent = exponent

    def table(self) -> dict[str, dict[str, tuple[float, ...]]]:
        return {"learning_rate": {"tokens": self.exponent}}


@pytest.mark.parametrize(
    ("exponent", "factor", "words", "back"),
    [
        ((-0.2, -0.3, -0.1), 10**-0.2, "a factor of 0.5 to 0.79; from runs", "a factor of 1.3 to 2;"),
        ((0.2, 0.1, 0.3), 10**0.2, "a factor of 1.3 to 2; from runs", "a factor of 0.5 to 0.79;"),
        ((-0.2, -0.5, 0.1), 1.0, "kept: no significant trend", ""),
        ((0.2, -0.1, 0.5), 1.0, "kept: no significant trend", ""),
    ],
)
def test_a_trend_counts_where_its_interval_has_one_sign(exponent, factor, words, back) -> None:
    law = RateLaw(Stub(*exponent), "runs")  # type: ignore[arg-type]
    found, changes = scaled(CONFIG, law, HERE, Scale(tokens=1e6, params=1e7))
    assert found["lora.learning_rate"] == pytest.approx(1e-3 * factor)
    assert words in changes[0].why
    assert "(80 %: " in changes[0].why
    if factor != 1.0:  # the way down has the reciprocal factors, the smaller first all the same
        _, changes = scaled(CONFIG, law, HERE, Scale(tokens=1e4, params=1e7))
        assert back in changes[0].why


def test_a_point_without_runs_of_its_own_takes_the_law_of_the_others(tmp_path: Path) -> None:
    law = law_of_probe(results_with(tmp_path, probes({"tokens": -0.4}, trials=(1, 2))), 0)
    assert law.source == "40 runs of 2 points on shares of the data"
    plain = probes({"tokens": -0.4}, trials=(3,))
    table = pd.concat([probes({"tokens": -0.4}, trials=(1, 2)), plain[plain["rate"] == 1.0]])
    assert law_of_probe(results_with(tmp_path, table), 0).source == law.source  # 3 says nothing of rates
    own = law_of_probe(results_with(tmp_path, probes({"tokens": -0.4}, trials=(0, 1))), 0)
    assert own.source == "20 runs of 1 point on shares of the data"


def test_what_was_not_measured_stays_and_the_reason_is_said(tmp_path: Path) -> None:
    there = Scale(tokens=1e6, params=4e7)
    nothing = law_of_probe(synthetic_results(tmp_path, probed=False), 0)
    found, changes = scaled(CONFIG, nothing, HERE, there)
    assert found == CONFIG
    assert "no other learning rates were tried" in changes[0].why

    one_base = law_of_probe(results_with(tmp_path, probes({"tokens": -0.4})), 0)
    found, changes = scaled(CONFIG, one_base, HERE, there)
    assert found["lora.learning_rate"] == pytest.approx(1e-3 * 10**-0.4, rel=1e-3)
    assert "its dependence on params was not measured" in changes[0].why
    found, changes = scaled(CONFIG, one_base, HERE, HERE)
    assert (found, changes[0].why) == (CONFIG, "kept: the scale is the same as in the search")

    table = probes({"tokens": 0.0})
    rng = np.random.default_rng(0)
    table["metric.eval_loss"] *= np.exp(0.02 * rng.normal(size=len(table)))
    found, changes = scaled(CONFIG, law_of_probe(results_with(tmp_path, table), 0), HERE, there)
    assert found == CONFIG
    assert "no significant trend" in changes[0].why

    falling = probes({"tokens": 0.0})
    falling["metric.eval_loss"] = 2.0 / falling["rate"] ** 0.1
    found, changes = scaled(CONFIG, law_of_probe(results_with(tmp_path, falling), 0), HERE, there)
    assert found == CONFIG
    assert "no minimum inside the grid" in changes[0].why


def test_a_table_of_runs_gives_the_law_as_well() -> None:
    law = law_of_table(probes({"tokens": -0.4, "params": -0.25}).rename(columns={"metric.eval_loss": "loss"})[
        ["params", "tokens", "learning_rate", "loss"]
    ], "runs.csv")  # fmt: skip
    found, changes = scaled(CONFIG, law, HERE, Scale(tokens=1e6, params=4e7))
    assert found["lora.learning_rate"] == pytest.approx(1e-3 * 10**-0.4 * 4**-0.25, rel=1e-3)
    assert "from 40 runs in runs.csv" in changes[0].why


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("tokens=many", "'many' is not a positive number"),
        ("token=5M", "Did you mean 'tokens'"),
        ("tokens", "is not a target"),
        ("model=./nowhere", "there is no folder .* Give the folder of a model, or a Hugging Face model id"),
    ],
)
def test_a_target_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_target(text)


def test_a_target_is_tokens_and_a_base(tmp_path: Path) -> None:
    assert read_target("tokens=2.5M") == Target(2.5e6, None)
    (tmp_path / "config.json").write_text("{}")
    assert read_target(f"model={tmp_path}, tokens=7e9") == Target(7e9, str(tmp_path))
    assert read_target("model=roberta-large") == Target(None, "roberta-large")


def test_a_setting_that_the_base_model_and_a_law_change_has_one_entry() -> None:
    layers, rank = Change("lora.layers", "1", "2", "the same depth"), Change("lora.rank", "4", "8", "a law")
    kept = Change("lora.layers", "2", "2", "kept: there is no law for it")
    assert joined_changes([layers], [kept, rank]) == [layers, rank]
    [found] = joined_changes([layers], [Change("lora.layers", "2", "3", "a law")])
    assert found == Change("lora.layers", "1", "3", "the same depth (2), then: a law")


# --- the exported run


@pytest.fixture(scope="module")
def results(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path_factory: pytest.TempPathFactory
) -> SweepTables:
    space = {
        "families": ["lora"],
        "parameters": {"epochs": 1, "batch_size": 16, "lora.dora": False, "lora.rank": 4},
    }
    sweep = small_sweep(tiny_model("bert"), reviews, space=space, budget={"trials": 2}, confirm={"seeds": 0})
    return run_sweep(sweep, tmp_path_factory.mktemp("scale") / "out")


def test_a_run_of_more_tokens_has_more_steps(results: SweepTables, tmp_path: Path) -> None:
    plain = export_run(results, "best", [], tmp_path / "plain")
    assert "max_steps" not in json.loads((plain / "training_args.json").read_text())
    assert "Changes from the search" not in (plain / "README.md").read_text()
    run = export_run(results, "best", [], tmp_path / "run", Target(tokens=6000))
    settings = json.loads((run / "training_args.json").read_text())
    config = json.loads((run / "run.json").read_text())["configuration"]
    mean = 6000 / settings["max_steps"] / config["batch_size"]
    assert 7 < mean < 16  # tokens of an example
    readme = (run / "README.md").read_text()
    assert f"| steps | 3 | {settings['max_steps']} |" in readme
    assert "passes over the data, against 1 in the search" in readme
    assert "no other learning rates were tried" in readme
    assert settings["num_train_epochs"] == config["epochs"] > 1, "the passes of the run"


def test_fewer_tokens_than_those_of_a_batch_are_refused(results: SweepTables, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"--scale-to: 10 tokens are fewer than the \d+ of one batch of 16"
    ):
        export_run(results, "best", [], tmp_path / "run", Target(tokens=10))


def test_every_epoch_of_the_search_counts(results: SweepTables, tmp_path: Path) -> None:
    twice = [{**config, "epochs": 2} for config in results.trials["config"]]
    run = export_run(
        replace(results, trials=results.trials.assign(config=twice)), "best", [], tmp_path / "run", Target()
    )
    train = load_task(results.sweep.task, results.sweep.model).splits["train"]
    tokens = [2 * sum(len(e["input_ids"]) for e in part) for part in (subset(train, 48, 0), train)]
    readme = (run / "README.md").read_text()
    assert f"| training tokens | {tokens[0]:,} | {tokens[1]:,} | all epochs of all the data |" in readme
    assert "| steps | 6 | 30 |" in readme


@pytest.mark.slow
def test_a_scaled_run_trains_its_steps(
    results: SweepTables, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = export_run(results, "best", [], tmp_path / "run", Target(tokens=6000))
    settings = json.loads((run / "training_args.json").read_text())
    scores = train_run(run)
    assert 0.0 <= scores["test"]["accuracy"] <= 1.0
    lines = [line for line in capfd.readouterr().out.splitlines() if "training loss" in line]
    steps, every = settings["max_steps"], settings["logging_steps"]
    assert lines[-1].startswith(f"step {steps // every * every} of {steps}: training loss ")


def test_a_run_on_another_base_has_the_adapter_at_the_same_depth(
    results: SweepTables, deep_model: Path, tmp_path: Path
) -> None:
    to = tmp_path / "run"
    written = CliRunner().invoke(
        app,
        [
            "export",
            str(results.folder),
            "--pick",
            "best",
            "--scale-to",
            f"model={deep_model}",
            "--to",
            str(to),
        ],
    )
    assert written.exit_code == 0, written.output
    assert json.loads((to / "run.json").read_text())["model"] == str(deep_model)
    assert (
        f"| base | {results.sweep.model.name} | {deep_model} | requested |" in (to / "README.md").read_text()
    )
    model = AutoModelForSequenceClassification.from_pretrained(deep_model, num_labels=2)
    adapted = get_peft_model(model, PeftConfig.from_pretrained(str(to)))
    layers = {
        name.split("layer.")[1].split(".")[0] for name, _ in adapted.named_parameters() if "lora_A" in name
    }
    count = int(results.config(pick_trial(results, "best"))["lora.layers"])
    assert layers == {str(3 - layer) for layer in range(2 * count)}


def test_a_law_without_a_target_is_refused(results: SweepTables, tmp_path: Path) -> None:
    options = ["export", str(results.folder), "--law", "runs.csv", "--to", str(tmp_path / "run")]
    refused = CliRunner().invoke(app, options)
    assert refused.exit_code == 2
    assert "has no effect without --scale-to" in refused.output
