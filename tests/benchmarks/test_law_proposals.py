"""The problems of `benchmarks.law_proposals`: the known front is reached by the best values, which move or do not."""

from __future__ import annotations

import pytest

from benchmarks.law_proposals import PROBLEMS, build


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_best_values_reach_the_known_front(name: str) -> None:
    problem = build(name)
    rate, _, decay = PROBLEMS[name]
    best = []
    for samples in (100, 300, 1000, 3000, 10_000):
        scale = samples / 1000
        rates = {"lr": 1e-3 * scale**rate, "weight_decay": 1e-2 * scale**decay, "dropout": 0.1}
        batches = [{"train_samples": samples, "batch_size": batch, **rates} for batch in (8, 16, 32, 64)]
        best.append(min(batches, key=problem.error))
        problem.space.validate(best[-1])
    assert problem.gaps(best)[-1] < 0.25
    slower = [{**config, "lr": config["lr"] / 100} for config in best]
    assert problem.gaps(slower)[-1] > 0.5
    assert [problem.cost(config) for config in best][::4] == [2.0, 4.0]
