"""The optimum of one hyperparameter as a line in log cost, from trials that vary everything at once.

Shapes: n trials, g points of a grid over lines, k covariates. The model of the transformed loss y is

    y = level(u) + others + h · bowl(s - a - b u) + noise,    h > 0,

where s is the position of the hyperparameter in its tried range (-1 to 1), u the log cost minus its mean, and a + b u
the optimum. `bowl` is x² or a bowl with logarithmic walls, times 1 + skew · sign x. Unlike `fit_bowl`, this needs no
grid of trials, and no front:

* level: a polynomial of u with free coefficients.
* others: the other hyperparameters with random linear, quadratic and cost-dependent effects and products with s, the
  categorical ones with random offsets, and a Gaussian process over all of them for what these do not describe. Each
  covariate is centered at its value among the good trials of the same cost, so that the optimum is that of good
  configurations and not that of an average one.
* y is the excess over a low quantile of the loss at the same cost on a symmetric log scale. That transformation is
  increasing, so it keeps the optimum, and failed trials do not dominate it. Trials far above the quantile count less.

The posterior is computed on a grid of (a, b), with h, the coefficients and the noise integrated out in closed form: a
g-prior with g = n for h (unit information), Student's t for b, uniform for a up to an eighth beyond the range.
Effects and shapes are mixtures over a few values. So the posterior is deterministic, and intervals of the optimum,
a ratio of coefficients without moments, need no linearization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular
from scipy.stats import t as student

from surrogates.laws.functional_forms import Array

_QUANTILE = 0.1
"""Quantile of the loss that counts as the best at a cost."""
_FAR = 2.0
"""Median deviations from that quantile over which the weight of a trial falls by a factor of e."""
_COMPRESSIONS = (1.0, 2.0, 4.0, 8.0, 16.0, 64.0)
"""Median deviations around which the scale of the transformed loss turns from linear to logarithmic; the most
probable of them is used."""
_FAINTEST = 1e-3
_GOOD = 0.3
"""Median deviations within which trials determine the center of a covariate."""
_EFFECTS = (0.02, 0.2, 2.0)
"""Variances of the random effects, in units of the noise variance."""
_PROCESSES = (0.0, 1.0, 10.0, 100.0)
"""Variances of the Gaussian process of the covariates, in the same units."""
_LENGTH = 0.4
"""Its length scale, in half ranges, times the root of the number of covariates."""
_SKEWS = ((-0.8, 0.1), (-0.4, 0.2), (0.0, 0.4), (0.4, 0.2), (0.8, 0.1))
"""Skews of the bowl with their prior weights."""
_SATURATIONS = ((0.0, 0.5), (4.0, 0.5))
"""Saturations of the walls of the bowl, per squared half range, with their prior weights."""
_BEYOND = 0.25
"""How far beyond the tried range the optimum at the mean cost may be, in half ranges."""
_WIDEST_SLOPE = 3.0
"""Largest slope of the grid, in scales of its prior."""
_DEGREES = 4.0
"""Degrees of freedom of the prior of the slope."""
_COARSE, _FINE = (31, 25), (41, 31)
_KERNELS = 2
"""Number of the most probable covariances that the fine grid averages over."""


@dataclass(frozen=True)
class MovingBowl:
    """The posterior of the line a + b u on a grid.

    Args:
        optima: a, the optimum at the mean log cost, in [-1, 1] within the tried range, shape [g].
        slopes: b per factor e of cost, shape [g].
        weights: posterior probabilities, shape [g], sum 1.
        halfwidth: distance from the optimum at which the expected loss exceeds the best by one standard deviation of
            the noise of a trial, in half ranges.
        curved: probability that the hyperparameter matters in the form of a bowl.
        changes: probability that the optimum depends on cost, at even prior odds.
        log_cost: the mean log cost.
    """

    optima: Array
    slopes: Array
    weights: Array
    halfwidth: float
    curved: float
    changes: float
    log_cost: float

    def at(self, log_cost: float) -> Array:
        """Return the optimum of each line at a log cost, shape [g]."""
        return self.optima + self.slopes * (log_cost - self.log_cost)


def weighted_quantiles(values: Array, weights: Array, at: Sequence[float]) -> Array:
    """Return quantiles of a discrete distribution, interpolated, shape [len(at)]."""
    order = np.argsort(values, kind="stable")
    steps = np.cumsum(weights[order]) - 0.5 * weights[order]
    return np.interp(np.asarray(at), steps / weights.sum(), values[order])


def fit_moving_bowl(
    position: Array, log_cost: Array, loss: Array, slope_scale: float, covariates: Array, labels: Array
) -> MovingBowl:
    """Compute the posterior of the optimum's line.

    Args:
        position: position of the hyperparameter in its tried range, from -1 to 1, shape [n].
        log_cost: log costs, not all equal, shape [n].
        loss: losses, minimized, not all equal, shape [n].
        slope_scale: scale of the prior of the slope, in half ranges per factor e of cost.
        covariates: positions of the other ordered hyperparameters, from -1 to 1, shape [n, k].
        labels: indicators of the options of the categorical hyperparameters, shape [n, l].
    """
    center = float(log_cost.mean())
    u = log_cost - center
    level = _level(u)
    excess = loss - level @ _quantile_fit(level, loss)
    spread = max(float(np.median(np.abs(excess))), 1e-12)
    weight = np.maximum(np.exp(-np.maximum(excess, 0.0) / (_FAR * spread)), _FAINTEST)
    good = np.exp(-np.maximum(excess - np.quantile(excess, _QUANTILE), 0) / (_GOOD * spread)) + 1e-4
    effects = _effects(position, u, covariates, labels, good)
    process = _process(covariates, u, labels)
    covariances = [
        np.diag(1.0 / weight) + effect * (effects @ effects.T) + variance * process
        for effect in _EFFECTS
        for variance in _PROCESSES
    ]
    degrees = max(float(weight.sum()) - level.shape[1] - 1.0, 2.0)
    problem = _Problem(position, u, level, float(weight.sum()), degrees)
    y = _transformed(problem, covariances, excess / spread, weight)
    kernels = [_Kernel.of(problem, covariance).with_y(y) for covariance in covariances]
    coarse = _grid(slope_scale, _COARSE, (-1.0 - _BEYOND, 1.0 + _BEYOND), (-_WIDEST_SLOPE, _WIDEST_SLOPE))
    found = [_evidence(problem, kernel, *coarse, skews=((0.0, 1.0),)) for kernel in kernels]
    prior = student.pdf(coarse[1] / slope_scale, _DEGREES)
    prior /= prior.sum()
    curved, changes, box = _hypotheses(problem, kernels, found, prior, coarse)
    best = np.argsort([-np.logaddexp.reduce(each.log_evidence) for each in found], kind="stable")[:_KERNELS]
    a, b = _grid(1.0, _FINE, *box)
    fine = [_evidence(problem, kernels[i], a, b, skews=_SKEWS) for i in best]
    joint = np.stack([each.log_evidence for each in fine]) + student.logpdf(b / slope_scale, _DEGREES)
    weights = np.exp(joint - joint.max())
    weights /= weights.sum()
    height = float(sum((w * each.height).sum() for w, each in zip(weights, fine, strict=True)))
    noise = float(sum((w * each.noise).sum() for w, each in zip(weights, fine, strict=True)))
    halfwidth = float(np.sqrt(noise / max(height, 1e-12)))
    return MovingBowl(a, b, weights.sum(axis=0), halfwidth, curved, changes, center)


@dataclass(frozen=True)
class _Problem:
    """What all kernels share; `count` is the effective number of trials."""

    s: Array
    u: Array
    level: Array
    count: float
    degrees: float


@dataclass(frozen=True)
class _Kernel:
    """A covariance with the level projected out: its Cholesky factor, and the whitened y."""

    factor: Array
    basis: Array
    y: Array
    log_det: float

    @classmethod
    def of(cls, problem: _Problem, covariance: Array) -> _Kernel:
        factor = np.asarray(np.linalg.cholesky(covariance), dtype=float)
        basis, triangle = np.linalg.qr(solve_triangular(factor, problem.level, lower=True))
        log_det = -np.log(np.diag(factor)).sum() - np.log(np.abs(np.diag(triangle))).sum()
        return cls(factor, basis, np.zeros(len(factor)), float(log_det))

    def with_y(self, y: Array) -> _Kernel:
        return replace(self, y=self.whitened(y))

    def whitened(self, columns: Array) -> Array:
        scaled = solve_triangular(self.factor, columns, lower=True)
        return np.asarray(scaled - self.basis @ (self.basis.T @ scaled))

    def log_evidence(self, residual: Array | float, problem: _Problem) -> Array:
        return np.asarray(self.log_det - 0.5 * (problem.degrees + 1.0) * np.log(residual))


@dataclass(frozen=True)
class _Evidence:
    """Log evidence, expected height and noise of each line, shape [g] each."""

    log_evidence: Array
    height: Array
    noise: Array


def _evidence(
    problem: _Problem, kernel: _Kernel, a: Array, b: Array, skews: Sequence[tuple[float, float]]
) -> _Evidence:
    """Return the evidence of each line, summed over shapes; height and noise are those of the best shape."""
    x = problem.s[:, None] - a - problem.u[:, None] * b
    parts = [
        part
        for saturation, weight in _SATURATIONS
        for part in _shapes(problem, kernel, _walls(x, saturation), np.sign(x), skews, weight)
    ]
    logs, heights, noises = (np.stack(part) for part in zip(*parts, strict=True))
    best = logs.argmax(axis=0), np.arange(len(a))
    return _Evidence(np.logaddexp.reduce(logs, axis=0), heights[best], noises[best])


def _walls(x: Array, saturation: float) -> Array:
    """Return x², or a bowl with the same bottom whose walls grow as a logarithm."""
    return x**2 if saturation == 0.0 else np.log1p(saturation * x**2) / saturation


def _shapes(
    problem: _Problem,
    kernel: _Kernel,
    walls: Array,
    side: Array,
    skews: Sequence[tuple[float, float]],
    share: float,
) -> list[tuple[Array, Array, Array]]:
    """Return log evidence, height and noise of each line, one triple for each skew of a bowl."""
    even, odd = kernel.whitened(walls), kernel.whitened(walls * side)
    with_y = even.T @ kernel.y, odd.T @ kernel.y
    grams = (even**2).sum(axis=0), (even * odd).sum(axis=0), (odd**2).sum(axis=0)
    total, degrees = float(kernel.y @ kernel.y), problem.degrees
    shrink = problem.count / (1.0 + problem.count)
    parts = []
    for skew, weight in skews:
        gram = np.maximum(grams[0] + 2 * skew * grams[1] + skew**2 * grams[2], 1e-12)
        along = with_y[0] + skew * with_y[1]
        residual = np.maximum(total - shrink * along**2 / gram, 1e-12 * total)
        height = shrink * along / gram
        error = np.sqrt(residual / degrees * shrink / gram)
        log_evidence = kernel.log_evidence(residual, problem) - 0.5 * np.log1p(problem.count)
        log_evidence = log_evidence + np.log(
            2.0 * share * weight * student.cdf(height / error, degrees) + 1e-300
        )
        parts.append((log_evidence, np.maximum(height, 0.0), np.sqrt(residual / degrees)))
    return parts


def _hypotheses(
    problem: _Problem,
    kernels: Sequence[_Kernel],
    found: Sequence[_Evidence],
    prior: Array,
    grid: tuple[Array, Array],
) -> tuple[float, float, tuple[tuple[float, float], tuple[float, float]]]:
    """Return P(bowl), P(slope is not 0), and the box of the grid that holds the posterior."""
    a, b = grid
    flat = np.array([float(k.log_evidence(float(k.y @ k.y), problem)) for k in kernels])
    logs = np.stack([each.log_evidence for each in found])
    top = max(float(logs.max()), float(flat.max()))
    likelihood = np.exp(logs - top).sum(axis=0)
    bowl, none = float((likelihood * prior).sum()), float(np.exp(flat - top).sum())
    constant = float(likelihood[np.isclose(b, 0.0)].mean())
    posterior = likelihood * prior
    box = []
    for values, room in ((a, 0.3), (b, 0.1 * float(np.ptp(b)))):
        low, high = weighted_quantiles(values, posterior, (0.0005, 0.9995))
        box.append((max(low - room, values.min()), min(high + room, values.max())))
    return bowl / max(bowl + none, 1e-300), bowl / max(bowl + constant, 1e-300), (box[0], box[1])


def _grid(
    scale: float, counts: tuple[int, int], a: tuple[float, float], b: tuple[float, float]
) -> tuple[Array, Array]:
    """Return the points of a grid of lines; `scale` is the unit of the slopes."""
    optima, slopes = np.meshgrid(
        np.linspace(*a, counts[0]), scale * np.linspace(*b, counts[1]), indexing="ij"
    )
    return optima.ravel(), slopes.ravel()


def _level(u: Array) -> Array:
    columns = [np.ones_like(u), u]
    if len(np.unique(np.round(u, 6))) >= 4:
        columns.append(u**2)
    return np.column_stack(columns)


def _transformed(problem: _Problem, covariances: Sequence[Array], excess: Array, weight: Array) -> Array:
    """Return the excess on the most probable symmetric log scale, given effects of all hyperparameters, shape [n]."""
    s = problem.s
    own = np.column_stack([s, s**2, s * problem.u])
    kernels = [_Kernel.of(problem, covariance + own @ own.T) for covariance in covariances]
    best, found = -np.inf, excess
    for scale in _COMPRESSIONS:
        log_slope = -np.log1p(np.abs(excess) / scale)
        y = np.sign(excess) * scale * -log_slope
        evidence = [
            float(kernel.log_evidence(float(np.sum(kernel.whitened(y) ** 2)), problem)) for kernel in kernels
        ]
        total = float(np.logaddexp.reduce(evidence) + weight @ log_slope)
        if total > best:
            best, found = total, y
    return found


def _quantile_fit(level: Array, loss: Array) -> Array:
    """Return the coefficients of a quantile regression, by iteratively reweighted least squares."""
    found = np.asarray(np.linalg.lstsq(level, loss, rcond=None)[0], dtype=float)
    smallest = 1e-3 * max(float(np.subtract(*np.percentile(loss, [75, 25]))), 1e-12)
    for _ in range(60):
        residual = loss - level @ found
        weight = np.where(residual > 0, _QUANTILE, 1.0 - _QUANTILE) / np.maximum(np.abs(residual), smallest)
        found = np.linalg.lstsq(np.sqrt(weight)[:, None] * level, np.sqrt(weight) * loss, rcond=None)[0]
    return found


def _effects(s: Array, u: Array, covariates: Array, labels: Array, good: Array) -> Array:
    """Return the columns of the random effects, shape [n, r]."""
    design = np.column_stack([np.ones_like(u), u])
    damping = np.diag([1e-6, 0.3 * float(good.sum()) * float(u.var()) + 1e-9])
    columns = []
    for x in covariates.T:
        line = np.linalg.solve((design.T * good) @ design + damping, (design.T * good) @ x)
        away = x - design @ line
        columns += [away, away**2, away * u / u.std(), away * s]
    for label in labels.T:
        away = label - label.mean()
        columns += [away, away * s]
    return np.column_stack(columns) if columns else np.zeros((len(u), 1))


def _process(covariates: Array, u: Array, labels: Array) -> Array:
    """Return the correlations of the Gaussian process, shape [n, n]."""
    inputs = np.column_stack([covariates, u / (2.0 * u.std()), labels])
    squares = ((inputs[:, None, :] - inputs[None]) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-0.5 * squares / (_LENGTH**2 * inputs.shape[1])))
