"""Repeated runs of a configuration: their squared deviations inform the noise that a surrogate fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.fitting import log_likelihood, log_likelihood_within
from surrogates.gaussian_processes.gaussian_process import GaussianProcess
from surrogates.gaussian_processes.observations import WithinGroups
from surrogates.gaussian_processes.saas import SaasEnsemble

EMBEDDING = Embedding(np.zeros(2, dtype=int))
SURROGATES = pytest.mark.parametrize("surrogate", [GaussianProcess, SaasEnsemble])


def data() -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).random((16, 2))
    return X, 10.0 * np.sin(4.0 * X[:, 0])


def test_the_density_of_runs_is_that_of_means_and_deviations() -> None:
    """Up to a constant, the likelihood of all runs is that of the means times that of the squared deviations."""
    rng = np.random.default_rng(1)
    K = np.array([[1.0, 0.4], [0.4, 1.0]])
    groups = np.array([0, 0, 0, 1, 1])
    y = rng.normal(size=5)
    counts, means = np.array([3.0, 2.0]), np.array([y[:3].mean(), y[3:].mean()])
    squares = float(((y - means[groups]) ** 2).sum())
    constants = []
    for noise in (0.01, 0.2, 1.5):
        whole = multivariate_normal(cov=K[np.ix_(groups, groups)] + noise * np.eye(5)).logpdf(y)
        of_means = log_likelihood(torch.tensor(K + np.diag(noise / counts)), torch.tensor(means))
        within = log_likelihood_within(torch.tensor(noise, dtype=torch.double), squares, 3.0)
        constants.append(whole - float(of_means + within))
    np.testing.assert_allclose(constants, constants[0])


@SURROGATES
def test_repeats_that_differ_raise_the_noise(surrogate: type[GaussianProcess] | type[SaasEnsemble]) -> None:
    X, y = data()
    runs = np.full(16, 2.0)
    smooth = surrogate.fit(X, y, EMBEDDING, replicates=runs)
    noisy = surrogate.fit(X, y, EMBEDDING, replicates=runs, within=WithinGroups(16 * 9.0, 16.0))
    close = surrogate.fit(X, y, EMBEDDING, replicates=runs, within=WithinGroups(0.0, 16.0))
    assert smooth.noise_variance < 1.0
    assert noisy.noise_variance == pytest.approx(9.0, rel=0.5)
    assert close.noise_variance < smooth.noise_variance
    assert (noisy.predict(X)[1] > 2.0 * smooth.predict(X)[1]).all()


@SURROGATES
def test_without_repeats_nothing_changes(surrogate: type[GaussianProcess] | type[SaasEnsemble]) -> None:
    X, y = data()
    expected = surrogate.fit(X, y, EMBEDDING).predict(X)
    np.testing.assert_array_equal(surrogate.fit(X, y, EMBEDDING, within=WithinGroups()).predict(X), expected)


@pytest.mark.parametrize("numbers", [(-1.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)])
def test_deviations_that_are_none(numbers: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="give finite numbers, 0 or more"):
        WithinGroups(*numbers)
