"""What scores at smaller training budgets say of the score at the full one.

Shapes: n configurations, K budgets, rising, the last of them the full one (the top). Scores are minimized. Budgets
count relative to the top: z, above 0 and 1 at the top.

The model is y(x, z) = f(x) + m(z) + e_z. f is what a Gaussian process over configurations explains; m is what
they share, a power law of the budget, m(z) = B (z^-b - 1), which is 0 at the top; e_z is what is left, with a
variance of its own for each budget. So the process is given y - m(z), and the variance as extra noise: a score from a
low budget counts for less than one from the top.

* B and b are fitted to the differences between neighboring budgets of one configuration, in which f drops out, of
  all that were at both, also where they never came to the top. The loss is Huber's (1964), each difference relative
  to how much those of its budget differ; b has a log-normal prior around 1/2, since few budgets leave it open.
* e is taken for a walk: steps between neighboring budgets are independent, and their variances add up from a budget
  to the top. So a configuration counts once, with its score at the largest budget it had. The noise of a score at
  the top itself is the process's own.
* The law is used where it foretells hidden configurations no worse than two rules: the median of the same
  differences, and no correction at all.

Who goes on to a larger budget was chosen by the score before it, so those that did are alike, and steadier than those
that stayed behind. Hence the variance is that of those who went on from among them, whose score was no better than
that of the best who stayed; all who went on count for a few of these. `benchmarks.multi_fidelity` has how often
its intervals hold. Against the bias of the mean two corrections were tried on recorded curves and rejected: a
coefficient on the low score, shrunk towards 1, and the mean step that such a regression expects of everybody. Both
carry a line from the better half to configurations that diverge, and were worse on most tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LAW, MEDIAN, NONE = "law", "median", "none"
_EXPONENTS = np.geomspace(0.05, 4.0, 16)
_EXPONENT_CENTRE, _EXPONENT_SCALE = np.log(0.5), 1.0
_HUBER = 1.345
"""In standard deviations: 95 % as efficient as least squares where errors are Gaussian."""
_ROUNDS = 8
_FOLDS = 5
_FEWEST = 4
"""Configurations at two budgets that it takes to put the law to the test; with fewer it is used as it is."""
_TIE = 1.05
"""Between three budgets the law and the median have as many coefficients, and chance alone tells them apart."""
_CORRELATION, _PRIOR_WEIGHT = 0.85, 4
"""What the lowest budget's scores are believed to correlate with the top's; how many configurations that is worth.

Tables of real curves had rank correlations of 0.84 to 0.94 at a tenth of the full budget.
"""


@dataclass(frozen=True)
class FidelityModel:
    """How scores at each budget relate to the top; build it with `fit`.

    Args:
        budgets: [K], relative to the top.
        rule: `law`, `median` or `none`: what `offset` follows.
        offset: [K], m(z): what to take off a score at each budget; 0 at the top.
        variance: [K], of a score less its offset around the configuration's score at the top; 0 there.
        coefficient, exponent: B and b of the law, used or not; NaN where nothing could be fitted.
        errors: rule -> its median absolute error on hidden configurations; empty where they were too few.
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
        """Fit law and variances, and choose the rule.

        Args:
            budgets: [K], rising, above 0, in any unit.
            scores: [n, K], minimized; not finite where a configuration was not, or has no score.

        Raises:
            ValueError: budgets that are not positive and rising, or shapes that do not agree.
        """
        z, scores = np.asarray(budgets, dtype=float), np.asarray(scores, dtype=float)
        if z.ndim != 1 or not len(z) or not z[0] > 0 or not (np.diff(z) > 0).all():
            raise ValueError(f"budgets: {budgets}; give positive numbers that rise")
        if scores.ndim != 2 or scores.shape[1] != len(z):
            raise ValueError(f"scores {scores.shape}: give shape [n, {len(z)}], a column for each budget")
        z = z / z[-1]
        steps = np.diff(np.where(np.isfinite(scores), scores, np.nan), axis=1)
        law = _law(z, steps)
        errors = _held_out(z, scores, steps)
        rule = _best(errors) if np.isfinite(steps).any() else NONE
        offset = offsets_by(rule, z, steps, law)
        return cls(z, rule, offset, _variance(z, scores, steps, offset), *law, errors)


