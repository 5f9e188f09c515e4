"""SAAS ensembles: the prior, what they learn, and the mixture."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from search_spaces.errors import InvalidInputError
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess, Hyperparameters
from surrogates.gaussian_processes.saas import TAU_SCALE, SaasEnsemble, log_saas_prior, tau_quantiles
from surrogates.gaussian_processes.saas_bayesian import fit_bayesian_saas

COLUMNS = 20
EMBEDDING = Embedding(np.zeros(COLUMNS, dtype=int))
HAS_JAX = importlib.util.find_spec("numpyro") is not None


def sparse(X: np.ndarray) -> np.ndarray:
    """A function of the first two of all columns."""
    return np.sin(4.0 * X[:, 0]) + 4.0 * (X[:, 1] - 0.5) ** 2


def data(n: int, seed: int = 0, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.random((n, COLUMNS))
    return X, sparse(X) + noise * rng.standard_normal(n)


@pytest.fixture(scope="module")
def ensemble() -> SaasEnsemble:
    return SaasEnsemble.fit(*data(60), EMBEDDING)


def test_the_prior_is_the_half_cauchy_density_of_the_inverse_squared_lengthscale():
    """Equation: p(rho) ~ 1 / (1 + (rho / tau)^2), rho = l^-2, times d rho / d (1 / l) = 2 / l."""
    lengths, tau = torch.tensor([0.5, 2.0, 7.0], dtype=torch.double), 0.3
    expected = sum(
        math.log(1.0 / length) - math.log(1.0 + (length**-2 / tau) ** 2) for length in lengths.tolist()
    )
    assert float(log_saas_prior(lengths, tau)) == pytest.approx(expected)


def test_less_tau_shrinks_more():
    long, short = torch.tensor([10.0], dtype=torch.double), torch.tensor([0.5], dtype=torch.double)
    ratios = [float(log_saas_prior(long, tau) - log_saas_prior(short, tau)) for tau in tau_quantiles(4)]
    assert ratios == sorted(ratios, reverse=True)


def test_quantiles_halve_the_probability_of_tau():
    assert tau_quantiles(1) == pytest.approx(
        [TAU_SCALE]
    )  # the median of a half-Cauchy distribution is its scale
    assert np.all(np.diff(tau_quantiles(4)) > 0)


def test_columns_with_an_effect_get_the_short_lengthscales(ensemble):
    for member in ensemble.members:
        lengths = member.hyperparameters.lengthscales
        assert set(np.argsort(lengths)[:2].tolist()) == {0, 1}
        assert np.median(lengths[2:]) > 3.0 * lengths[:2].max()


def test_it_predicts_a_function_of_few_columns_better_than_the_dense_prior(ensemble):
    X, y = data(60)
    rng = np.random.default_rng(1)
    T = rng.random((400, COLUMNS))
    losses = []
    for model in (ensemble, GaussianProcess.fit(X, y, EMBEDDING)):
        mean, std = model.predict(T)
        losses.append(-norm.logpdf(sparse(T), mean, std).mean())
    assert losses[0] < losses[1]


def test_few_observations_of_many_columns_are_not_explained_by_two(ensemble):
    """The log loss was 8 with the density over the inverse squared lengthscale; it is that of the data's spread."""
    losses = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = rng.random((20, 30))
        T = rng.random((200, 30))
        weights = rng.standard_normal(30)
        dense = [np.tanh((each - 0.5) @ weights) for each in (X, T)]
        mean, std = SaasEnsemble.fit(X, dense[0], Embedding(np.zeros(30, dtype=int))).predict(T)
        spread = norm.logpdf(dense[1], dense[0].mean(), dense[0].std())
        losses.append(float((spread - norm.logpdf(dense[1], mean, std)).mean()))
    assert max(losses) < 1.0


