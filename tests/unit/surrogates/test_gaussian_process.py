"""The Gaussian process: a valid kernel, exact algebra, sensible fits, and the model of failure."""

from __future__ import annotations

import numpy as np
import pytest

from surrogates import gaussian_process
from surrogates.feasibility import Feasibility
from surrogates.gaussian_process import GaussianProcess, Hyperparameters
from surrogates.kernels import choice_counts, embed, matern, squared_distances


def _conditional(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n configurations of six columns: a nominal parent, two children of choices 0 and 1, three for all."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, 6))
    X[:, 0] = rng.integers(0, 3, n)
    X[X[:, 0] != 0, 1] = np.nan
    X[X[:, 0] != 1, 2] = np.nan
    X[:, 5] = rng.integers(0, 4, n)
    return X, np.array([True, False, False, False, False, True])


def _smooth(X: np.ndarray) -> np.ndarray:
    own = np.where(X[:, 0] == 0, np.sin(4 * np.nan_to_num(X[:, 1])), 0.3 * X[:, 0])
    return own + (X[:, 3] - 0.4) ** 2 + 0.2 * (X[:, 5] == 2)


def _embedded(X: np.ndarray, nominal: np.ndarray) -> np.ndarray:
    return embed(X, nominal, choice_counts(nominal, X))[0]


def test_kernel_is_positive_semi_definite_on_conditional_spaces() -> None:
    for seed in range(20):
        X, nominal = _conditional(60, seed)
        # Repeated rows and every pattern of inactive columns, not only those of the tree.
        X = np.concatenate([X, X[:5], np.where(np.random.default_rng(seed).random(X.shape) < 0.4, np.nan, X)])
        Z = _embedded(X, nominal) * 10 ** np.random.default_rng(seed).uniform(-1, 1)
        assert np.linalg.eigvalsh(matern(squared_distances(Z, Z))).min() > -1e-10


def test_inactive_values_are_equally_far_from_all_active_ones() -> None:
    X = np.array([[0.0], [0.5], [1.0], [np.nan], [np.nan]])
    Z = _embedded(X, np.array([False]))
    squares = squared_distances(Z, Z)
    np.testing.assert_allclose(squares[3, :3], squares[3, 0])
    assert squares[3, 4] == 0.0
    assert squares[0, 1] == pytest.approx(0.25, rel=0.03)
    choices = np.array([[0.0], [1.0], [2.0], [np.nan]])
    Z = _embedded(choices, np.array([True]))
    squares = squared_distances(Z, Z)
    np.testing.assert_allclose(squares[np.triu_indices(3, 1)], 1.0)
    np.testing.assert_allclose(squares[3, :3], squares[3, 0])


def test_a_column_that_both_lack_adds_nothing() -> None:
    X, nominal = _conditional(30, 0)
    lacking = X[X[:, 0] == 2]
    without = np.delete(lacking, [1, 2], axis=1)
    Z, W = _embedded(lacking, nominal), _embedded(without, np.delete(nominal, [1, 2]))
    np.testing.assert_allclose(squared_distances(Z, Z), squared_distances(W, W), atol=1e-12)


def test_gradient_matches_finite_differences() -> None:
    X, nominal = _conditional(25, 1)
    y = _smooth(X)
    problem = gaussian_process._Posterior(X, (y - y.mean()) / y.std(), nominal)
    theta = np.random.default_rng(0).normal(size=8)
    _, gradient = problem.value_and_gradient(theta)
    step = 1e-5 * np.eye(8)
    numeric = [
        (problem.value_and_gradient(theta + e)[0] - problem.value_and_gradient(theta - e)[0]) / 2e-5
        for e in step
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-6)


def test_it_learns_a_conditional_function() -> None:
    X, nominal = _conditional(80, 2)
    fresh, _ = _conditional(200, 3)
    process = GaussianProcess.fit(X, _smooth(X), nominal)
    mean, std = process.predict(fresh)
    truth = _smooth(fresh)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.1 * truth.std()
    assert np.mean(np.abs(mean - truth) < 2 * std) > 0.8


def test_predictions_by_hand() -> None:
    # One observation: with constant variance 1, signal s and noise g, the weight of the observation at its
    # own place is (s + 1) / (s + 1 + g), and the variance (s + 1) * g / (s + 1 + g).
    X = np.array([[0.3]])
    process = gaussian_process._conditioned(
        X, np.array([5.0]), np.array([False]), Hyperparameters(np.ones(1), 2.0, 0.5), 3.0, 2.0
    )
    mean, std = process.predict(X)
    assert mean[0] == pytest.approx(3 + (5 - 3) * 3 / 3.5)
    assert std[0] == pytest.approx(2 * np.sqrt(3 * 0.5 / 3.5))
    assert process.predict(X, noise=True)[1][0] == pytest.approx(2 * np.sqrt(3 * 0.5 / 3.5 + 0.5))


def test_units_of_the_output_carry_through() -> None:
    X, nominal = _conditional(40, 4)
    fresh, _ = _conditional(10, 5)
    mean, std = GaussianProcess.fit(X, _smooth(X), nominal).predict(fresh)
    scaled_mean, scaled_std = GaussianProcess.fit(X, 1e6 * _smooth(X) - 3e7, nominal).predict(fresh)
    np.testing.assert_allclose(scaled_mean, 1e6 * mean - 3e7, rtol=1e-5)
    np.testing.assert_allclose(scaled_std, 1e6 * std, rtol=1e-3)


def test_conditioning_on_the_mean_keeps_it_and_narrows() -> None:
    X, nominal = _conditional(20, 7)
    pending, _ = _conditional(3, 8)
    fresh, _ = _conditional(50, 9)
    process = GaussianProcess.fit(X, _smooth(X), nominal)
    conditioned = process.condition_on(pending)
    np.testing.assert_allclose(conditioned.predict(fresh)[0], process.predict(fresh)[0], atol=1e-6)
    assert (conditioned.predict(fresh)[1] <= process.predict(fresh)[1] + 1e-9).all()
    assert (conditioned.predict(pending)[1] < 0.9 * process.predict(pending)[1]).any()
    told = process.condition_on(pending, np.full(3, 50.0))
    assert (told.predict(pending)[0] > process.predict(pending)[0] + 1).all()
    assert process.condition_on(pending[:0]) is process


def test_noise_is_found() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((150, 2))
    signal = np.sin(5 * X[:, 0])
    y = signal + 0.4 * rng.standard_normal(150)
    process = GaussianProcess.fit(X, y, np.zeros(2, dtype=bool))
    assert process.scale * np.sqrt(process.hyperparameters.noise) == pytest.approx(0.4, rel=0.25)
    assert np.sqrt(np.mean((process.predict(X)[0] - signal) ** 2)) < 0.2


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_equal_or_repeated_observations(n: int) -> None:
    X = np.full((n, 2), 0.5)
    process = GaussianProcess.fit(X, np.full(n, 7.0), np.zeros(2, dtype=bool))
    mean, std = process.predict(np.array([[0.5, 0.5], [0.0, 1.0]]))
    np.testing.assert_allclose(mean, 7.0)
    assert (std > 0).all()


def test_choices_and_activity_never_seen_before() -> None:
    X, nominal = _conditional(30, 10)
    X = X[X[:, 0] != 1]
    process = GaussianProcess.fit(X, _smooth(X), nominal)
    fresh = np.array([[7.0, np.nan, 0.5, 0.5, 0.5, 9.0]])
    _, std = process.predict(fresh)
    assert std[0] > process.predict(X)[1].max()


def test_large_samples_are_fitted_to_a_subset_and_use_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_process, "_MAX_FIT", 30)
    X, nominal = _conditional(90, 11)
    process = GaussianProcess.fit(X, _smooth(X), nominal, seed=1)
    assert process.weights.shape == (90,)
    again = GaussianProcess.fit(X, _smooth(X), nominal, seed=1)
    np.testing.assert_array_equal(process.hyperparameters.lengthscales, again.hyperparameters.lengthscales)


