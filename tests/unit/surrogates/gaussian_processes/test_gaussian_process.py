"""The Gaussian process: a valid kernel, exact algebra, sensible fits, and the model of failure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogates.gaussian_processes import gaussian_process
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.feasibility import Feasibility
from surrogates.gaussian_processes.fitting import cholesky, log_likelihood, log_prior
from surrogates.gaussian_processes.gaussian_process import GaussianProcess, Hyperparameters
from surrogates.gaussian_processes.kernels import ConditionalMatern, matern, squared_distances
from surrogates.gaussian_processes.observations import Observations

CONDITIONAL = Embedding(np.array([3, 0, 0, 0, 0, 4]))
"""The embedding of the configurations of `_conditional`."""
FLAT = Embedding(np.zeros(2, dtype=int))


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


def _embedded(X: np.ndarray, nominal: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(Embedding.of(nominal, X).features(X))


def _conditioned(
    X: np.ndarray,
    y: np.ndarray,
    hyperparameters: Hyperparameters,
    offset: float,
    scale: float,
    embedding: Embedding = CONDITIONAL,
    **observed: np.ndarray,
) -> GaussianProcess:
    return GaussianProcess(embedding, Observations.of(X, y, **observed), hyperparameters, offset, scale)


def _covariance(A: np.ndarray, B: np.ndarray, values: Hyperparameters) -> np.ndarray:
    """The covariance by numpy alone, constant included."""
    scales = values.lengthscales[CONDITIONAL.columns]
    a, b = CONDITIONAL.features(A) / scales, CONDITIONAL.features(B) / scales
    r = np.sqrt(5.0) * np.linalg.norm(a[:, None] - b[None], axis=-1)
    return values.signal * (1 + r + r**2 / 3) * np.exp(-r) + 1.0


def test_kernel_is_positive_semi_definite_on_conditional_spaces() -> None:
    for seed in range(20):
        X, nominal = _conditional(60, seed)
        # Repeated rows and every pattern of inactive columns, not only those of the tree.
        X = np.concatenate([X, X[:5], np.where(np.random.default_rng(seed).random(X.shape) < 0.4, np.nan, X)])
        Z = _embedded(X, nominal) * 10 ** np.random.default_rng(seed).uniform(-1, 1)
        assert np.linalg.eigvalsh(matern(squared_distances(Z, Z)).numpy()).min() > -1e-10


def test_inactive_values_are_equally_far_from_all_active_ones() -> None:
    X = np.array([[0.0], [0.5], [1.0], [np.nan], [np.nan]])
    Z = _embedded(X, np.array([False]))
    squares = squared_distances(Z, Z)
    np.testing.assert_allclose(squares[3, :3], squares[3, 0])
    assert float(squares[3, 4]) < 1e-15
    assert float(squares[0, 1]) == pytest.approx(0.25, rel=0.03)
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


def test_the_kernel_matches_dense_algebra() -> None:
    X, _ = _conditional(25, 1)
    fresh, _ = _conditional(9, 2)
    values = Hyperparameters(np.random.default_rng(0).uniform(0.3, 3.0, 6), 1.7, 0.1)
    kernel = ConditionalMatern(torch.as_tensor(CONDITIONAL.columns), 4.0)
    kernel.set_values(torch.as_tensor(values.lengthscales), values.signal)
    a, b = (torch.as_tensor(CONDITIONAL.features(each)) for each in (X, fresh))
    with torch.no_grad():
        np.testing.assert_allclose(kernel.forward(a, b).numpy(), _covariance(X, fresh, values), rtol=1e-9)
        np.testing.assert_allclose(kernel.forward(a, a, diag=True).numpy(), values.signal + 1.0, rtol=1e-6)


def test_gradient_of_the_log_likelihood_matches_finite_differences() -> None:
    rng = np.random.default_rng(0)
    root = torch.as_tensor(rng.normal(size=(6, 6)))
    covariance = (root @ root.T + torch.eye(6)).requires_grad_()
    y = torch.as_tensor(rng.normal(size=6)).requires_grad_()
    log_likelihood(covariance, y).backward()
    assert covariance.grad is not None
    assert y.grad is not None
    expected = torch.distributions.MultivariateNormal(torch.zeros(6).double(), covariance.detach())
    constant = 3.0 * np.log(2 * np.pi)
    assert float(log_likelihood(covariance, y).detach()) == pytest.approx(
        float(expected.log_prob(y)) + constant
    )
    for i, k in ((0, 0), (1, 4), (5, 2)):
        step = torch.zeros(6, 6).double()
        step[i, k] += 1e-6
        step[k, i] += 1e-6
        change = log_likelihood(covariance + step, y) - log_likelihood(covariance - step, y)
        along = covariance.grad[i, k] + covariance.grad[k, i]
        assert float(change.detach()) / 2e-6 == pytest.approx(float(along), rel=1e-5)
    step = torch.eye(6).double()[2] * 1e-6
    change = log_likelihood(covariance, y + step) - log_likelihood(covariance, y - step)
    assert float(change.detach()) / 2e-6 == pytest.approx(float(y.grad[2]), rel=1e-5)


def test_priors_are_those_of_the_documentation() -> None:
    """Normal densities over logarithms, up to constants: of lengthscales with 1/l, of signal and noise without."""
    modules = gaussian_process._Modules(torch.as_tensor(CONDITIONAL.columns), 4.0)

    def density(log_length: float, log_signal: float, log_noise: float) -> float:
        values = Hyperparameters(np.full(6, np.exp(log_length)), np.exp(log_signal), np.exp(log_noise))
        modules.assign(values)
        return float(log_prior(modules).detach())

    center = np.sqrt(2.0) + 0.5 * np.log(4.0)
    base = density(center, 0.0, np.log(0.02))
    assert density(center + 1.0, 0.0, np.log(0.02)) - base == pytest.approx(-6 * (0.5 / 3.0 + 1.0), rel=1e-5)
    assert density(center, 0.7, np.log(0.02)) - base == pytest.approx(-0.5 * 0.49, rel=1e-5)
    assert density(center, 0.0, np.log(0.02) + 1.5) - base == pytest.approx(-0.5, rel=1e-5)


def test_it_learns_a_conditional_function() -> None:
    X, _ = _conditional(80, 2)
    fresh, _ = _conditional(200, 3)
    process = GaussianProcess.fit(X, _smooth(X), CONDITIONAL)
    mean, std = process.predict(fresh)
    truth = _smooth(fresh)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.1 * truth.std()
    assert np.mean(np.abs(mean - truth) < 2 * std) > 0.8


def test_predictions_by_hand() -> None:
    # One observation: with constant variance 1, signal s and noise g, the weight of the observation at its
    # own place is (s + 1) / (s + 1 + g), and the variance (s + 1) * g / (s + 1 + g).
    X = np.array([[0.3]])
    values = Hyperparameters(np.ones(1), 2.0, 0.5)
    process = _conditioned(X, np.array([5.0]), values, 3.0, 2.0, Embedding(np.zeros(1, dtype=int)))
    mean, std = process.predict(X)
    assert mean[0] == pytest.approx(3 + (5 - 3) * 3 / 3.5)
    assert std[0] == pytest.approx(2 * np.sqrt(3 * 0.5 / 3.5))
    assert process.predict(X, noise=True)[1][0] == pytest.approx(2 * np.sqrt(3 * 0.5 / 3.5 + 0.5))


def test_units_of_the_output_carry_through() -> None:
    X, _ = _conditional(40, 4)
    fresh, _ = _conditional(10, 5)
    mean, std = GaussianProcess.fit(X, _smooth(X), CONDITIONAL).predict(fresh)
    scaled_mean, scaled_std = GaussianProcess.fit(X, 1e6 * _smooth(X) - 3e7, CONDITIONAL).predict(fresh)
    np.testing.assert_allclose(scaled_mean, 1e6 * mean - 3e7, rtol=1e-5)
    np.testing.assert_allclose(scaled_std, 1e6 * std, rtol=1e-3)


def test_conditioning_on_the_mean_keeps_it_and_narrows() -> None:
    X, _ = _conditional(20, 7)
    pending, _ = _conditional(3, 8)
    fresh, _ = _conditional(50, 9)
    process = GaussianProcess.fit(X, _smooth(X), CONDITIONAL)
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
    process = GaussianProcess.fit(X, y, FLAT)
    assert process.scale * np.sqrt(process.hyperparameters.noise) == pytest.approx(0.4, rel=0.25)
    assert np.sqrt(np.mean((process.predict(X)[0] - signal) ** 2)) < 0.2


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_equal_or_repeated_observations(n: int) -> None:
    X = np.full((n, 2), 0.5)
    process = GaussianProcess.fit(X, np.full(n, 7.0), FLAT)
    mean, std = process.predict(np.array([[0.5, 0.5], [0.0, 1.0]]))
    np.testing.assert_allclose(mean, 7.0)
    assert (std > 0).all()


def test_choices_and_activity_never_seen_before() -> None:
    X, _ = _conditional(30, 10)
    X = X[(X[:, 0] != 1) & (X[:, 5] != 3)]
    process = GaussianProcess.fit(X, _smooth(X), CONDITIONAL)
    fresh = np.array([[1.0, np.nan, 0.5, 0.5, 0.5, 3.0]])
    _, std = process.predict(fresh)
    assert std[0] > process.predict(X)[1].max()


def test_linear_columns_follow_the_encoded_ones() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.random((60, 1)), rng.random(60)])
    y = 3.0 * X[:, 1]
    process = GaussianProcess.fit(X, y, Embedding(np.zeros(1, dtype=int), linear=1))
    mean, _ = process.predict(np.array([[0.5, 0.2], [0.5, 1.3]]))
    assert mean[0] == pytest.approx(0.6, abs=0.05)
    assert mean[1] == pytest.approx(3.9, abs=0.3)
    with pytest.raises(ValueError, match=r"give shape \[n, 2\]"):
        process.predict(np.zeros((1, 1)))


def test_large_samples_are_fitted_to_a_subset_and_use_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_process, "_MAX_FIT", 30)
    X, _ = _conditional(90, 11)
    process = GaussianProcess.fit(X, _smooth(X), CONDITIONAL, seed=1)
    assert process.leave_one_out().shape == (90,)
    again = GaussianProcess.fit(X, _smooth(X), CONDITIONAL, seed=1)
    np.testing.assert_array_equal(process.hyperparameters.lengthscales, again.hyperparameters.lengthscales)


def test_a_start_from_the_last_fit_finds_the_same_mode() -> None:
    X, _ = _conditional(80, 12)
    alone = GaussianProcess.fit(X, _smooth(X), CONDITIONAL)
    again = GaussianProcess.fit(X, _smooth(X), CONDITIONAL, start=alone.hyperparameters)
    fresh, _ = _conditional(50, 13)
    np.testing.assert_allclose(again.predict(fresh)[0], alone.predict(fresh)[0], atol=0.01)
    # With few observations a bad start is one of two.
    few = X[:40]
    bad = Hyperparameters(np.full(6, 1e3), 0.1, 1.0)
    found = GaussianProcess.fit(few, _smooth(few), CONDITIONAL, start=bad).predict(fresh)[0]
    expected = GaussianProcess.fit(few, _smooth(few), CONDITIONAL).predict(fresh)[0]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_hyperparameters_survive_a_round_trip() -> None:
    values = Hyperparameters(np.array([0.123456789, 12.0]), 1.5, 1e-5)
    again = Hyperparameters.from_list(values.as_list())
    np.testing.assert_allclose(again.lengthscales, values.lengthscales, rtol=1e-5)
    assert (again.signal, again.noise) == (1.5, 1e-5)


def test_leave_one_out_matches_fits_without_each_observation() -> None:
    X, _ = _conditional(12, 3)
    y = _smooth(X)
    process = GaussianProcess.fit(X, y, CONDITIONAL)
    expected = []
    for i in range(12):
        rest = np.arange(12) != i
        others = _conditioned(X[rest], y[rest], process.hyperparameters, process.offset, process.scale)
        mean, std = others.predict(X[i : i + 1], noise=True)
        expected.append(-0.5 * ((y[i] - mean[0]) / std[0]) ** 2 - np.log(std[0] * np.sqrt(2 * np.pi)))
    np.testing.assert_allclose(process.leave_one_out(), expected, rtol=1e-6)


def test_an_observation_of_four_runs_has_a_quarter_of_the_noise() -> None:
    X, _ = _conditional(12, 3)
    y = _smooth(X)
    values = Hyperparameters(np.ones(6), 1.0, 0.4)
    pooled = _conditioned(X, y, values, 0.0, 2.0, replicates=np.full(12, 4.0))
    single = _conditioned(X, y, Hyperparameters(np.ones(6), 1.0, 0.1), 0.0, 2.0)
    fresh, _ = _conditional(20, 4)
    np.testing.assert_allclose(pooled.predict(fresh), single.predict(fresh))
    # The noise of a prediction is that of one run.
    extra = pooled.predict(fresh, noise=True)[1] ** 2 - pooled.predict(fresh)[1] ** 2
    np.testing.assert_allclose(extra, 4.0 * 0.4)
    with pytest.raises(ValueError, match="give 12 numbers, 1 or more"):
        GaussianProcess.fit(X, y, CONDITIONAL, replicates=np.zeros(12))


def test_the_posterior_of_a_batch_matches_predictions_and_dense_algebra() -> None:
    X, _ = _conditional(25, 3)
    process = GaussianProcess.fit(X, _smooth(X), CONDITIONAL)
    fresh, _ = _conditional(6, 4)
    mean, std = process.predict(fresh)
    Z = torch.as_tensor(CONDITIONAL.features(fresh))
    single = process.posterior(Z.unsqueeze(1))
    np.testing.assert_allclose(single.mean.detach()[:, 0, 0], mean)
    np.testing.assert_allclose(single.variance.detach()[:, 0, 0], std**2, rtol=1e-6)
    pairs = process.posterior(Z.reshape(3, 2, -1))
    np.testing.assert_allclose(pairs.mean.detach().reshape(-1), mean)
    held = process.hyperparameters
    prior, cross = _covariance(X, X, held), _covariance(fresh, X, held)
    gain = np.linalg.solve(prior + held.noise * np.eye(25), cross.T)
    joint = process.scale**2 * (_covariance(fresh, fresh, held) - cross @ gain)
    covariance = pairs.distribution.covariance_matrix.detach().numpy()
    np.testing.assert_allclose(covariance[1], joint[2:4, 2:4], atol=1e-6)
    noisy = process.posterior(Z.unsqueeze(1), observation_noise=True)
    np.testing.assert_allclose(noisy.variance.detach()[:, 0, 0], process.predict(fresh, noise=True)[1] ** 2)


def test_a_prior_mean_is_where_predictions_go_far_from_data() -> None:
    X = np.random.default_rng(0).random((20, 1)) * 0.2
    embedding = Embedding(np.zeros(1, dtype=int), linear=0)

    def trend(Z: torch.Tensor) -> torch.Tensor:
        return 10.0 * torch.atan2(Z[..., 1], Z[..., 0])  # ten times the encoded value

    y = 10.0 * X[:, 0] + 1.0
    mean, _ = GaussianProcess.fit(X, y, embedding, prior_mean=trend).predict(np.array([[1.0]]))
    assert mean[0] == pytest.approx(11.0, abs=0.01)


def test_jitter_rescues_a_singular_matrix() -> None:
    factor = cholesky(torch.ones(5, 5, dtype=torch.double))
    np.testing.assert_allclose((factor @ factor.T).numpy(), np.ones((5, 5)), atol=1e-3)


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
        GaussianProcess.fit(X, y, Embedding(np.zeros(1, dtype=int)))


def test_no_failure_means_certain_success() -> None:
    model = Feasibility.fit(np.zeros((3, 1)), np.ones(3, dtype=bool), Embedding(np.zeros(1, dtype=int)))
    np.testing.assert_array_equal(model.probability(np.array([[0.1], [np.nan]])), 1.0)


def test_failures_are_located_and_roughly_calibrated() -> None:
    X, _ = _conditional(60, 13)
    fresh, _ = _conditional(400, 14)

    def succeeds(rows: np.ndarray) -> np.ndarray:
        return ~((rows[:, 0] == 0) & (np.nan_to_num(rows[:, 1]) > 0.6)) & (rows[:, 3] < 0.85)

    model = Feasibility.fit(X, succeeds(X), CONDITIONAL)
    chance, truth = model.probability(fresh), succeeds(fresh)
    assert chance[truth].mean() > 0.8
    assert chance[~truth].mean() < 0.4
    assert (chance > 0).all()
    assert (chance <= 1).all()
    # Brier score, against always giving the overall share.
    assert np.mean((chance - truth) ** 2) < 0.6 * truth.mean() * (1 - truth.mean())
    assert chance.mean() == pytest.approx(truth.mean(), abs=0.1)


def test_one_failure_among_many_does_not_condemn_the_rest() -> None:
    X, _ = _conditional(20, 15)
    model = Feasibility.fit(X, np.arange(20) > 0, CONDITIONAL)
    assert np.median(model.probability(X)) > 0.85
    everything_failed = Feasibility.fit(X, np.zeros(20, dtype=bool), CONDITIONAL)
    assert (everything_failed.probability(X) > 0).all()


def test_extra_noise_matches_dense_algebra() -> None:
    X, _ = _conditional(30, 5)
    rng = np.random.default_rng(0)
    extra = np.where(np.arange(30) % 3 == 0, rng.uniform(0.01, 0.2, 30), 0.0)
    y = _smooth(X) + np.sqrt(extra) * rng.standard_normal(30)
    process = GaussianProcess.fit(X, y, CONDITIONAL, extra_noise=extra)
    held = process.hyperparameters
    fresh, _ = _conditional(7, 6)
    prior = _covariance(X, X, held)
    noise = np.diag(held.noise + extra / process.scale**2)
    cross = _covariance(fresh, X, held)
    gain = cross @ np.linalg.inv(prior + noise)
    expected = process.offset + process.scale * gain @ ((y - process.offset) / process.scale)
    variance = held.signal + 1.0 - np.einsum("ij,ij->i", gain, cross)
    mean, std = process.predict(fresh)
    np.testing.assert_allclose(mean, expected, rtol=1e-8)
    np.testing.assert_allclose(std, process.scale * np.sqrt(variance), rtol=1e-6)

    # Conditioning on one observation without extra noise, with the hyperparameters unchanged.
    for i in (0, 1):
        rest = np.arange(30) != i
        shorter = _conditioned(X[rest], y[rest], held, process.offset, process.scale, extra_noise=extra[rest])
        longer = shorter.condition_on(X[i : i + 1], y[i : i + 1])
        np.testing.assert_array_equal(longer.observations.extra_noise, [*extra[rest], 0.0])
        sure = noise.copy()
        sure[i, i] = held.noise
        whole = process.offset + cross @ np.linalg.solve(prior + sure, y - process.offset)
        np.testing.assert_allclose(longer.predict(fresh)[0], whole, rtol=1e-8)


def test_unsure_observations_count_for_less() -> None:
    """Half of the observations are useless and said to be: the fit is nearly that to the others alone."""
    rng = np.random.default_rng(3)
    X, _ = _conditional(60, 7)
    extra = np.where(np.arange(60) < 30, 0.0, 4.0)
    y = _smooth(X) + np.sqrt(extra) * rng.standard_normal(60)
    fresh, _ = _conditional(200, 8)

    def error(process: GaussianProcess) -> float:
        return float(np.abs(process.predict(fresh)[0] - _smooth(fresh)).mean())

    told = error(GaussianProcess.fit(X, y, CONDITIONAL, extra_noise=extra))
    alone = error(GaussianProcess.fit(X[:30], y[:30], CONDITIONAL))
    assert told < 1.3 * alone
    assert told < 0.7 * error(GaussianProcess.fit(X, y, CONDITIONAL))


@pytest.mark.parametrize("extra", [[0.1], [0.1, -1.0], [0.1, np.nan]])
def test_extra_noise_that_is_none(extra: list[float]) -> None:
    with pytest.raises(ValueError, match=r"extra_noise: .* give 2 variances, 0 or more"):
        GaussianProcess.fit(np.eye(2), np.zeros(2), FLAT, extra_noise=np.array(extra))
