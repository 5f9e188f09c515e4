"""Multi-fidelity model: the score at the full training budget, given scores at smaller budgets.

Shapes: n configurations, K increasing budgets, the last of which is the full one (the top). Scores are minimized.
Budgets z are relative to the top, above 0 and 1 at the top.

The model is y(x, z) = f(x) + m(z) + e_z. f is modeled by a Gaussian process over configurations. m is common to all
configurations, a power law of the budget, m(z) = B (z^-b - 1), which is 0 at the top. e_z is the residual, with one
variance per budget. So the Gaussian process is fitted to y - m(z) with this variance as extra noise: a score from a
low budget has less weight than one from the top.

* B and b are fitted to the differences of a configuration between neighboring budgets, in which f cancels, for all
  configurations with both scores, also without a score at the top. The loss is Huber's (1964), and each difference is
  divided by the spread of its budget. b has a log-normal prior around 1/2, because few budgets do not identify it.
* e is a random walk: steps between neighboring budgets are independent, and their variances add up from a budget to
  the top. So a configuration has one observation, its score at its largest budget. The noise of a score at the top
  is that of the Gaussian process.
* The law is used if it predicts held-out configurations at least as well as two baselines: the median of the same
  differences, and no correction.

Promotion to a larger budget is decided by the score, so the promoted configurations are more similar and more
stable than the others. Hence the variance is that of the promoted configurations whose score was no better than
that of the best one that was not promoted; all promoted configurations count as a few of these.
`benchmarks.multi_fidelity` measures the coverage of the intervals. Two corrections of the bias of the mean were
tested on recorded curves and rejected: a coefficient on the low-budget score, shrunk towards 1, and the mean step
that such a regression predicts for all configurations. Both extrapolate from the better half to configurations that
diverge, and were worse on most tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LAW, MEDIAN, NONE = "law", "median", "none"
"""The names of the law and of the two baselines."""
_EXPONENTS = np.geomspace(0.05, 4.0, 16)
_EXPONENT_CENTER, _EXPONENT_SCALE = np.log(0.5), 1.0
_HUBER = 1.345
"""Threshold of the Huber loss in standard deviations: 95 % of the efficiency of least squares for Gaussian errors."""
_ROUNDS = 8
_FOLDS = 5
_FEWEST = 4
"""Minimum number of configurations with two budgets for a validation of the law; with fewer it is always used."""
_TIE = 1.05
"""Factor by which the median must be better than the law. For three budgets both have two coefficients, and smaller
differences are chance."""
_CORRELATION, _PRIOR_WEIGHT = 0.85, 4
"""Prior correlation of scores at the lowest budget and at the top, and its weight in configurations.

