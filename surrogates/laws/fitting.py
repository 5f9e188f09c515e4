"""Robust fits of the laws by variable projection, with intervals.

The objective is that of Hoffmann et al. (2022, eq. 3): the sum of Huber losses, delta = 1e-3, of log L - log f(x).
Their optimizer needs thousands of starts. Here only the exponents are searched: given them, the linear coefficients
are a nonnegative least-squares problem (Golub and Pereyra 1973). From the best few starts all coefficients are
optimized jointly, in logarithms, with exact gradients: least squares with a delta that decreases to its final
value, then BFGS in coordinates with a curvature of about one.

Intervals are Laplace approximations by default: Gaussian in (log c, theta), with the variance of a Huber estimator
(Huber 1964) whose delta is small compared with the residuals. `bootstrap` resamples the points instead.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares, minimize, nnls
from scipy.stats import norm, t

from surrogates.laws.functional_forms import Array, Form, log_budget, log_center_of

DELTA = 1e-3
"""Huber's threshold on log residuals."""
LEVEL = 0.8
"""Default probability of the intervals."""
_GRID = {1: 40, 2: 14, 3: 9}
_POLISHED = 3
_ABSENT = 1e-7
"""A term below this share of the loss at all points is removed, because its logarithm has no optimum."""


@dataclass(frozen=True)
class Prediction:
    """Predicted losses with their interval.

    Args:
        value: losses, shape [m].
        low: lower ends, shape [m].
        high: upper ends, shape [m].
        level: probability of the interval.
    """

    value: Array
    low: Array
    high: Array
    level: float = LEVEL


@dataclass(frozen=True)
class FittedLaw:
    """A fitted law; `fit_form` builds it.

    Args:
        form: the functional form.
        X: scales of the points, shape [n, d].
        loss: losses of the points, shape [n].
        center: log x0, shape [d].
        packed: (log c, theta) of the centered form, shape [p + q]; -inf for a removed term.
        covariance: covariance of `packed`; 0 for a removed term, very large in directions that the points do not
            identify.
        scale: robust standard deviation of the log residuals.
        objective: the minimized sum of Huber losses.
        widening: factor on the intervals from held-out extrapolation, at least 1.
        bias: bias of held-out extrapolation, in log loss per unit of log budget beyond the points.
    """

    form: Form
    X: Array
    loss: Array
    center: Array
    packed: Array
    covariance: Array
    scale: float
    objective: float
    widening: float = 1.0
    bias: float = 0.0

    @property
    def coefficients(self) -> dict[str, float]:
        """Coefficients by name, in the units of the columns."""
        return {name: value[0] for name, value in self.table().items()}

    def table(self, level: float = LEVEL) -> dict[str, tuple[float, float, float]]:
        """Return each coefficient as (value, low, high); a coefficient of zero has no interval."""
        known, spread = self._known()
        width = self._quantile(level) * self.widening * spread
        logs = {*self.form.linear, *self.form.logs}
        found = {}
        for name, value, half in zip(self.form.names, known, width, strict=True):
            ends = (value, value - half, value + half)
            with np.errstate(over="ignore", invalid="ignore"):
                found[name] = tuple(float(np.exp(end) if name in logs else end) for end in ends)
        return found  # type: ignore[return-value]

    def predict(self, X: Array, level: float = LEVEL, noise: bool = True) -> Prediction:
        """Predict the loss.

        Args:
            X: scales, shape [m, d].
            level: probability of the interval.
            noise: whether the interval is that of a new measurement, or of the law.
        """
        X = np.asarray(X, dtype=float).reshape(-1, len(self.center))
        mean, slope = _log_law(self.form, self._u(X), self.packed)
        finite = np.where(np.isfinite(self.packed), slope, 0.0)
        variance = self._variance(finite) + (self.scale**2 if noise else 0.0)
        ahead = np.maximum(log_budget(X) - log_budget(self.X).max(), 0.0)
        half = self._quantile(level) * self.widening * np.sqrt(variance + (self.bias * ahead) ** 2)
        with np.errstate(over="ignore"):
            return Prediction(np.exp(mean), np.exp(mean - half), np.exp(mean + half), level)

    def slopes(self, X: Array) -> Array:
        """Return d log f / d (log c, theta) at X [m, d], shape [m, p + q]."""
        slope = _log_law(self.form, self._u(X), self.packed)[1]
        return np.where(np.isfinite(self.packed), slope, 0.0)

    def residuals(self) -> Array:
        """Return the residuals log L - log f of the points, shape [n]."""
        return np.log(self.loss) - _log_law(self.form, self._u(self.X), self.packed)[0]

    def unidentified(self, tolerance: float = 1.5) -> list[str]:
        """Return the coefficients with a log standard deviation above `tolerance` (exponents: above their value)."""
        known, spread = self._known()
        logs = {*self.form.linear, *self.form.logs}
        limits = [
            tolerance if name in logs else abs(v) for name, v in zip(self.form.names, known, strict=True)
        ]
        pairs = zip(self.form.names, spread, limits, strict=True)
        return [name for name, deviation, limit in pairs if not deviation <= limit]

    def _known(self) -> tuple[Array, Array]:
        matrix = self.form.moves(self.center)
        finite = np.where(np.isfinite(self.packed), self.packed, 0.0)
        known = np.where(np.isfinite(self.packed), matrix @ finite, -np.inf)
        with np.errstate(invalid="ignore"):
            return known, np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", matrix, self.covariance, matrix), 0.0))

    def _variance(self, slope: Array) -> Array:
        return np.maximum(np.einsum("ij,jk,ik->i", slope, self.covariance, slope), 0.0)

    def _quantile(self, level: float) -> float:
        return float(t.ppf(0.5 + level / 2, max(len(self.loss) - int(np.isfinite(self.packed).sum()), 1)))

    def _u(self, X: Array) -> Array:
        return np.log(np.asarray(X, dtype=float).reshape(-1, len(self.center))) - self.center


