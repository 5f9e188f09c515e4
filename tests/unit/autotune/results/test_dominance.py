"""Probabilities of dominance and the paired comparison of two points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from autotune.results.confirmation_runs import RunKey
from autotune.results.dominance import dominance_probabilities, paired_variances


def test_the_probability_of_a_difference_worked_by_hand() -> None:
    # Point 0 costs less and is better by 0.2, with a variance of 0.01 + 0.03: t = 1 with 4 degrees of freedom.
    losses = np.array([[0.1, 1.0], [0.3, 2.0]])
    variances = np.array([[0.01, 0.0], [0.03, 0.0]])
    found = dominance_probabilities(losses, variances, [4, 0], np.zeros((2, 2, 2)))
    assert found[0, 1] == pytest.approx(stats.t.cdf(1.0, 4))
    assert found[1, 0] == 0.0  # it costs more, whatever its score
    assert np.diag(found).tolist() == [0.0, 0.0]


def test_an_unknown_noise_leaves_the_order_open() -> None:
    losses = np.array([[0.1, 1.0], [0.9, 2.0]])
    found = dominance_probabilities(losses, np.full((2, 2), np.nan), [1, 0], np.zeros((2, 2, 2)))
    assert found[0, 1] == 0.5


def test_several_noisy_scores_all_have_to_be_better() -> None:
    losses = np.array([[0.0, 0.0], [1.0, 0.0]])
    found = dominance_probabilities(losses, np.full((2, 2), 0.5), [30, 30], np.zeros((2, 2, 2)))
    assert found[0, 1] == pytest.approx(stats.t.cdf(1.0, 30) * 0.5)


def test_pairs_of_examples_cancel_what_both_points_find_hard() -> None:
    rng = np.random.default_rng(0)
    hard = (rng.random(1000) < 0.7).astype(float)
    other = hard.copy()
    other[:10] = 1.0 - other[:10]
    scores = {
        RunKey(1, 5): {"accuracy": hard},
        RunKey(2, 5): {"accuracy": other},
        RunKey(3, 6): {"accuracy": other},
    }
    found = paired_variances(scores, {1: [5], 2: [5, 6], 3: [6], 4: [5]}, "accuracy")
    assert found[0, 1] == found[1, 0] == pytest.approx((hard - other).var(ddof=1) / 1000)
    assert found[0, 1] < 0.05 * 2 * hard.var() / 1000
    assert found[0, 2] == 0.0, "no seed in common"
    assert found[:, 3].tolist() == [0.0] * 4, "no scores per example"
