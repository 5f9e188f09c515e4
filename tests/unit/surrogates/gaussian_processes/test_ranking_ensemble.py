"""The ranking-weighted ensemble: weights, dropping, and the interface of a surrogate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess, PriorMean
from surrogates.gaussian_processes.mixture import Mixture
from surrogates.gaussian_processes.ranking_ensemble import Ranking, SourceMean, ranking_ensemble

EMBEDDING = Embedding(np.zeros(3, dtype=int))
RNG = np.random.default_rng(3)
X_SOURCE, X = RNG.random((40, 3)), RNG.random((12, 3))


def truth(points: np.ndarray) -> np.ndarray:
    return np.sin(5 * points[:, 0]) + 2 * (points[:, 1] - 0.4) ** 2 + 0.5 * points[:, 2]


def unrelated(points: np.ndarray) -> np.ndarray:
    return np.cos(9 * points[:, 0] + 3) * np.sin(8 * points[:, 2] + 1)


def process(points: np.ndarray, values: np.ndarray) -> GaussianProcess:
    return GaussianProcess.fit(points, (values - values.mean()) / values.std(), EMBEDDING)


SOURCES = {
    "copy": process(X_SOURCE, 7.0 + 100.0 * truth(X_SOURCE)),
    "reversed": process(X_SOURCE, -truth(X_SOURCE)),
    "unrelated": process(X_SOURCE, unrelated(X_SOURCE)),
}


def ensemble(*names: str, n: int = len(X), seed: int = 0) -> tuple[GaussianProcess | Mixture, Ranking]:
    """The ensemble of some sources over the first n points of the study."""
    y = truth(X[:n])
    features = torch.as_tensor(EMBEDDING.features(X[:n]))

    def fit(_: int, prior_mean: PriorMean) -> GaussianProcess:
        return GaussianProcess.fit(X[:n], y, EMBEDDING, prior_mean=prior_mean)

    own = GaussianProcess.fit(X[:n], y, EMBEDDING)
    return ranking_ensemble(own, [SOURCES[name] for name in names], fit, features, y, seed)


def test_a_copy_gets_most_of_the_weight_and_a_reversed_source_is_dropped():
    fitted, ranking = ensemble("copy", "reversed", "unrelated")
    assert ranking.weights[0] > 0.5
    assert ranking.is_dropped.tolist()[1] is True
    assert ranking.weights[1] == 0
    assert ranking.weights[2] < 0.15
    assert ranking.weights.sum() + ranking.own == pytest.approx(1.0)
    assert ranking.agreement[0] > 0.8
    assert ranking.agreement[1] < -0.8
    assert isinstance(fitted, Mixture)


def test_a_copy_makes_predictions_better():
    points = RNG.random((100, 3))
    errors = {
        name: np.abs(fitted.predict(points)[0] - truth(points)).mean()
        for name, fitted in (("copy", ensemble("copy", n=6)[0]), ("own", ensemble(n=6)[0]))
    }
    assert errors["copy"] < 0.5 * errors["own"]


def test_the_own_process_remains_where_every_source_is_dropped():
    fitted, ranking = ensemble("reversed")
    assert isinstance(fitted, GaussianProcess)
    assert ranking.own == 1.0
    assert fitted.prior_mean is None


def test_few_observations_give_equal_weights_and_no_agreement():
    _, ranking = ensemble("copy", "reversed", n=4)
    assert ranking.weights.tolist() == pytest.approx([1 / 3, 1 / 3])
    assert np.isnan(ranking.agreement).all()
    assert not ranking.is_dropped.any()


def test_the_weights_are_a_function_of_the_seed_and_the_data():
    first, again = ensemble("copy", "unrelated")[1], ensemble("copy", "unrelated")[1]
    assert first.weights.tolist() == again.weights.tolist()


def test_the_joint_posterior_agrees_with_its_moments():
    fitted, _ = ensemble("copy")
    features = torch.as_tensor(EMBEDDING.features(RNG.random((5, 3))))
    joint: Any = fitted.posterior(features)
    covariance = joint.distribution.covariance_matrix
    mean, std = fitted.moments(features)
    torch.testing.assert_close(joint.mean.squeeze(-1), mean)
    torch.testing.assert_close(covariance.diagonal().sqrt(), std)
    torch.testing.assert_close(covariance, covariance.T)
    assert float(torch.linalg.eigvalsh(covariance).min()) > -1e-9
    single: Any = fitted.posterior(features.unsqueeze(1))
    torch.testing.assert_close(single.variance.reshape(-1).sqrt(), std)


def test_pending_points_lower_the_variance_and_keep_the_mean():
    fitted, _ = ensemble("copy")
    point = np.full((1, 3), 0.9)
    mean, std = fitted.predict(point)
    after, less = fitted.condition_on(point).predict(point)
    # Each member is conditioned on its own mean, so the means stay apart and only their variances decrease.
    assert after == pytest.approx(mean, abs=1e-3)
    assert less < std
    assert fitted.condition_on(point[:0]) is fitted


def test_the_mixture_of_one_member_is_that_member():
    own = ensemble(n=8)[0]
    mixed = Mixture([own])
    np.testing.assert_allclose(mixed.leave_one_out(), own.leave_one_out())
    np.testing.assert_allclose(mixed.leave_one_out_moments(), own.leave_one_out_moments())
    assert mixed.noise_variance == pytest.approx(own.noise_variance)


def test_leave_one_out_moments_are_those_of_the_process_without_the_observation():
    own = ensemble(n=8)[0]
    assert isinstance(own, GaussianProcess)
    mean, std = own.leave_one_out_moments()
    rest = np.arange(8) != 2
    without = GaussianProcess(
        EMBEDDING,
        type(own.observations).of(X[:8][rest], truth(X[:8])[rest]),
        own.hyperparameters,
        own.offset,
        own.scale,
    )
    expected_mean, expected_std = without.predict(X[2:3])
    assert mean[2] == pytest.approx(expected_mean[0], rel=1e-6)
    assert std[2] == pytest.approx(expected_std[0], rel=1e-6)


def test_a_source_that_disagrees_has_a_slope_that_decreases_with_the_evidence():
    slopes = [
        SourceMean(SOURCES["reversed"], torch.as_tensor(EMBEDDING.features(X[:n])), truth(X[:n])).slope
        for n in (3, 6, 12)
    ]
    assert slopes[0] >= slopes[1] >= slopes[2] == 0
    assert SourceMean(
        SOURCES["copy"], torch.as_tensor(EMBEDDING.features(X)), truth(X)
    ).slope == pytest.approx(truth(X_SOURCE).std(), rel=0.1)