def fit_form(
    form: Form, X: Array, loss: Array, delta: float = DELTA, start: Array | None = None
) -> FittedLaw:
    """Fit one form.

    Args:
        form: the functional form.
        X: scales, positive, with columns in the order of `form.inputs`, shape [n, d].
        loss: losses, positive, shape [n]; n exceeds the number of coefficients.
        delta: threshold of the Huber loss on log residuals.
        start: theta [q] to start from, in place of a grid.

    Raises:
        ValueError: Shapes do not match, values are not positive, or there are too few points.
    """
    X, loss = np.asarray(X, dtype=float), np.asarray(loss, dtype=float)
    if X.ndim != 2 or X.shape != (len(loss), len(form.inputs)):
        raise ValueError(
            f"X {X.shape}, loss {loss.shape}: {form.name} needs shapes [n, {len(form.inputs)}] and [n]"
        )
    if not (np.isfinite(X).all() and np.isfinite(loss).all() and (X > 0).all() and (loss > 0).all()):
        raise ValueError("X, loss: every value must be a positive number; drop the rows that are not")
    if len(loss) <= form.size:
        raise ValueError(
            f"loss: {len(loss)} points for {form.size} coefficients; give at least {form.size + 1}"
        )
    center = log_center_of(form, X)
    u = np.log(X) - center
    starts = _searched(form, u, loss) if start is None else [np.asarray(start, dtype=float)]
    fits = [_polished(form, u, loss, delta, theta) for theta in starts]
    objective, packed = min(fits, key=lambda fit: fit[0])
    law = FittedLaw(form, X, loss, center, packed, np.zeros((form.size,) * 2), 0.0, objective)
    return _with_laplace(law, delta)


