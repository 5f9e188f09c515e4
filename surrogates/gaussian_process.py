"""Exact Gaussian process regression over mixed, conditional and noisy configurations.

Shapes: n observations, d columns, m new configurations. X is encoded as in `kernels.py`. Outputs y come and
go in their own units; inside they have mean 0 and variance 1, and every variance of `Hyperparameters` refers
to those.

The model is y = c + f(x) + e: a constant c ~ N(0, 1), integrated out; f with covariance signal * Matérn-5/2,
one lengthscale a column; independent noise e. Its hyperparameters are the maximum a posteriori:

* lengthscales: log-normal with location sqrt(2) + log(a)/2 and scale sqrt(3) (Hvarfner, Hellsten and Nardi
  2024, "Vanilla Bayesian optimization performs great in high dimensions", eq. 7), a being how many columns
  a configuration has active on average, since only those add up to a distance;
* signal: log-normal around 1, scale 1;
* noise: log-normal around 0.02, scale 1.5. Two fine-tuning runs that differ in their seed alone differ by
  roughly 5 to 40 % of the standard deviation over a search space, that is 0.003 to 0.15 in variance.

Observations may have extra variances, which are added to the common noise.

The implementation uses only numpy and scipy: a fit is many factorizations of a small matrix, where the overhead of a
larger library exceeds the computation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize

from surrogates.kernels import choice_counts, embed, matern, matern_with_slope, squared_distances

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MEAN_VARIANCE = 1.0
_LENGTH_SCALE = np.sqrt(3.0)
_SIGNAL_SCALE = 1.0
_NOISE_CENTER, _NOISE_SCALE = np.log(0.02), 1.5
_LENGTH_BOUNDS = (np.log(0.02), np.log(1e4))
_SIGNAL_BOUNDS = (np.log(0.05), np.log(50.0))
_NOISE_BOUNDS = (np.log(1e-5), np.log(2.0))
_JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
"""Added to the diagonal in turn, relative to its mean, until the matrix has a Cholesky factor."""
_FEW = 60
_MAX_FIT = 300
"""Maximum number of observations for the fit of the hyperparameters; predictions use all of them."""


@dataclass(frozen=True)
class Hyperparameters:
    """Lengthscales [d], and the variances of signal and noise for standardized outputs."""

    lengthscales: Array
    signal: float
    noise: float


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted Gaussian process; `fit` builds it. It is immutable: conditioning returns another one."""

    X: Array
    y: Array
    nominal: Mask
    hyperparameters: Hyperparameters
    offset: float
    scale: float
    factor: Array
    """[n, n], lower Cholesky factor of the standardized covariance with noise."""
    weights: Array
    """[n], the inverse of that covariance times the standardized outputs."""
    extra_noise: Array
    """[n], variances beside the noise, for standardized outputs."""

    @classmethod
    def fit(
        cls,
        X: Array,
        y: Array,
        nominal: Mask,
        start: Hyperparameters | None = None,
        seed: int = 0,
        extra_noise: Array | None = None,
    ) -> GaussianProcess:
        """Fit the hyperparameters by maximum a posteriori.

        Args:
            X: shape [n, d], n >= 1, encoded configurations, NaN where inactive.
            y: shape [n], finite.
            nominal: shape [d].
            start: a further starting point for the optimizer beside the prior's, such as the last fit.
            seed: picks the observations that are fitted to where there are more than 300.
            extra_noise: shape [n], variances in units of y squared that observations have beside the common noise.

        Raises:
            ValueError: shapes that do not fit, no observation, an output that is not finite, or a variance that is
                no number or below 0.
        """
        X, y, nominal = _checked(X, y, nominal)
        extra = np.zeros(len(y)) if extra_noise is None else np.asarray(extra_noise, dtype=float)
        if extra.shape != y.shape or not (np.isfinite(extra) & (extra >= 0)).all():
            raise ValueError(
                f"extra_noise: {extra} of shape {extra.shape}; give {len(y)} variances, 0 or more"
            )
        offset, scale = float(y.mean()), float(y.std())
        # Outputs that agree to rounding have no scale.
        scale = scale if scale > 1e-12 * max(1.0, abs(offset)) else 1.0
        rows = np.arange(len(y))
        if len(y) > _MAX_FIT:
            rows = np.sort(np.random.default_rng(seed).choice(len(y), _MAX_FIT, replace=False))
        extra = extra / scale**2
        problem = _Posterior(X[rows], (y[rows] - offset) / scale, nominal, extra[rows])
        starts = problem.starts() + ([start] if start is not None else [])
        hyperparameters = problem.maximize(starts)
        return _conditioned(X, y, nominal, hyperparameters, offset, scale, extra)

    def predict(self, X: Array, noise: bool = False) -> tuple[Array, Array]:
        """Return the posterior mean and standard deviation of the latent function at X [m, d], in units of y.

        With `noise`, the standard deviation is that of a new observation without extra noise.
        """
        cross = _covariance(X, self.X, self.nominal, self.hyperparameters)
        mean = cross @ self.weights
        half = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        prior = self.hyperparameters.signal + _MEAN_VARIANCE
        # The posterior variance cannot be 0 in truth; rounding must not make it so.
        variance = np.maximum(prior - np.einsum("ij,ij->j", half, half), 1e-12 * prior)
        if noise:
            variance = variance + self.hyperparameters.noise
        return self.offset + self.scale * mean, self.scale * np.sqrt(variance)

    def condition_on(self, X: Array, y: Array | None = None) -> GaussianProcess:
        """Return the process with further observations at X [m, d], with the same hyperparameters and units.

        Without y, the posterior mean is used as the observation (the "kriging believer" of Ginsbourger, Le Riche and
        Carraro 2010): the mean does not change, and the uncertainty around pending configurations decreases.
        """
        if len(X) == 0:
            return self
        if y is None:
            y = self.predict(X)[0]
        X_all, y_all, _ = _checked(np.concatenate([self.X, X]), np.concatenate([self.y, y]), self.nominal)
        extra = np.concatenate([self.extra_noise, np.zeros(len(X))])
        return _conditioned(X_all, y_all, self.nominal, self.hyperparameters, self.offset, self.scale, extra)


