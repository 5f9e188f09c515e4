"""Estimates of scores, and the fronts of the search and of the report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from autotune.results.confirmation_runs import empty_confirmations
from autotune.results.estimates import estimates, reported_front, search_front
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import quality
from tests.support.confirmations import searched_sweep


def runs_of(*rows: tuple[int, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"trial": trial, "seed": i, "elapsed": 1.0, "metric.accuracy": y}
            for i, (trial, y) in enumerate(rows)
        ]
    )


def with_posterior(results: SweepTables, means: list[float], deviations: list[float]) -> pd.DataFrame:
    return results.trials.assign(**{"posterior.accuracy": means, "posterior_sd.accuracy": deviations})


def test_without_runs_there_is_no_estimate() -> None:
    results = searched_sweep([1e3, 1e4], [0.8, 0.9])
    assert estimates(quality(results), results.trials, empty_confirmations()).empty


def test_the_search_counts_as_one_run_without_its_selection_bias() -> None:
    results = searched_sweep([1e3, 1e4], [0.83, 0.93])
    runs = runs_of((0, 0.80), (0, 0.80), (1, 0.92), (1, 0.92))
    # The bias is (0.03 + 0.01) / 2 = 0.02: the search says 0.81 and 0.91.
    found = estimates(quality(results), results.trials, runs)
    assert found.to_dict() == pytest.approx({0: (1.6 + 0.81) / 3, 1: (1.84 + 0.91) / 3})


def test_a_posterior_counts_by_its_precision_and_as_one_run_at_most() -> None:
    results = searched_sweep([1e3, 1e4, 1e5], [0.83, 0.93, 0.95])
    trials = with_posterior(results, [0.81, 0.91, np.nan], [1.0, 1e-6, np.nan])
    runs = runs_of((0, 0.80), (0, 0.82), (1, 0.92), (1, 0.94), (2, 0.96), (2, 0.94))
    found = estimates(quality(results), trials, runs)
    variance = 2e-4  # of one run: six deviations of 0.01 with three degrees of freedom
    assert found[0] == pytest.approx((2 * 0.81 + variance * 0.81) / (2 + variance))
    assert found[1] == pytest.approx((2 * 0.93 + 0.91) / 3)
    assert 0.94 < found[2] < 0.96


def test_the_front_of_the_search_is_that_of_posterior_means() -> None:
    results = searched_sweep([1e3, 1e4, 1e5], [0.83, 0.93, 0.92])
    assert search_front(results.objectives, results.trials).tolist() == [True, True, False]
    trials = with_posterior(results, [0.82, 0.90, 0.92], [0.01, 0.01, 0.01])
    assert search_front(results.objectives, trials).tolist() == [True, True, True]
    trials["posterior.accuracy"] = np.nan
    assert search_front(results.objectives, trials).tolist() == [True, True, False]


def test_a_trial_without_a_value_has_no_place_on_the_front() -> None:
    results = searched_sweep([1e3, 1e4], [0.83, np.nan])
    trials = with_posterior(results, [0.82, 0.95], [0.01, 0.01])
    assert search_front(results.objectives, trials).tolist() == [True, False]


def test_a_point_without_runs_stays_unless_an_estimate_dominates_it() -> None:
    # Trial 1 was not run. Trial 0 is confirmed at 0.84 or at 0.97, beyond what the search says of trial 1.
    results = searched_sweep([1e3, 1e4, 1e5], [0.84, 0.90, 0.97])
    kept = reported_front(results.objectives, results.trials, runs_of((0, 0.84), (2, 0.97)))
    assert kept.tolist() == [True, True, True]
    out = reported_front(results.objectives, results.trials, runs_of((0, 0.97), (0, 0.97), (2, 0.97)))
    assert out.tolist() == [True, False, True]


def test_a_point_without_runs_removes_no_confirmed_point() -> None:
    results = searched_sweep([1e3, 1e4, 1e5], [0.84, 0.90, 0.97])
    front = reported_front(results.objectives, results.trials, runs_of((0, 0.84), (2, 0.88)))
    assert front[2], "only trial 1, which has no run, is better"


def test_estimates_outside_a_limit_are_off_the_front() -> None:
    results = searched_sweep([1e3, 1e4], [0.84, 0.90])
    objectives = [results.objectives[0].model_copy(update={"min": 0.85}), results.objectives[1]]
    front = reported_front(objectives, results.trials, runs_of((1, 0.80), (1, 0.80)))
    assert front.tolist() == [False, False]
