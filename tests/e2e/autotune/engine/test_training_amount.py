"""Sweeps over the number of training examples and fractional epochs: from the file to the exported run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import autotune
from autotune.cli.dry_run import dry_run_json
from autotune.engine.sweep_run import run_sweep
from autotune.export.run_folder import export_run
from autotune.export.scaling import RateLaw, Target
from autotune.formatting.compact import short_config
from autotune.prepare.prepared_sweep import prepare
from autotune.probe.runner import _Prober, plan_probe
from autotune.results.sweep_tables import SweepTables
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.amounts import optimizer_steps
from tests.e2e.autotune.export.test_run_folder import script_of
from tests.support.sweeps import SPACE, small_sweep
from trials.records import PartialRun, TrialSpec
from trials.training.run import training_examples

AMOUNT = {"train_samples": {"low": 12, "high": "25%"}, "epochs": {"low": 0.3, "high": 2.5, "log": True}}


def searching(model: Path, data: Path, amount: dict[str, object] = AMOUNT, **changes: object):
    space = {**SPACE, "parameters": {**SPACE["parameters"], **amount}}
    given = {
        "objectives": ["accuracy", "train_flops"],
        "fidelity": {"eval_samples": 40, "evaluations": 1},
        "confirm": {"seeds": 0},
        **changes,
    }
    return small_sweep(model, data, space=space, **given)


@pytest.fixture(scope="module")
def results(tiny_model, reviews, tmp_path_factory) -> SweepTables:
    sweep = searching(tiny_model("bert"), reviews, budget={"trials": 3}, executor="packed")
    return run_sweep(sweep, tmp_path_factory.mktemp("amount") / "out")


def test_the_bound_space_and_its_costs_follow_the_split(tiny_model, reviews) -> None:
    prepared = prepare(searching(tiny_model("bert"), reviews))
    assert "train_samples: 12 to 60 of 240 training examples" in prepared.notes
    config = prepared.space.default(epochs=1.0)
    assert config["train_samples"] == 60
    whole, half = (prepared.costs({**config, "train_samples": count}).train_flops for count in (60, 30))
    assert half == pytest.approx(whole / 2)
    assert prepared.share(PartialRun("data", 0.5), {**config, "epochs": 1.5}) == pytest.approx(0.5)
    assert prepared.sweep.fidelity.train_samples is None
    accuracy, flops = prepared.sweep.objectives
    assert prepared.references == (accuracy.reference, None), (
        "runs below the majority class are of no interest"
    )
    assert accuracy.reference == pytest.approx(0.5, abs=0.1)
    assert flops.scale == "log"
    plain = prepare(searching(tiny_model("bert"), reviews, {}))
    assert plain.references == (None, None)


def test_a_fidelity_of_training_examples_is_refused(tiny_model, reviews) -> None:
    with pytest.raises(
        InvalidInputError, match=r"fidelity\.train_samples: 48, and .* Remove it, and give 48 as"
    ):
        searching(tiny_model("bert"), reviews, fidelity={"train_samples": 48})


def test_a_range_above_the_split_is_refused(tiny_model, reviews) -> None:
    sweep = searching(tiny_model("bert"), reviews, {"train_samples": {"low": 500, "high": 900}})
    with pytest.raises(InvalidInputError, match="500 is above the 240 examples of the training split"):
        prepare(sweep)


def test_the_plan_names_the_range(tiny_model, reviews, tmp_path) -> None:
    plan = autotune.plan(searching(tiny_model("bert"), reviews), tmp_path / "out")
    assert plan.train_samples == (12, 60)
    found = dry_run_json(plan, 0)
    assert found["trial"] == {"train_samples": 60, "eval_samples": 40, "least_train_samples": 12}
    assert found["train_flops"]["span"] > 10


def test_trials_train_on_their_own_amount(results: SweepTables) -> None:
    assert (results.trials["status"] == "complete").all()
    configs = [results.config(trial) for trial in results.trials["trial"]]
    assert len({config["train_samples"] for config in configs}) > 1
    assert all(isinstance(config["epochs"], float) for config in configs)
    assert all(12 <= config["train_samples"] <= 60 for config in configs)


def test_the_exported_run_trains_on_the_examples_and_steps_of_the_trial(
    results: SweepTables, tmp_path: Path, monkeypatch
) -> None:
    config = results.config(1)
    run = export_run(results, "1", [], tmp_path / "run")
    settings = json.loads((run / "training_args.json").read_text())
    count, batch_size = int(config["train_samples"]), int(config["batch_size"])
    assert settings["max_steps"] == optimizer_steps(float(config["epochs"]), count, batch_size)
    script = script_of(run, monkeypatch)
    train = prepare(results.sweep).data.splits["train"]
    assert script.load_split("train") == training_examples(train, TrialSpec(config))
    assert len(script.load_split("validation")) == 120
    assert f"It trains on the {count} of 240 training examples" in (run / "README.md").read_text()


def test_a_number_of_tokens_trains_on_all_examples(results: SweepTables, tmp_path: Path) -> None:
    law = RateLaw(None, "no law")
    run = export_run(results, "1", [], tmp_path / "run", Target(tokens=5_000.0), law)
    config = json.loads((run / "run.json").read_text())["configuration"]
    assert "train_samples" not in config
    tokens = sum(len(each["input_ids"]) for each in prepare(results.sweep).data.splits["train"])
    assert config["epochs"] == pytest.approx(5_000 / tokens, abs=1e-4)
    assert (
        f"| training examples | {results.config(1)['train_samples']} | all 240 |"
        in (run / "README.md").read_text()
    )


def test_an_unchanged_amount_keeps_the_steps_of_the_trial(results: SweepTables, tmp_path: Path) -> None:
    config = results.config(1)
    run = export_run(results, "1", [], tmp_path / "run", Target(), RateLaw(None, "no law"))
    steps = optimizer_steps(float(config["epochs"]), int(config["train_samples"]), int(config["batch_size"]))
    assert json.loads((run / "training_args.json").read_text())["max_steps"] == steps
    assert f"| steps | {steps} | {steps} |" in (run / "README.md").read_text()


def test_a_probe_takes_shares_of_the_examples_of_the_point(results: SweepTables) -> None:
    point = str(results.front["trial"].iloc[0])
    searched = int(results.config(int(point))["train_samples"])
    prober = _Prober(results, results.sweep.model.name)
    for run in plan_probe(results, [point], shares=(0.25, 0.5, 0.75, 1.0, 2.0), rates=(1.0,)):
        spec = prober.spec(run)
        assert spec.config["train_samples"] == max(1, round(run.share * searched))
        assert len(training_examples(prober.data.splits["train"], spec)) == spec.config["train_samples"]


def test_a_short_configuration_shows_its_amount() -> None:
    config = {"family": "head", "epochs": 0.5, "train_samples": 2000}
    assert short_config(config) == "head 0.5 ep · 2\u00a0k ex"
