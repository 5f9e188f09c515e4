"""The Gaussian process over configurations and budgets, with a scaling law as its mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess
from surrogates.gaussian_processes.multi_fidelity import MultiFidelityProcess, ScalingLawMean

ONE = Embedding(np.zeros(2, dtype=int))


def _truth(X: np.ndarray) -> np.ndarray:
    return np.sin(3 * X[:, 0]) + X[:, 1] ** 2


def _curves(n: int, seed: int, coefficient: float = 0.4, exponent: float = 0.8) -> tuple[np.ndarray, ...]:
    """Return n configurations, of which all have scores at 1/9 and 1/3, and a third at the full budget."""
    rng = np.random.default_rng(seed)
    configs = rng.random((n, 2))
    rows, budgets = [], []
    for i in range(n):
        for z in (1 / 9, 1 / 3, 1.0)[: 3 if i % 3 == 0 else 2]:
            rows.append(i)
            budgets.append(z)
    X, z = configs[rows], np.array(budgets)
    y = _truth(X) + coefficient * (z**-exponent - 1) + 0.02 * rng.standard_normal(len(z))
    return X, z, y


def test_the_law_is_zero_at_the_full_budget_and_a_power_below() -> None:
    mean = ScalingLawMean(1.0)
    mean.initialize(coefficient=torch.tensor(0.3).double(), raw_exponent=torch.tensor(np.log(2.0)))
    features = torch.tensor([[5.0, 0.0], [7.0, np.log(0.5)]], dtype=torch.double)
    np.testing.assert_allclose(mean(features).detach().numpy(), [0.0, 0.3 * (0.5**-2 - 1)], rtol=1e-6)


def test_the_law_is_recovered_and_predictions_are_for_the_full_budget() -> None:
    X, z, y = _curves(40, 0)
    model = MultiFidelityProcess.fit(X, z, y, ONE)
    law = [float(model.mean.coefficient * (b ** -float(model.mean.exponent) - 1)) for b in (1 / 9, 1 / 3)]
    expected = [0.4 * (9**0.8 - 1), 0.4 * (3**0.8 - 1)]
    np.testing.assert_allclose(law, expected, rtol=0.15)
    fresh = np.random.default_rng(1).random((100, 2))
    mean, std = model.predict(fresh)
    errors = np.abs(mean - _truth(fresh))
    assert np.median(errors) < 0.05
    assert np.mean(errors < 2 * std) > 0.8
    low, _ = model.predict(fresh, np.full(100, 1 / 9))
    assert np.median(low - mean) == pytest.approx(expected[0], rel=0.15)


def test_scores_at_low_budgets_inform_about_the_full_one() -> None:
    X, z, y = _curves(36, 2)
    fresh = np.random.default_rng(3).random((200, 2))
    top = z == 1.0
    alone = GaussianProcess.fit(X[top], y[top], ONE).predict(fresh)[0]
    joint = MultiFidelityProcess.fit(X, z, y, ONE).predict(fresh)[0]
    assert np.abs(joint - _truth(fresh)).mean() < 0.7 * np.abs(alone - _truth(fresh)).mean()


@pytest.mark.parametrize("budget", [0.0, 1.5, np.nan])
def test_budgets_that_are_none(budget: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        MultiFidelityProcess.fit(np.zeros((2, 2)), np.array([1.0, budget]), np.zeros(2), ONE)