def _checked(X: Array, y: Array, nominal: Mask) -> tuple[Array, Array, Mask]:
    X, y, nominal = np.asarray(X, dtype=float), np.asarray(y, dtype=float), np.asarray(nominal, dtype=bool)
    if X.ndim != 2 or y.shape != X.shape[:1] or nominal.shape != X.shape[1:]:
        raise ValueError(
            f"X {X.shape}, y {y.shape}, nominal {nominal.shape}: give shapes [n, d], [n] and [d] that agree"
        )
    if len(y) == 0:
        raise ValueError("y: no observations; a Gaussian process needs at least one")
    if not np.isfinite(y).all():
        raise ValueError(f"y: {y[~np.isfinite(y)][0]} at row {np.flatnonzero(~np.isfinite(y))[0]}; drop it")
    return X, y, nominal


def _covariance(A: Array, B: Array, nominal: Mask, hyperparameters: Hyperparameters) -> Array:
    """Shape [n, m], without noise, constant included."""
    counts = choice_counts(nominal, A, B)
    features_a, columns = embed(A, nominal, counts)
    features_b, _ = embed(B, nominal, counts)
    inverse = 1.0 / hyperparameters.lengthscales[columns]
    return (
        hyperparameters.signal * matern(squared_distances(features_a * inverse, features_b * inverse))
        + _MEAN_VARIANCE
    )


def _conditioned(
    X: Array,
    y: Array,
    nominal: Mask,
    hyperparameters: Hyperparameters,
    offset: float,
    scale: float,
    extra: Array | None = None,
) -> GaussianProcess:
    extra = np.zeros(len(y)) if extra is None else extra
    covariance = _covariance(X, X, nominal, hyperparameters)
    covariance[np.diag_indices_from(covariance)] += hyperparameters.noise + extra
    factor = _cholesky(covariance)
    weights = cho_solve((factor, True), (y - offset) / scale, check_finite=False)
    return GaussianProcess(X, y, nominal, hyperparameters, offset, scale, factor, weights, extra)


def _cholesky(covariance: Array) -> Array:
    """The lower factor, with as little jitter as it takes."""
    size = float(np.mean(np.diag(covariance)))
    for jitter in _JITTERS:
        shifted = covariance + jitter * size * np.eye(len(covariance)) if jitter else covariance
        factor, info = dpotrf(shifted, lower=1, clean=1)
        if info == 0:
            return factor
    raise AssertionError("a covariance with a hundredth of its diagonal added has a Cholesky factor")


