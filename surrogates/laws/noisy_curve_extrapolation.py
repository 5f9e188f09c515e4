"""Extrapolation of short, noisy learning curves by power laws with partially pooled slopes.

Shapes: k curves measured at the same n scales x (examples), errors [k, n]. All computations are in u = log x and y
= log error. The law of curve i is y = a_i + b_i u, with weights that decrease by half every few doublings towards
earlier points, and slopes b_i ~ N(b, t^2): a noisy slope shrinks towards that of the other curves, as far as the
curves agree (empirical Bayes; Morris 1983, eq. 1.9). More data never increases the error: slopes are at most 0, and
the upper end of an interval is at most the present error plus noise.

The rate of the weights is validated: the last points are held out and predicted from the others, and so they are by
two baselines, the slope of the last three points and the last value. The best one predicts. The held-out errors
also widen intervals that are too narrow.

`curve_extrapolation.py` is for curves with little noise. If a point is one run on a few hundred examples, the noise
is as large as the effect of a doubling, and the slope of three points has no predictive value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from surrogates.laws.baselines import LAST, SLOPE
from surrogates.laws.curve_extrapolation import checked_curves, last_value, slope_rule
from surrogates.laws.fitting import LEVEL
from surrogates.laws.functional_forms import Array

_LAWS = {"halving 1": 1.0, "halving 0.5": 0.5, "halving 2": 2.0, "all alike": np.inf}
"""Doublings of the data over which the weight of a point decreases by half."""
_RULES = (*_LAWS, SLOPE, LAST)
_DRIFT = 0.3
"""Standard deviation of the random walk of the slope beyond the last point, as a share of the slope per factor e of
the data. It was set on simulated curves that saturate or that have just started to decrease
(`tests/unit/surrogates`)."""
FEWEST_POINTS = 5
"""Minimum number of points of a curve: four for the fit, and one for the validation of a forecast."""


@dataclass(frozen=True)
class NoisyForecast:
    """Predicted errors of k curves at one scale.

    Args:
        at: the scale.
        value: errors, shape [k].
        low: lower ends of the intervals, shape [k].
        high: upper ends of the intervals, shape [k].
        level: probability of the intervals.
        rule: description of the law or baseline in use.
        backtest: mean |log error| of the held-out forecasts, of the one in use (`used`) and of the baselines by name.
    """

    at: float
    value: Array
    low: Array
    high: Array
    level: float
    rule: str
    backtest: dict[str, float]


@dataclass(frozen=True)
class _Law:
    """The laws of k curves.

    Args:
        center: u at which the levels are defined.
        last: u of the last point.
        level: log errors at the center, shape [k].
        slope: slopes, shape [k].
        level_variance: variance of a level.
        slope_variance: variance of a slope.
        noise: variance of a new point.
    """

    center: float
    last: float
    level: Array
    slope: Array
    level_variance: float
    slope_variance: float
    noise: float

    def at(self, end: float) -> tuple[Array, float]:
        """Return the log errors [k] of a new point at u = end, and their standard deviation."""
        reach = end - self.center
        drift = (_DRIFT * float(self.slope.mean())) ** 2 * max(end - self.last, 0.0) ** 3 / 3.0
        variance = self.level_variance + reach**2 * self.slope_variance + self.noise + drift
        return self.level + self.slope * reach, float(np.sqrt(variance))


def extrapolate_noisy(x: Array, errors: Array, at: float, level: float = LEVEL) -> NoisyForecast:
    """Extrapolate every curve to the scale `at`.

    Args:
        x: scales, increasing and positive, shape [n], n >= `FEWEST_POINTS`.
        errors: positive errors of curves of one task, shape [k, n] or [n].
        at: the target scale, beyond the last x.
        level: probability of the intervals.

    Raises:
        ValueError: There are too few points, values are not positive, or the target is within the data.
    """
    u, y = checked_curves(x, errors, at)
    if len(u) < FEWEST_POINTS:
        raise ValueError(f"x: {len(u)} points; give at least five, so that a forecast can be validated")
    end = float(np.log(at))
    missed = {rule: _missed(u, y, rule) for rule in _RULES}
    mean = {rule: float(np.abs(found).mean()) for rule, found in missed.items()}
    used = min(_RULES, key=lambda rule: mean[rule])
    law = min(_LAWS, key=lambda rule: mean[rule])
    value = _predicted(u, y, end, used)
    fitted = _fit(u, y, law)
    deviations = float(norm.ppf(0.5 + level / 2))  # half width of an interval in standard deviations
    segment = max(1.0, _error_quantile(u, y, law, missed[used], level) / deviations)
    half = deviations * fitted.at(end)[1] * segment
    here = np.maximum(fitted.at(u[-1])[0], value) + deviations * fitted.at(u[-1])[1]
    return NoisyForecast(
        at=float(at),
        value=np.exp(value),
        low=np.exp(value - half),
        high=np.exp(np.minimum(value + half, here)),
        level=level,
        rule=_words(used),
        backtest={"used": mean[used], SLOPE: mean[SLOPE], LAST: mean[LAST]},
    )


def _fit(u: Array, y: Array, halving: str) -> _Law:
    weights = 2.0 ** ((u - u[-1]) / np.log(2.0) / _LAWS[halving])
    weights = weights / weights.sum()
    center = float(weights @ u)
    away = u - center
    spread = float(weights @ away**2)
    level, slope = y @ weights, y @ (weights * away) / spread
    residuals = y - level[:, None] - slope[:, None] * away
    effective = 1.0 / float(weights @ weights)
    # Two coefficients per curve are fitted; at least half a degree of freedom is left.
    noise = float((residuals**2 @ weights).mean()) * effective / max(effective - 2.0, 0.5)
    own = noise * float(weights**2 @ away**2) / spread**2
    between = max(float(np.var(slope, ddof=1)) - own, 0.0) if len(slope) > 1 else np.inf
    posterior = own / (own + between) if own + between > 0 else 0.0
    shared = np.minimum(posterior * slope.mean() + (1.0 - posterior) * slope, 0.0)
    variance = (
        (1.0 - posterior) * own + posterior**2 * (own + between) / len(slope) if len(slope) > 1 else own
    )
    return _Law(center, float(u[-1]), level, shared, noise / effective, variance, noise)


def _predicted(u: Array, y: Array, end: float, rule: str) -> Array:
    """Return the predicted log errors [k] at u = end."""
    if rule in _LAWS:
        return _fit(u, y, rule).at(end)[0]
    if rule == LAST:
        return np.log(last_value(np.exp(y)))
    return np.minimum(np.log(slope_rule(np.exp(u), np.exp(y), float(np.exp(end)))), y[:, -1])


def _tests(u: Array) -> list[tuple[int, int]]:
    """Return the held-out forecasts as (number of points seen, index of the predicted point)."""
    return [(seen, last) for seen in range(FEWEST_POINTS - 1, len(u)) for last in range(seen, len(u))]


def _missed(u: Array, y: Array, rule: str) -> Array:
    """Return the log errors of the held-out forecasts, shape [tests, k]."""
    found = [_predicted(u[:seen], y[:, :seen], u[last], rule) - y[:, last] for seen, last in _tests(u)]
    return np.array(found).reshape(-1, len(y))


def _error_quantile(u: Array, y: Array, law: str, missed: Array, level: float) -> float:
    """Return the quantile `level` of the held-out errors in units of the law's standard deviations.

    It is the conformal quantile of rank (k + 1) level, where k is the number of curves, because the errors of one
    curve are correlated.
    """
    own = np.array([_fit(u[:seen], y[:, :seen], law).at(u[last])[1] for seen, last in _tests(u)])
    k = missed.shape[1]
    return float(np.quantile(np.abs(missed) / own[:, None], min(level * (k + 1) / k, 1.0)))


def _words(rule: str) -> str:
    if rule not in _LAWS:
        return f"the {rule}"
    halving = _LAWS[rule]
    weights = "equal weights" if np.isinf(halving) else f"weights that halve every {halving:g} doublings"
    return f"one power law per curve ({weights}, partially pooled slopes)"