def bootstrap(law: FittedLaw, X: Array, draws: int = 200, level: float = LEVEL, seed: int = 0) -> Prediction:
    """Predict the loss at X [m, d] with percentile intervals from fits to resampled points, noise included.

    Args:
        law: the fitted law.
        X: scales, shape [m, d].
        draws: number of resampled fits.
        level: probability of the interval.
        seed: seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    theta = law.packed[len(law.form.linear) :]
    found: list[Array] = []
    residuals = law.residuals()
    while len(found) < draws:
        rows = rng.integers(0, len(law.loss), len(law.loss))
        u = np.log(law.X[rows]) - law.center
        packed = _polished(law.form, u, law.loss[rows], DELTA, theta)[1]
        mean = replace(law, packed=packed).predict(X).value
        found.append(np.log(mean) + rng.choice(residuals, len(mean)))
    ends = np.exp(np.quantile(found, [0.5 - level / 2, 0.5 + level / 2], axis=0))
    return Prediction(law.predict(X).value, ends[0], ends[1], level)


def huber(residuals: Array, delta: float = DELTA) -> float:
    """Return the sum of Huber losses: r^2 / 2 within delta, delta (|r| - delta / 2) beyond."""
    size = np.abs(residuals)
    return float(np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)).sum())


def _log_law(form: Form, u: Array, packed: Array) -> tuple[Array, Array]:
    """Return log f [n] and its derivative by (log c, theta), [n, p + q]."""
    p = len(form.linear)
    c = np.exp(packed[:p])
    basis, slope = form.basis(u, packed[p:])
    value = np.maximum(basis @ c, 1e-300)
    return np.log(value), np.hstack([basis * c, np.einsum("npq,p->nq", slope, c)]) / value[:, None]


def _projected(form: Form, u: Array, loss: Array, theta: Array) -> tuple[Array, float]:
    """Return the linear coefficients [p] given theta, by least relative squares, and the sum of |log residuals|."""
    basis = form.basis(u, theta)[0] / loss[:, None]
    size = np.linalg.norm(basis, axis=0)
    c = nnls(basis / size, np.ones(len(loss)))[0] / size
    return c, float(np.abs(np.log(np.maximum(basis @ c, 1e-12))).sum())


def _searched(form: Form, u: Array, loss: Array) -> list[Array]:
    """Return the best few theta of a grid that is logarithmic in exponents."""
    q = len(form.shape)
    axes = [
        np.linspace(*ends, _GRID[q]) if name in form.logs else np.geomspace(0.02, ends[1], _GRID[q])
        for name, ends in zip(form.shape, form.bounds, strict=True)
    ]
    grid = [np.array(theta) for theta in itertools.product(*axes)]
    costs = np.array([_projected(form, u, loss, theta)[1] for theta in grid])
    return [grid[i] for i in np.argsort(costs, kind="stable")[:_POLISHED]]


def _polished(form: Form, u: Array, loss: Array, delta: float, theta: Array) -> tuple[float, Array]:
    """Return the Huber sum and (log c, theta) at the nearest minimum; vanishing terms are set to 0."""
    target, p = np.log(loss), len(form.linear)
    theta = _descended(form, u, loss, theta)
    c = _projected(form, u, loss, theta)[0]
    share = (form.basis(u, theta)[0] * c / loss[:, None]).max(axis=0)
    # A term at zero has no logarithm; it starts at a small value, and the fit removes it if needed.
    packed = np.concatenate([np.log(np.where(share > 1e-3, c, 1e-3 * np.median(loss))), theta])
    low = np.concatenate([np.full(p, np.log(np.median(loss)) - 18.0), [ends[0] for ends in form.bounds]])
    high = np.concatenate([np.full(p, np.log(np.median(loss)) + 18.0), [ends[1] for ends in form.bounds]])
    packed = np.clip(packed, low + 1e-9, high - 1e-9)
    for threshold in (30 * delta, 5 * delta, delta):
        packed = least_squares(
            lambda x: _log_law(form, u, x)[0] - target,
            packed,
            lambda x: _log_law(form, u, x)[1],
            bounds=(low, high),
            loss="huber",
            f_scale=threshold,
            max_nfev=60,
        ).x
    return _finished(form, u, target, delta, packed, low, high)


def _descended(form: Form, u: Array, loss: Array, theta: Array) -> Array:
    """Improve theta by a short simplex search with the linear coefficients projected out."""
    low, high = np.array(form.bounds).T
    found = minimize(
        lambda x: _projected(form, u, loss, np.clip(x, low, high))[1],
        theta,
        method="Nelder-Mead",
        options={"maxfev": 40 * len(theta), "xatol": 1e-3, "fatol": 1e-6 * len(loss)},
    )
    return np.clip(found.x, low, high)


def _finished(
    form: Form, u: Array, target: Array, delta: float, packed: Array, low: Array, high: Array
) -> tuple[float, Array]:
    """Minimize the Huber sum by BFGS in whitened coordinates."""
    slope = _log_law(form, u, packed)[1]
    free = (packed > low + 1e-6) & (packed < high - 1e-6)
    values, vectors = np.linalg.eigh(slope[:, free].T @ slope[:, free])
    whiten = vectors / np.sqrt(np.maximum(values, 1e-8 * max(values.max(initial=0.0), 1e-12)))

    def at(z: Array) -> Array:
        point = packed.copy()
        point[free] = np.clip(packed[free] + whiten @ z, low[free], high[free])
        return point

    def value_and_gradient(z: Array) -> tuple[float, Array]:
        mean, slope = _log_law(form, u, at(z))
        residuals = mean - target
        gradient = np.clip(residuals, -delta, delta) @ slope[:, free] @ whiten
        return huber(residuals, delta) / delta**2, gradient / delta**2

    best = packed
    if free.any():
        result = minimize(
            value_and_gradient, np.zeros(free.sum()), jac=True, method="BFGS", options={"gtol": 1e-6}
        )
        best = at(result.x)
    basis = form.basis(u, best[len(form.linear) :])[0]
    share = (basis * np.exp(best[: len(form.linear)]) / np.exp(target)[:, None]).max(axis=0)
    best[: len(form.linear)][share < _ABSENT] = -np.inf
    return huber(_log_law(form, u, best)[0] - target, delta), best


def _with_laplace(law: FittedLaw, delta: float) -> FittedLaw:
    """Add Huber's asymptotic covariance, s^2 E[psi^2] / E[psi']^2 (J' J)^-1, for Gaussian residuals of scale s.

    The scale is the larger of the scaled median absolute residual and a clipped standard deviation. The median is
    zero if there are few points and the law passes through half of them.
    """
    residuals, slope = law.residuals(), law.slopes(law.X)
    free = np.isfinite(law.packed)
    spare = max(len(residuals) - int(free.sum()), 1)
    middle = 1.4826 * float(np.median(np.abs(residuals)))
    clipped = np.clip(residuals, -3 * middle, 3 * middle) if middle > 0 else residuals
    scale = max(middle * np.sqrt(len(residuals) / spare), float(np.sqrt((clipped**2).sum() / spare)), 1e-9)
    k = delta / scale
    inside = 2 * norm.cdf(k) - 1
    efficiency = (inside - 2 * k * norm.pdf(k) + 2 * k**2 * norm.sf(k)) / inside**2
    values, vectors = np.linalg.eigh(slope[:, free].T @ slope[:, free])
    # Directions that the points do not identify have a very large variance.
    values = np.maximum(values, 1e-10 * max(float(values.max(initial=0.0)), 1e-12))
    covariance = np.zeros_like(law.covariance)
    covariance[np.ix_(free, free)] = scale**2 * efficiency * (vectors / values) @ vectors.T
    return replace(law, covariance=covariance, scale=scale)
