"""Noisy scores in a sweep: posterior means, repeated configurations, and a confirmation that spends runs by need."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.engine.sweep_run import SweepInterruptedError
from autotune.ledger.folder_reader import FolderReader
from autotune.ledger.ledger import open_ledger
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import read_tables
from autotune.results.tables import front_table
from search_spaces.parameters.types import Configuration
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import Watcher, fake_run, small_sweep, stop_at

pytestmark = pytest.mark.usefixtures("light_sweeps")


def noisy_metrics(config: Configuration, seed: int, share: float) -> dict[str, float]:
    """Accuracy that grows with the rank and has a standard deviation of 5 points between seeds."""
    true = 0.7 + 0.02 * float(config.get("lora.rank", 0))
    own = zlib.crc32(str(sorted(config.items())).encode())
    return {"accuracy": float(np.clip(true + 0.05 * np.random.default_rng([seed, own]).normal(), 0.0, 1.0))}


def noisy_sweep(tiny_model: Any, reviews: Path, **changes: Any) -> Any:
    given = {"budget": {"trials": 16}, "sampler": {"name": "pareto", "n_startup": 8, "n_candidates": 16}}
    return small_sweep(tiny_model("bert"), reviews, **{**given, **changes})


def test_posterior_means_are_stored_and_decide_the_front_of_the_search(tiny_model, reviews, tmp_path):
    sweep = noisy_sweep(tiny_model, reviews, confirm={"seeds": 2, "points": 3})
    fake_run(sweep, tmp_path / "out", executor=FakeExecutor(workers=1, metrics=noisy_metrics))
    results = read_tables(tmp_path / "out")
    known = results.trials["posterior.accuracy"].notna()
    assert known.sum() >= 10
    raw, smooth = results.trials["metric.accuracy"][known], results.trials["posterior.accuracy"][known]
    assert smooth.std() < raw.std()
    front = results.search_front.sort_values("trainable_params")
    assert front["posterior.accuracy"].is_monotonic_increasing
    table = front_table(results)
    assert {"accuracy", "posterior.accuracy", "posterior_sd.accuracy", "estimate.accuracy"} <= set(table)
    assert len(results.confirmations) <= 2 * 3


def test_runs_of_a_configuration_keep_their_values_and_enter_the_front_as_their_mean(
    tiny_model, reviews, tmp_path
):
    sampler = {"name": "pareto", "n_startup": 8, "n_candidates": 16, "resample": 0.5}
    sweep = noisy_sweep(tiny_model, reviews, sampler=sampler, confirm={"seeds": 0}, seed=1)
    fake_run(sweep, tmp_path / "out", executor=FakeExecutor(workers=1, metrics=noisy_metrics))
    results = read_tables(tmp_path / "out")
    trials = results.trials
    repeated = trials[trials["runs"] > 1]
    assert len(repeated) >= 4
    for _, group in repeated.groupby(repeated["config"].map(str)):
        assert group["seed"].nunique() == len(group) == group["runs"].iloc[0]
        assert group["accuracy"].tolist() == group["metric.accuracy"].tolist()
        assert group["accuracy"].nunique() > 1
        assert group["pooled.accuracy"].to_numpy() == pytest.approx(group["accuracy"].mean())
        assert group["on_front"].sum() <= 1
    assert trials["seed"].is_unique
    front = front_table(results).set_index("trial")
    assert front["accuracy"].to_dict() == trials.set_index("trial")["pooled.accuracy"][front.index].to_dict()
    assert set(results.front["trial"]) & set(repeated["trial"]), "a point of the front ran more than once"
    chosen = pick_trial(results, "best")
    assert chosen in set(results.front["trial"])


def test_an_interrupted_confirmation_by_need_ends_like_an_uninterrupted_one(tiny_model, reviews, tmp_path):
    sweep = noisy_sweep(tiny_model, reviews, budget={"trials": 8}, confirm={"seeds": 3, "points": 3})

    def run(folder: str, watcher: Watcher | None = None) -> Counter[Any]:
        fake_run(sweep, tmp_path / folder, watcher, FakeExecutor(workers=1, metrics=noisy_metrics))
        runs = read_tables(tmp_path / folder).confirmations
        return Counter(zip(runs["trial"], runs["seed"], strict=True))

    whole = run("whole")
    with pytest.raises(SweepInterruptedError):
        run("cut", Watcher(stop_at(10)))
    with pytest.raises(SweepInterruptedError):
        run("cut", Watcher(stop_at(2)))
    assert run("cut") == whole
    assert set(whole.values()) == {1}


def test_a_run_that_is_lost_again_and_again_ends(tiny_model, reviews, tmp_path):
    sweep = noisy_sweep(tiny_model, reviews, budget={"trials": 4}, confirm={"seeds": 2, "points": 2})
    results = fake_run(
        sweep, tmp_path / "out", executor=FakeExecutor(workers=1, loses=lambda count: count >= 4)
    )
    assert results.confirmations.empty
    attempts = Counter(
        (trial.user_attrs["trial"], trial.user_attrs["seed"])
        for trial in FolderReader(tmp_path / "out", results.sweep).trials("confirm")
    )
    assert set(attempts.values()) == {3}


def test_few_trials_have_no_posterior(tiny_model, reviews, tmp_path):
    results = fake_run(small_sweep(tiny_model("bert"), reviews, confirm={"seeds": 0}), tmp_path / "out")
    assert "posterior.accuracy" not in results.trials
    assert open_ledger(tmp_path / "out", results.sweep).study.user_attrs["posterior"] == {"scores": {}}