Tables of real curves had rank correlations of 0.84 to 0.94 at a tenth of the full budget.
"""


@dataclass(frozen=True)
class FidelityModel:
    """The relation of scores at each budget to those at the top; `fit` builds it.

    Args:
        budgets: budgets relative to the top, shape [K].
        rule: the rule for `offset`: `law`, `median` or `none`.
        offset: m(z), to subtract from a score at each budget, shape [K]; 0 at the top.
        variance: variance of a score minus its offset around the configuration's score at the top, shape [K]; 0 at
            the top.
        coefficient: B of the law, whether it is used or not; NaN without data.
        exponent: b of the law, whether it is used or not; NaN without data.
        errors: median absolute error of each rule on held-out configurations; empty if there are too few.
    """

    budgets: Array
    rule: str
    offset: Array
    variance: Array
    coefficient: float
    exponent: float
    errors: dict[str, float]

    @classmethod
    def fit(cls, budgets: Sequence[float] | Array, scores: Array) -> FidelityModel:
        """Fit the law and the variances, and select the rule.

        Args:
            budgets: budgets, positive and increasing, in any unit, shape [K].
            scores: scores, minimized, shape [n, K]; not finite where a configuration has no score.

        Raises:
            ValueError: Budgets are not positive and increasing, or shapes do not match.
        """
        z, scores = np.asarray(budgets, dtype=float), np.asarray(scores, dtype=float)
        if z.ndim != 1 or not len(z) or not z[0] > 0 or not (np.diff(z) > 0).all():
            raise ValueError(f"budgets: {budgets}; give positive, increasing numbers")
        if scores.ndim != 2 or scores.shape[1] != len(z):
            raise ValueError(f"scores {scores.shape}: give shape [n, {len(z)}], one column per budget")
        z = z / z[-1]
        steps = np.diff(np.where(np.isfinite(scores), scores, np.nan), axis=1)
        law = _law(z, steps)
        errors = _held_out(z, scores, steps)
        rule = _best(errors) if np.isfinite(steps).any() else NONE
        offset = offsets_by(rule, z, steps, law)
        return cls(z, rule, offset, _variance(z, scores, steps, offset), *law, errors)


def _best(errors: dict[str, float]) -> str:
    """Return the law, unless the median is better by more than `_TIE`, or no correction is better."""
    if not errors or errors[LAW] <= min(_TIE * errors[MEDIAN], errors[NONE]):
        return LAW
    return min((NONE, MEDIAN), key=errors.__getitem__)


def offsets_by(rule: str, z: Array, steps: Array, law: tuple[float, float]) -> Array:
    """Return m [K] by one of the rules.

    Args:
        rule: `LAW`, `MEDIAN` or `NONE`.
        z: budgets relative to the top, shape [K].
        steps: differences between neighboring budgets, shape [n, K - 1].
        law: B and b of the law.
    """
    if rule == LAW:
        return law[0] * (z ** -law[1] - 1.0)
    if rule == NONE:
        return np.zeros(len(z))
    seen = [column[np.isfinite(column)] for column in steps.T]
    medians = [float(np.median(column)) if len(column) else 0.0 for column in seen]
    return -np.append(np.cumsum(medians[::-1])[::-1], 0.0)


def _law(z: Array, steps: Array) -> tuple[float, float]:
    """Return B and b, by iteratively reweighted least squares for B on a grid of b; NaN without any step."""
    rows, columns = np.nonzero(np.isfinite(steps))
    if not len(rows):
        return np.nan, np.nan
    d = steps[rows, columns]
    scale = _scales(steps)[columns]
    shape = np.diff(z[None, :] ** -_EXPONENTS[:, None], axis=1)[:, columns]
    B = np.median(d / shape, axis=1)
    for _ in range(_ROUNDS):
        off = np.abs(d - B[:, None] * shape) / scale
        weight = np.minimum(1.0, _HUBER / np.maximum(off, 1e-12)) / scale**2
        weight *= shape
        before, B = B, weight @ d / (weight * shape).sum(axis=1)
        if np.abs(B - before).max() <= 1e-4 * np.abs(B).max():
            break
    off = np.abs(d - B[:, None] * shape) / scale
    loss = np.where(off <= _HUBER, 0.5 * off**2, _HUBER * (off - 0.5 * _HUBER)).sum(axis=1)
    prior = 0.5 * ((np.log(_EXPONENTS) - _EXPONENT_CENTER) / _EXPONENT_SCALE) ** 2
    best = int(np.argmin(loss + prior))
    return float(B[best]), float(_EXPONENTS[best])


def _scales(steps: Array) -> Array:
    """Return the spread of the steps of each budget, [K - 1]; that of the other budgets if there are too few."""
    seen = [column[np.isfinite(column)] for column in steps.T]
    found = np.array([_deviation(c - np.median(c)) if len(c) > 2 else np.nan for c in seen])
    usual = float(np.nanmedian(found)) if np.isfinite(found).any() else 0.0
    found = np.where(np.isfinite(found), found, usual)
    # Steps that agree up to rounding must not have an arbitrarily large weight.
    largest = float(found.max())
    return np.maximum(found, 1e-3 * largest) if largest > 0 else np.ones(len(found))


def _held_out(z: Array, scores: Array, steps: Array) -> dict[str, float]:
    """Return each rule's median absolute error on held-out configurations, predicted from all lower budgets."""
    candidates = np.flatnonzero(np.isfinite(steps).any(axis=1))
    if len(candidates) < _FEWEST:
        return {}
    found: dict[str, list[Array]] = {LAW: [], MEDIAN: [], NONE: []}
    for fold in range(min(_FOLDS, len(candidates))):
        hidden = candidates[fold::_FOLDS]
        shown = np.delete(steps, hidden, axis=0)
        law = _law(z, shown)
        for rule, errors in found.items():
            errors.append(_misses(scores[hidden] - offsets_by(rule, z, shown, law)))
    return {rule: float(np.median(np.concatenate(errors))) for rule, errors in found.items()}


def _misses(corrected: Array) -> Array:
    """Return |last score - earlier score| of all earlier scores of every row, flattened."""
    there = np.isfinite(corrected)
    last = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
    final = corrected[np.arange(len(corrected)), last]
    before = there & (np.arange(there.shape[1]) < last[:, None])
    return np.abs(corrected - final[:, None])[before]


def _variance(z: Array, scores: Array, steps: Array, offset: Array) -> Array:
    """Return the sums of the variances of the steps from each budget to the top, [K].

    They are those of promoted configurations that were no better than one that was not promoted. If there are few,
    they shrink towards that of all promoted ones, with a weight of at most `_PRIOR_WEIGHT` configurations, and the
    prior.
    """
    each, spread = np.zeros(len(z) - 1), 0.0
    for k in range(len(each)):
        here, promoted = np.isfinite(scores[:, k]), np.isfinite(steps[:, k])
        if here.sum() > 2 or (here.any() and not spread):
            spread = _deviation(scores[here, k] - np.median(scores[here, k]))
        # Prior: the unexplained variance at the lowest budget times the share of this step in log budget.
        prior = (1.0 - _CORRELATION**2) * spread**2 * np.log(z[k + 1] / z[k]) / -np.log(z[0])
        left = steps[:, k] - (offset[k + 1] - offset[k])
        behind = here & ~promoted
        alike = promoted & (scores[:, k] >= scores[behind, k].min()) if behind.any() else promoted
        every, count = _deviation(left[promoted]) ** 2, min(int(promoted.sum()), _PRIOR_WEIGHT)
        prior = (count * every + _PRIOR_WEIGHT * prior) / (count + _PRIOR_WEIGHT)
        measured = alike.sum() * _deviation(left[alike]) ** 2
        each[k] = (measured + _PRIOR_WEIGHT * prior) / (alike.sum() + _PRIOR_WEIGHT)
    return np.append(np.cumsum(each[::-1])[::-1], 0.0)


def _deviation(residuals: Array) -> float:
    """Return a robust standard deviation around 0, with residuals clipped at three times the scaled median."""
    if not len(residuals):
        return 0.0
    middle = 1.4826 * float(np.median(np.abs(residuals)))
    kept = np.clip(residuals, -3.0 * middle, 3.0 * middle) if middle > 0 else np.zeros(1)
    return max(middle, float(np.sqrt(np.mean(kept**2))))
