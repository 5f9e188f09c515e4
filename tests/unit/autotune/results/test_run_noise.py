"""The noise between runs, pooled over points or shrunken towards the pool."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from autotune.results.confirmation_runs import RunKey
from autotune.results.run_noise import RunNoise, binomial_variances, run_noise


def draws(deviations: list[float], runs: int, seed: int) -> RunNoise:
    rng = np.random.default_rng(seed)
    points = np.repeat(np.arange(len(deviations)), runs)
    return run_noise(
        pd.Series(rng.normal(size=len(points)) * np.array(deviations)[points]), pd.Series(points)
    )


def test_the_pooled_variance_worked_by_hand() -> None:
    # Sums of squares 2 * 0.01 and 0.02 about the means, over 5 runs of 3 points.
    noise = run_noise(pd.Series([0.1, 0.3, 0.5, 0.2, 0.4, np.nan]), pd.Series([1, 1, 2, 3, 3, 2]))
    assert noise.common == pytest.approx(0.02)
    assert (noise.freedom, noise.is_pooled) == (2, True)
    assert noise.variances.to_dict() == {1: noise.common, 2: noise.common, 3: noise.common}


def test_one_run_of_each_point_has_no_known_noise() -> None:
    noise = run_noise(pd.Series([0.1, 0.3]), pd.Series([1, 2]))
    assert math.isnan(noise.common)
    assert noise.half_widths(pd.Series([1, 1], [1, 2]), 0.95).isna().all()


def test_two_runs_of_several_points_give_a_usable_interval() -> None:
    # 8 points, 2 runs each: t(0.975, 8) = 2.306 instead of t(0.975, 1) = 12.706.
    noise = draws([0.01] * 8, 2, seed=0)
    widths = noise.half_widths(pd.Series([2] * 8), 0.95)
    assert widths.to_numpy() == pytest.approx(2.306004 * math.sqrt(noise.common / 2), rel=1e-5)


def test_pooled_intervals_cover_the_true_mean() -> None:
    # 300 sweeps of 6 points: 1800 intervals that share a variance within a sweep; the standard error of the coverage
    # is below 1 %, so the bounds are at least three of them away.
    covered = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        points = pd.Series(np.repeat(np.arange(6), [1, 2, 2, 3, 3, 4]))
        scores = pd.Series(rng.normal(size=len(points)))
        groups = scores.groupby(points)
        half = run_noise(scores, points).half_widths(groups.count(), 0.95)
        covered += list(groups.mean().abs() <= half)
    assert 0.92 < np.mean(covered) < 0.98


def test_equal_variances_are_pooled_and_clearly_different_ones_are_not() -> None:
    # The test is at the 1 % level: of 200 sweeps with equal variances, more than 8 shrink with probability 0.02 %.
    assert sum(not draws([0.01] * 8, 4, seed).is_pooled for seed in range(200)) <= 8
    mixed = draws([0.001, 0.001, 0.001, 0.05, 0.05, 0.05], 6, seed=1)
    assert not mixed.is_pooled
    assert mixed.variances[:3].max() < 0.3 * mixed.common < mixed.variances[3:].min()
    assert (mixed.freedoms <= mixed.freedom).all()
    assert (mixed.freedoms > 5).all()


def test_points_whose_runs_agree_exactly_keep_some_noise() -> None:
    scores = pd.Series([0.5] * 6 + [0.5, 0.6, 0.7, 0.8, 0.9, 0.4])
    noise = run_noise(scores, pd.Series([1] * 3 + [2] * 3 + [3] * 3 + [4] * 3))
    assert (noise.variances > 0).all()


def right(count: int, of: int) -> dict[str, np.ndarray]:
    return {"accuracy": np.repeat([1.0, 0.0], [count, of - count]), "eval_loss": np.linspace(0.1, 2.0, of)}


def test_runs_that_tie_have_the_noise_of_a_proportion_where_the_score_is_one() -> None:
    scores, points = pd.Series([0.9, 0.9, 0.8]), pd.Series([1, 1, 2])
    examples = {RunKey(1, 3): right(90, 100), RunKey(1, 5): right(90, 100), RunKey(2, 3): right(80, 100)}
    noise = run_noise(scores, points, binomial_variances(examples, "accuracy"))
    assert noise.variances.to_dict() == pytest.approx({1: 0.9 * 0.1 / 100, 2: 0.8 * 0.2 / 100}, rel=0.05)
    # The variance is not estimated from the runs: the quantile is that of a normal distribution.
    widths = noise.half_widths(pd.Series([2, 1], [1, 2]), 0.95)
    assert widths.to_numpy() == pytest.approx(1.95996 * np.sqrt(noise.variances / [2, 1]), rel=1e-4)


def test_runs_that_tie_have_no_known_noise_where_the_score_is_no_proportion() -> None:
    examples = {RunKey(1, 3): right(90, 100), RunKey(1, 5): right(90, 100)}
    assert binomial_variances(examples, "eval_loss").empty
    assert binomial_variances(examples, "f1").empty
    noise = run_noise(pd.Series([0.3, 0.1 + 0.2, 0.7]), pd.Series([1, 1, 2]))
    assert math.isnan(noise.common)
    assert noise.half_widths(pd.Series([2, 1], [1, 2]), 0.95).isna().all()


def test_runs_that_differ_keep_their_own_noise() -> None:
    examples = {RunKey(1, 3): right(90, 100), RunKey(1, 5): right(92, 100)}
    binomial = binomial_variances(examples, "accuracy")
    noise = run_noise(pd.Series([0.90, 0.92]), pd.Series([1, 1]), binomial)
    assert noise.common == pytest.approx(2e-4)
    assert noise.freedom == 1


def test_runs_that_answer_everything_right_have_some_noise() -> None:
    assert 0 < binomial_variances({RunKey(1, 3): right(50, 50)}, "accuracy")[1] < 1e-3
