"""A sweep with the strategy and the schedule of AutoPEFT on a tiny model."""

from __future__ import annotations

import pytest

from autotune.engine.sweep_run import run_sweep
from autotune.ledger.folder_reader import FolderReader
from tests.support.sweeps import light_sweeps, small_sweep

SPACE = {
    "families": ["lora"],
    "parameters": {"epochs": 4, "batch_size": 16, "lora.rank": {"low": 1, "high": 8}, "lora.dora": False},
}


@pytest.fixture(scope="module")
def results(tiny_model, reviews, tmp_path_factory):
    sweep = small_sweep(
        tiny_model("bert"),
        reviews,
        space=SPACE,
        objectives=["accuracy", "trainable_params"],
        budget={"trials": 6},
        fidelity={"train_samples": 48, "eval_samples": 40, "evaluations": 4, "patience": 1, "score": "best"},
        sampler={"name": "pareto", "strategy": "autopeft", "n_startup": 3},
        confirm={"seeds": 1, "points": 1},
        executor={"name": "packed", "workers": 2},
    )
    with light_sweeps():
        return run_sweep(sweep, tmp_path_factory.mktemp("sweep") / "out")


def test_trials_end_early_and_are_complete(results):
    trials = results.trials
    assert set(trials["status"]) == {"complete"}
    assert (trials["share"] < 1).any()
    assert set(trials["share"]) <= {0.5, 0.75, 1.0}


def test_the_share_is_that_of_the_steps_that_were_trained(results):
    for row in results.trials.itertuples():
        steps = results.curves.loc[results.curves["trial"] == row.trial, "step"]
        assert row.share == pytest.approx(steps.max() / 12)


def test_the_score_is_that_of_the_best_evaluation(results):
    curves = results.curves.groupby("trial")["metric.accuracy"].max()
    assert results.trials.set_index("trial")["accuracy"].to_dict() == pytest.approx(curves.to_dict())


def test_batches_are_stored_with_their_trials(results):
    trials = FolderReader(results.folder, results.sweep).trials()
    batches = [trial.system_attrs["autotune:proposal"]["batch"] for trial in trials[3:]]
    assert [batch["position"] for batch in batches] == [0, 1, 2]
    assert len({batch["first"] for batch in batches}) == 1
