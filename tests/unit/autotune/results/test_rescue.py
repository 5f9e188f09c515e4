"""Rescued points: as many runs as those that they displace, or no recommendation."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from autotune.results.estimates import reported_front
from autotune.results.recommendation import recommend
from autotune.results.rescue import rescued_trials
from autotune.results.selection import best_trial
from autotune.results.sweep_tables import SweepTables
from tests.support.confirmations import searched_sweep

SEARCHED = [0.60, 0.70, 0.90, 0.89]
"""Trial 3 costs more than trial 2 and scored less, so it is off the search's front."""
COSTS = [1e3, 1e4, 1e5, 2e5]


def confirmed(runs: dict[int, list[float]], costs: list[float] = COSTS) -> SweepTables:
    """The sweep with these scores of confirmation runs by trial, and its reported front."""
    searched = searched_sweep(costs, SEARCHED)
    rows = [
        {"trial": trial, "seed": seed, "elapsed": 1.0, "metric.accuracy": score}
        for trial, scores in runs.items()
        for seed, score in enumerate(scores)
    ]
    table = pd.DataFrame(rows)
    trials = searched.trials.assign(on_front=reported_front(searched.objectives, searched.trials, table))
    return replace(searched, trials=trials, confirmations=table)


PAIRS = {0: [0.60, 0.61], 1: [0.70, 0.71], 2: [0.85, 0.86]}


def test_a_rescued_point_with_one_run_is_shown_and_neither_best_nor_recommended() -> None:
    results = confirmed({**PAIRS, 3: [0.97]})
    assert rescued_trials(results) == {3}
    assert 3 in set(results.front["trial"])
    assert best_trial(results, results.front) == 2
    assert recommend(results, results.front).trial != 3


def test_a_rescued_point_with_as_many_runs_is_the_best() -> None:
    results = confirmed({**PAIRS, 3: [0.96, 0.97]})
    assert best_trial(results, results.front) == 3
    alone = results.front[results.front["trial"] == 3]
    assert recommend(results, alone).trial == 3


@pytest.mark.parametrize(("runs", "trial"), [([0.97], None), ([0.97, 0.96], 3)])
def test_a_rescued_point_that_displaced_all_others_is_recommended_with_enough_runs(
    runs: list[float], trial: int | None
) -> None:
    # Trial 3 costs what trial 2 costs and dominates it; without the others it would be the only point to recommend.
    results = confirmed({**PAIRS, 3: runs}, [1e3, 1e4, 1e5, 1e5])
    assert set(results.front["trial"]) == {0, 1, 3}
    found = recommend(results, results.front[results.front["trial"] == 3])
    assert found.trial == trial
    if trial is None:
        assert found.reason == "trial 3 has fewer confirmation runs than the points that it displaces"


def test_a_point_of_the_front_of_the_search_needs_no_more_runs() -> None:
    results = confirmed({0: [0.60, 0.61], 1: [0.70, 0.71], 2: [0.97]})
    assert not rescued_trials(results)
    assert best_trial(results, results.front) == 2