def _inverse(factor: Array) -> Array:
    """The inverse of the matrix with this lower Cholesky factor (zeros above its diagonal)."""
    inverse, info = dpotri(factor, lower=1)
    assert info == 0
    inverse = inverse + inverse.T
    inverse[np.diag_indices_from(inverse)] *= 0.5
    return inverse


class _Posterior:
    """The negative log posterior of the hyperparameters and its gradient, over their logarithms.

    The vector is (log lengthscales [d], log signal, log noise).
    """

    def __init__(self, X: Array, y: Array, nominal: Mask, extra: Array | float = 0.0) -> None:
        self._y, self._extra = y, extra
        self._d = X.shape[1]
        self._features, self._columns = embed(X, nominal, choice_counts(nominal, X))
        active = float((~np.isnan(X)).sum(axis=1).mean()) if X.size else 1.0
        self._length_center = np.sqrt(2.0) + 0.5 * np.log(max(active, 1.0))

    def starts(self) -> list[Hyperparameters]:
        """The prior's mode in lengthscales; for few observations, where modes are many, its median too."""
        logs = [self._length_center - _LENGTH_SCALE**2]
        if len(self._y) <= _FEW:
            logs.append(self._length_center)
        noise = float(np.exp(_NOISE_CENTER))
        return [Hyperparameters(np.full(self._d, np.exp(log)), 1.0, noise) for log in logs]

    def maximize(self, starts: list[Hyperparameters]) -> Hyperparameters:
        bounds = [_LENGTH_BOUNDS] * self._d + [_SIGNAL_BOUNDS, _NOISE_BOUNDS]
        low, high = np.array(bounds).T
        results = []
        for start in starts:
            point = np.log(np.concatenate([start.lengthscales, [start.signal, start.noise]]))
            results.append(
                minimize(
                    self.value_and_gradient,
                    np.clip(point, low, high),
                    jac=True,
                    method="L-BFGS-B",
                    bounds=bounds,
                    options={"maxiter": 60, "ftol": 1e-4, "gtol": 1e-2},
                )
            )
        best = np.exp(min(results, key=lambda result: float(result.fun)).x)
        return Hyperparameters(best[:-2], float(best[-2]), float(best[-1]))

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Rasmussen and Williams 2006, eq. 5.8 and 5.9; lengthscales gather their features' gradients."""
        lengths, (signal, noise) = np.exp(theta[:-2]), np.exp(theta[-2:])
        Z = self._features / lengths[self._columns]
        correlation, slope = matern_with_slope(squared_distances(Z, Z))
        covariance = signal * correlation + _MEAN_VARIANCE
        covariance[np.diag_indices_from(covariance)] += noise + self._extra
        factor = _cholesky(covariance)
        weights = cho_solve((factor, True), self._y, check_finite=False)
        value = 0.5 * float(self._y @ weights) + float(np.log(np.diag(factor)).sum())

        inner = _inverse(factor) - np.outer(weights, weights)
        # sum_ik G_ik (z_i - z_k)^2 = 2 sum_i z_i^2 (G 1)_i - 2 z' G z, feature by feature.
        G = inner * slope
        spread = 2.0 * (Z * Z * G.sum(axis=1)[:, None] - Z * (G @ Z)).sum(axis=0)
        by_column = np.bincount(self._columns, weights=spread, minlength=self._d)
        gradient = np.concatenate(
            [
                -signal * by_column,
                [0.5 * signal * np.sum(inner * correlation), 0.5 * noise * np.trace(inner)],
            ]
        )
        return self._with_priors(theta, value, gradient)

    def _with_priors(self, theta: Array, value: float, gradient: Array) -> tuple[float, Array]:
        lengths = (theta[:-2] - self._length_center) / _LENGTH_SCALE
        signal = theta[-2] / _SIGNAL_SCALE
        noise = (theta[-1] - _NOISE_CENTER) / _NOISE_SCALE
        # The log-normal density of a lengthscale carries a factor 1 / l, hence the sum of the logarithms.
        value += 0.5 * float(lengths @ lengths + signal**2 + noise**2) + float(theta[:-2].sum())
        gradient[:-2] += lengths / _LENGTH_SCALE + 1.0
        gradient[-2] += signal / _SIGNAL_SCALE
        gradient[-1] += noise / _NOISE_SCALE
        return value, gradient
