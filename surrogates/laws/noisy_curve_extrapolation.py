"""Short, noisy learning curves carried on: a power law each, whose slopes the curves of one task share in part.

Shapes: k curves measured at the same n scales x (examples), errors [k, n]. Everything happens in u = log x and
y = log error. The law of curve i is y = a_i + b_i u, fitted to the later points more than to the earlier ones
(weights halve every so many doublings), with slopes b_i ~ N(b, t^2): a curve whose own slope the noise leaves open
takes that of the others, as far as the curves agree (empirical Bayes; Morris 1983, eq. 1.9). More data makes no law
worse: slopes are at most 0, and the worse end of an interval is what is there now, and noise.

How fast the weights halve is put to the test: the last points are hidden and foretold from the rest, as they are by
two rules that know nothing, the slope of the last three points and the last value. The best of all predicts. The
same errors say by how much the intervals are too narrow, and they are widened by it.

`curves.py` is for curves that were measured well. Where one run of a few hundred examples makes a point, noise is as
large as what a doubling brings, and the slope of three points foretells nothing with an interval of everything.
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
"""Doublings of the data over which a point's weight halves."""
_RULES = (*_LAWS, SLOPE, LAST)
_DRIFT = 0.3
"""No curve stays a power law: beyond the last point its slope walks at random, by this share of itself in a factor e
of the data. Set on simulated curves that saturate or have just begun to fall (`tests/unit/surrogates`)."""
FEWEST_POINTS = 5
"""That a curve needs: four to learn from, and one to test a forecast on."""


@dataclass(frozen=True)
class NoisyForecast:
    """Errors at `at`, [k] each, with an interval of probability `level`.

    Args:
        rule: what foretold, in words.
        backtest: mean |log error| of the held-out forecasts: of what is `used`, and of the two rules by name.
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
    """The curves' laws: levels at a common center, slopes, and the variances of each and of a new point; `last` is
    where the curves end."""

    center: float
    last: float
    level: Array
    slope: Array
    level_variance: float
    slope_variance: float
    noise: float

    def at(self, end: float) -> tuple[Array, float]:
        """The log error [k] of a new point at u = end, and its standard deviation."""
        reach = end - self.center
        drift = (_DRIFT * float(self.slope.mean())) ** 2 * max(end - self.last, 0.0) ** 3 / 3.0
        variance = self.level_variance + reach**2 * self.slope_variance + self.noise + drift
        return self.level + self.slope * reach, float(np.sqrt(variance))


def extrapolate_noisy(x: Array, errors: Array, at: float, level: float = LEVEL) -> NoisyForecast:
    """Carry every curve on to the scale `at`.

    Args:
        x: [n], increasing and positive; n >= `FEWEST_POINTS`.
        errors: [k, n] or [n], positive: curves of one task.
        at: beyond the last x.

    Raises:
        ValueError: too few points, values that are not positive, or a target inside the data.
    """
    u, y = checked_curves(x, errors, at)
    if len(u) < FEWEST_POINTS:
        raise ValueError(f"x: {len(u)} points; give five at least, so that a forecast can be tested")
    end = float(np.log(at))
    missed = {rule: _missed(u, y, rule) for rule in _RULES}
    mean = {rule: float(np.abs(found).mean()) for rule, found in missed.items()}
    used = min(_RULES, key=lambda rule: mean[rule])
    law = min(_LAWS, key=lambda rule: mean[rule])
    value = _predicted(u, y, end, used)
    fitted = _fit(u, y, law)
    deviations = float(norm.ppf(0.5 + level / 2))  # from the middle of an interval to its ends
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
    # Two coefficients a curve are spent; half a point at least is left of the few that count.
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
    """The log error [k] at u = end."""
    if rule in _LAWS:
        return _fit(u, y, rule).at(end)[0]
    if rule == LAST:
        return np.log(last_value(np.exp(y)))
    return np.minimum(np.log(slope_rule(np.exp(u), np.exp(y), float(np.exp(end)))), y[:, -1])


def _tests(u: Array) -> list[tuple[int, int]]:
    """Held-out forecasts: (points seen, index of the point foretold)."""
    return [(seen, last) for seen in range(FEWEST_POINTS - 1, len(u)) for last in range(seen, len(u))]


def _missed(u: Array, y: Array, rule: str) -> Array:
    """How far held-out forecasts were off, [tests, k]."""
    found = [_predicted(u[:seen], y[:, :seen], u[last], rule) - y[:, last] for seen, last in _tests(u)]
    return np.array(found).reshape(-1, len(y))


def _error_quantile(u: Array, y: Array, law: str, missed: Array, level: float) -> float:
    """How many of the law's standard deviations it takes for `level` of the held-out errors to lie inside.

    The conformal quantile of rank (k + 1) level, k counting the curves: forecasts of one curve go wrong together.
    """
    own = np.array([_fit(u[:seen], y[:, :seen], law).at(u[last])[1] for seen, last in _tests(u)])
    k = missed.shape[1]
    return float(np.quantile(np.abs(missed) / own[:, None], min(level * (k + 1) / k, 1.0)))


def _words(rule: str) -> str:
    if rule not in _LAWS:
        return f"the {rule}"
    halving = _LAWS[rule]
    weights = "all points alike" if np.isinf(halving) else f"weights that halve every {halving:g} doublings"
    return f"a power law a curve ({weights}, slopes shared in part)"