def test_a_start_never_makes_the_fit_worse() -> None:
    X, nominal = _conditional(40, 12)
    y = _smooth(X)
    problem = gaussian_process._Posterior(X, (y - y.mean()) / y.std(), nominal)

    def value(found: Hyperparameters) -> float:
        theta = np.log(np.concatenate([found.lengthscales, [found.signal, found.noise]]))
        return problem.value_and_gradient(theta)[0]

    alone = GaussianProcess.fit(X, y, nominal).hyperparameters
    bad = Hyperparameters(np.full(6, 1e3), 0.1, 1.0)
    assert value(GaussianProcess.fit(X, y, nominal, start=bad).hyperparameters) <= value(alone) + 1e-9


def test_jitter_rescues_a_singular_matrix() -> None:
    factor = gaussian_process._cholesky(np.ones((5, 5)))
    np.testing.assert_allclose(factor @ factor.T, np.ones((5, 5)), atol=1e-3)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((2, 1)), np.zeros(3), "agree"),
        (np.zeros((0, 1)), np.zeros(0), "no observations"),
        (np.zeros((2, 1)), np.array([1.0, np.nan]), "nan at row 1"),
    ],
)
def test_messages(X: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianProcess.fit(X, y, np.zeros(1, dtype=bool))


def test_no_failure_means_certain_success() -> None:
    model = Feasibility.fit(np.zeros((3, 1)), np.ones(3, dtype=bool), np.zeros(1, dtype=bool))
    np.testing.assert_array_equal(model.probability(np.array([[0.1], [np.nan]])), 1.0)


def test_failures_are_located_and_roughly_calibrated() -> None:
    X, nominal = _conditional(60, 13)
    fresh, _ = _conditional(400, 14)

    def succeeds(rows: np.ndarray) -> np.ndarray:
        return ~((rows[:, 0] == 0) & (np.nan_to_num(rows[:, 1]) > 0.6)) & (rows[:, 3] < 0.85)

    model = Feasibility.fit(X, succeeds(X), nominal)
    chance, truth = model.probability(fresh), succeeds(fresh)
    assert chance[truth].mean() > 0.8
    assert chance[~truth].mean() < 0.4
    assert (chance > 0).all()
    assert (chance <= 1).all()
    # Brier score, against always giving the overall share.
    assert np.mean((chance - truth) ** 2) < 0.6 * truth.mean() * (1 - truth.mean())
    assert chance.mean() == pytest.approx(truth.mean(), abs=0.1)


def test_one_failure_among_many_does_not_condemn_the_rest() -> None:
    X, nominal = _conditional(20, 15)
    model = Feasibility.fit(X, np.arange(20) > 0, nominal)
    assert np.median(model.probability(X)) > 0.85
    everything_failed = Feasibility.fit(X, np.zeros(20, dtype=bool), nominal)
    assert (everything_failed.probability(X) > 0).all()


def test_extra_noise_matches_dense_algebra() -> None:
    X, nominal = _conditional(30, 5)
    rng = np.random.default_rng(0)
    extra = np.where(np.arange(30) % 3 == 0, rng.uniform(0.01, 0.2, 30), 0.0)
    y = _smooth(X) + np.sqrt(extra) * rng.standard_normal(30)
    process = GaussianProcess.fit(X, y, nominal, extra_noise=extra)
    held = process.hyperparameters
    fresh, _ = _conditional(7, 6)
    prior = gaussian_process._covariance(X, X, nominal, held)
    noise = np.diag(held.noise + extra / process.scale**2)
    cross = gaussian_process._covariance(fresh, X, nominal, held)
    gain = cross @ np.linalg.inv(prior + noise)
    expected = process.offset + process.scale * gain @ ((y - process.offset) / process.scale)
    variance = held.signal + gaussian_process._MEAN_VARIANCE - np.einsum("ij,ij->i", gain, cross)
    mean, std = process.predict(fresh)
    np.testing.assert_allclose(mean, expected, rtol=1e-8)
    np.testing.assert_allclose(std, process.scale * np.sqrt(variance), rtol=1e-6)

    # Conditioning on one observation without extra noise, with the hyperparameters unchanged.
    for i in (0, 1):
        rest = np.arange(30) != i
        shorter = gaussian_process._conditioned(
            X[rest], y[rest], nominal, held, process.offset, process.scale, process.extra_noise[rest]
        )
        longer = shorter.condition_on(X[i : i + 1], y[i : i + 1])
        np.testing.assert_array_equal(longer.extra_noise, [*process.extra_noise[rest], 0.0])
        sure = noise.copy()
        sure[i, i] = held.noise
        whole = process.offset + cross @ np.linalg.solve(prior + sure, y - process.offset)
        np.testing.assert_allclose(longer.predict(fresh)[0], whole, rtol=1e-8)


def test_the_gradient_with_extra_noise() -> None:
    X, nominal = _conditional(20, 1)
    y = _smooth(X)
    extra = np.random.default_rng(1).uniform(0, 0.5, 20)
    problem = gaussian_process._Posterior(X, (y - y.mean()) / y.std(), nominal, extra)
    theta = np.random.default_rng(0).normal(size=8)
    numeric = [
        (problem.value_and_gradient(theta + e)[0] - problem.value_and_gradient(theta - e)[0]) / 2e-5
        for e in 1e-5 * np.eye(8)
    ]
    np.testing.assert_allclose(problem.value_and_gradient(theta)[1], numeric, rtol=1e-5, atol=1e-6)


def test_unsure_observations_count_for_less() -> None:
    """Half of the observations are useless and said to be: the fit is nearly that to the others alone."""
    rng = np.random.default_rng(3)
    X, nominal = _conditional(60, 7)
    extra = np.where(np.arange(60) < 30, 0.0, 4.0)
    y = _smooth(X) + np.sqrt(extra) * rng.standard_normal(60)
    fresh, _ = _conditional(200, 8)

    def error(process: GaussianProcess) -> float:
        return float(np.abs(process.predict(fresh)[0] - _smooth(fresh)).mean())

    told = error(GaussianProcess.fit(X, y, nominal, extra_noise=extra))
    alone = error(GaussianProcess.fit(X[:30], y[:30], nominal))
    assert told < 1.3 * alone
    assert told < 0.7 * error(GaussianProcess.fit(X, y, nominal))


@pytest.mark.parametrize("extra", [[0.1], [0.1, -1.0], [0.1, np.nan]])
def test_extra_noise_that_is_none(extra: list[float]) -> None:
    with pytest.raises(ValueError, match=r"extra_noise: .* give 2 variances, 0 or more"):
        GaussianProcess.fit(np.eye(2), np.zeros(2), np.zeros(2, dtype=bool), extra_noise=np.array(extra))