def test_the_mixture_has_the_moments_of_its_members():
    X, y = data(12)
    hyperparameters = [Hyperparameters(np.full(COLUMNS, length), 1.0, 0.05) for length in (1.0, 5.0)]
    mixed = SaasEnsemble.of(X, y, EMBEDDING, hyperparameters)
    T = np.random.default_rng(3).random((6, COLUMNS))
    means, stds = zip(*(member.predict(T) for member in mixed.members), strict=True)
    mean, std = mixed.predict(T)
    assert mean == pytest.approx(np.mean(means, axis=0))
    second = np.mean([m**2 + s**2 for m, s in zip(means, stds, strict=True)], axis=0)
    assert std**2 == pytest.approx(second - mean**2)

    features = torch.as_tensor(EMBEDDING.features(T))
    with torch.no_grad():
        alone, joint = mixed.posterior(features.unsqueeze(1)), mixed.posterior(features)
        each = [member.posterior(features).distribution.covariance_matrix for member in mixed.members]
    assert alone.mean[:, 0, 0].numpy() == pytest.approx(mean)
    assert alone.variance[:, 0, 0].numpy() == pytest.approx(std**2)
    assert joint.mean[:, 0].numpy() == pytest.approx(mean)
    assert joint.variance[:, 0].numpy() == pytest.approx(std**2)
    covariance = joint.distribution.covariance_matrix.numpy()
    spread = np.subtract(*means) / 2.0
    within = torch.stack(each).mean(dim=0).numpy()
    assert covariance == pytest.approx(within + np.outer(spread, spread))


@pytest.mark.filterwarnings("ignore:A not p.d.")
def test_a_singular_joint_posterior_can_be_sampled():
    """Thirty copies each of two close points; without jitter the covariance has no Cholesky factor."""
    X, T = np.linspace(0.0, 1.0, 5)[:, None], np.repeat([[0.3], [0.31]], 30, axis=0)
    embedding = Embedding(np.array([0]))
    members = [Hyperparameters(np.array([length]), 10.0, 1e-5) for length in (2.0, 5.0)]
    mixed = SaasEnsemble.of(X, np.sin(X[:, 0]), embedding, members)
    with torch.no_grad():
        posterior = mixed.posterior(torch.as_tensor(embedding.features(T)))
        with pytest.raises(torch.linalg.LinAlgError):
            torch.linalg.cholesky(posterior.distribution.covariance_matrix)
        assert torch.isfinite(posterior.rsample(torch.Size([8]))).all()


def test_leave_one_out_is_the_density_of_the_mixture():
    X, y = data(15)
    hyperparameters = [Hyperparameters(np.full(COLUMNS, length), 1.0, 0.05) for length in (1.0, 5.0)]
    mixed = SaasEnsemble.of(X, y, EMBEDDING, hyperparameters)
    densities = np.exp([member.leave_one_out() for member in mixed.members])
    assert np.exp(mixed.leave_one_out()) == pytest.approx(densities.mean(axis=0))


def test_conditioning_keeps_the_mean_and_reduces_the_uncertainty(ensemble):
    T = np.random.default_rng(5).random((3, COLUMNS))
    more = ensemble.condition_on(T)
    for before, after in zip(ensemble.members, more.members, strict=True):
        assert after.predict(T)[0] == pytest.approx(before.predict(T)[0], abs=1e-6)
        assert (after.predict(T)[1] < before.predict(T)[1]).all()
    assert ensemble.condition_on(np.empty((0, COLUMNS))) is ensemble


def test_inactive_and_nominal_columns_are_embedded():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.random(40), rng.integers(0, 3, 40), rng.random(40)])
    X[X[:, 1] == 0, 2] = np.nan
    y = (X[:, 1] == 1).astype(float) + np.nan_to_num(X[:, 2])
    fitted = SaasEnsemble.fit(X, y, Embedding(np.array([0, 3, 0])))
    mean, std = fitted.predict(X)
    assert np.abs(mean - y).mean() < 0.1
    assert np.isfinite(std).all()


@pytest.mark.skipif(HAS_JAX, reason="jax is installed")
def test_without_jax_the_sampler_names_the_extra():
    with pytest.raises(InvalidInputError, match=r"pip install 'autotune-peft\[fully-bayesian\]'"):
        fit_bayesian_saas(*data(10), EMBEDDING)


@pytest.mark.slow  # a minute
@pytest.mark.skipif(not HAS_JAX, reason="jax is not installed")
def test_samples_from_the_posterior_find_the_columns_with_an_effect():
    fitted = fit_bayesian_saas(*data(40), EMBEDDING)
    assert len(fitted.members) == 16
    lengths = np.median([member.hyperparameters.lengthscales for member in fitted.members], axis=0)
    assert set(np.argsort(lengths)[:2].tolist()) == {0, 1}
    assert fitted.leave_one_out().shape == (40,)