def _best(errors: dict[str, float]) -> str:
    """The law, unless the median of the steps is better by more than a tie, or doing nothing is better."""
    if not errors or errors[LAW] <= min(_TIE * errors[MEDIAN], errors[NONE]):
        return LAW
    return min((NONE, MEDIAN), key=errors.__getitem__)


def offsets_by(rule: str, z: Array, steps: Array, law: tuple[float, float]) -> Array:
    """m [K] by one of the rules, from the budgets z [K], the steps between them [n, K - 1] and the law's (B, b)."""
    if rule == LAW:
        return law[0] * (z ** -law[1] - 1.0)
    if rule == NONE:
        return np.zeros(len(z))
    seen = [column[np.isfinite(column)] for column in steps.T]
    medians = [float(np.median(column)) if len(column) else 0.0 for column in seen]
    return -np.append(np.cumsum(medians[::-1])[::-1], 0.0)


def _law(z: Array, steps: Array) -> tuple[float, float]:
    """B and b, by iteratively reweighted least squares for B on a grid of b; NaN without any step."""
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
    prior = 0.5 * ((np.log(_EXPONENTS) - _EXPONENT_CENTRE) / _EXPONENT_SCALE) ** 2
    best = int(np.argmin(loss + prior))
    return float(B[best]), float(_EXPONENTS[best])


def _scales(steps: Array) -> Array:
    """[K - 1]: how much the steps of each budget differ; that of the others where they are too few to say."""
    seen = [column[np.isfinite(column)] for column in steps.T]
    found = np.array([_deviation(c - np.median(c)) if len(c) > 2 else np.nan for c in seen])
    usual = float(np.nanmedian(found)) if np.isfinite(found).any() else 0.0
    found = np.where(np.isfinite(found), found, usual)
    # Steps that agree to rounding are not known a thousand times better than the others.
    largest = float(found.max())
    return np.maximum(found, 1e-3 * largest) if largest > 0 else np.ones(len(found))


def _held_out(z: Array, scores: Array, steps: Array) -> dict[str, float]:
    """Each rule's median absolute error on hidden configurations, foretold from all budgets below their last."""
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
    """|last score - each one before it| of every row, in one list."""
    there = np.isfinite(corrected)
    last = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
    final = corrected[np.arange(len(corrected)), last]
    before = there & (np.arange(there.shape[1]) < last[:, None])
    return np.abs(corrected - final[:, None])[before]


def _variance(z: Array, scores: Array, steps: Array, offset: Array) -> Array:
    """[K]: the variances of the steps from each budget to the top, added up.

    Measured among those that climbed from where others stayed behind; shrunken where they are few towards what all
    that climbed show, which counts for `_PRIOR_WEIGHT` configurations at most, and the prior.
    """
    each, spread = np.zeros(len(z) - 1), 0.0
    for k in range(len(each)):
        here, climbed = np.isfinite(scores[:, k]), np.isfinite(steps[:, k])
        if here.sum() > 2 or (here.any() and not spread):
            spread = _deviation(scores[here, k] - np.median(scores[here, k]))
        # What the prior leaves unexplained at the lowest budget, by this step's part of the way up.
        believed = (1.0 - _CORRELATION**2) * spread**2 * np.log(z[k + 1] / z[k]) / -np.log(z[0])
        left = steps[:, k] - (offset[k + 1] - offset[k])
        behind = here & ~climbed
        alike = climbed & (scores[:, k] >= scores[behind, k].min()) if behind.any() else climbed
        every, count = _deviation(left[climbed]) ** 2, min(int(climbed.sum()), _PRIOR_WEIGHT)
        believed = (count * every + _PRIOR_WEIGHT * believed) / (count + _PRIOR_WEIGHT)
        measured = alike.sum() * _deviation(left[alike]) ** 2
        each[k] = (measured + _PRIOR_WEIGHT * believed) / (alike.sum() + _PRIOR_WEIGHT)
    return np.append(np.cumsum(each[::-1])[::-1], 0.0)


def _deviation(residuals: Array) -> float:
    """A standard deviation around 0 that a few diverged runs do not set: clipped at three times the median's."""
    if not len(residuals):
        return 0.0
    middle = 1.4826 * float(np.median(np.abs(residuals)))
    kept = np.clip(residuals, -3.0 * middle, 3.0 * middle) if middle > 0 else np.zeros(1)
    return max(middle, float(np.sqrt(np.mean(kept**2))))
