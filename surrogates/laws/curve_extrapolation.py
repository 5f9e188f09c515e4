"""Extrapolation of learning curves by the slope of the last points, which drifts as the curves show.

Shapes: k curves measured at the same n scales x (examples, tokens or steps), losses [k, n]. All computations are in
u = log x and y = log L. The law is log L = a - c (x^rho - 1) / rho, whose slope in log-log is -c x^rho:

* rho = 0 is the power law without asymptote; through the last three points it is the baseline;
* rho > 0 decreases faster and faster, as the first phase of the rectified law of fine-tuning (Lin et al. 2024, eq.
6);
* rho < 0 flattens towards an asymptote.

rho is the growth of the slopes along the measured part, the median over the curves of one table (one task, one data
set). Three settings are validated within the measured part, where earlier points predict later ones: the share of
rho that is used (`drift`), the number of points for the slope (`window`), and the weight of the slope against the
last value (`trust`). The default uses the slope of the last three points and a share of its growth. The slope
baseline replaces it where it is better, and other settings do if they are better by more than chance. The constants
were set on one table of curves, FLAN of Lin et al. 2024; `benchmarks.laws` reports the results on others.

Intervals are conformal: the held-out errors, each divided by the scale of its forecast (the disagreement of
admissible forecasts and the roughness of the curve), give the multiple of the scale that covers the level. They
cover less if the errors of all curves of a table are correlated at a reach beyond the measured part.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from surrogates.laws.fitting import LEVEL
from surrogates.laws.functional_forms import Array

_WINDOWS, _TRUSTS, _DRIFTS = (3, 5, 1000), (0.0, 0.25, 0.5, 0.75, 1.0), tuple(np.linspace(0, 1, 11))
_SHORTEST = 4
"""Number of points before the first held-out forecast."""
_STEP_SHARE = 0.05
"""Minimum scale of a forecast, as a share of the change that the slope predicts."""
_DRIFT = 0.6
"""Default drift for many curves; with k curves it is multiplied by k / (k + 1)."""
_CHANCE = 2.0
"""A setting replaces the default if its log error is lower by this over the square root of the number of curves."""
_GROWTH_CAP = 3.0
"""Maximum log change of the slope between the last point and the target."""


@dataclass(frozen=True)
class Settings:
    """Settings of an extrapolation; the default is the slope of the last three points.

    Args:
        window: number of last points for the slope.
        trust: weight of the slope against the last value, from 0 to 1.
        drift: share of the growth of the slopes that is extrapolated, from 0 to 1.
        capped: whether an increase is limited to the range of the curve, because diverged runs level off.
    """

    window: int = 3
    trust: float = 1.0
    drift: float = 0.0
    capped: bool = False

    def __str__(self) -> str:
        if self.trust == 0.0:
            return "the last value"
        points = "all points" if self.window > 100 else f"the last {self.window} points"
        words = [f"the slope of {points}"]
        if self.trust < 1.0:
            words.append(f"weighted by {100 * self.trust:.0f} %")
        if self.drift > 0.0:
            words.append(f"drifting by {100 * self.drift:.0f} % of its growth so far")
        return ", ".join(words)


SLOPE_RULE, LAST_VALUE = Settings(), Settings(trust=0.0)
"""The two baselines."""


@dataclass(frozen=True)
class Forecast:
    """Predicted losses of k curves at one scale.

    Args:
        at: the scale.
        value: losses, shape [k].
        low: lower ends of the intervals, shape [k].
        high: upper ends of the intervals, shape [k].
        level: probability of the intervals.
        settings: the settings in use.
        backtest: mean |log error| of the held-out forecasts within the measured part, of the settings in use, the
            slope rule and the last value; NaN if the curves are too short.
    """

    at: float
    value: Array
    low: Array
    high: Array
    level: float
    settings: Settings
    backtest: dict[str, float]


def extrapolate(
    x: Array, losses: Array, at: float, level: float = LEVEL, settings: Settings | None = None
) -> Forecast:
    """Extrapolate every curve to the scale `at`.

    Args:
        x: scales, increasing and positive, shape [n], n >= 3.
        losses: positive losses of curves of one task, which share the growth of their slopes, shape [k, n] or [n].
        at: the target scale, beyond the last x.
        level: probability of the intervals.
        settings: settings in place of those with the smallest error within the measured part.

    Raises:
        ValueError: There are too few points, values are not positive, or the target is within the data.
    """
    u, y = checked_curves(x, losses, at)
    tests = _tests(len(u))
    settings = _chosen(u, y, tests) if settings is None else settings
    ends = np.array([float(np.log(at))])
    value = _extended(u, y, ends[0], [settings])[0]
    scores = [_score(u, y, test, settings) for test in _far(tests)]
    width = _quantile(np.concatenate(scores), level, len(y)) if scores else np.nan
    # Without held-out forecasts: three times the disagreement, which is more than any table needed.
    half = (3.0 if not np.isfinite(width) else width) * _scale(u, y, ends[0])
    return Forecast(
        float(at), np.exp(value), np.exp(value - half), np.exp(value + half), level, settings,
        _summary(u, y, tests, settings),
    )  # fmt: skip


def slope_rule(x: Array, losses: Array, at: float) -> Array:
    """Extrapolate by a line in log-log through the last three points; returns losses [k] at the scale `at`."""
    u, y = checked_curves(x, losses, at)
    return np.exp(_extended(u, y, float(np.log(at)), [SLOPE_RULE])[0])


def last_value(losses: Array) -> Array:
    """Return the last loss of each curve, shape [k]."""
    return np.atleast_2d(np.asarray(losses, dtype=float))[:, -1]


def checked_curves(x: Array, losses: Array, at: float) -> tuple[Array, Array]:
    """Validate curves, and return log x [n] and log losses [k, n].

    Raises:
        ValueError: Shapes do not match, values are not positive and increasing, or the target is within the data.
    """
    x, losses = np.asarray(x, dtype=float), np.atleast_2d(np.asarray(losses, dtype=float))
    if x.ndim != 1 or losses.shape[1:] != x.shape:
        raise ValueError(f"x {x.shape}, losses {losses.shape}: give shapes [n] and [k, n] that agree")
    if len(x) < 3:
        raise ValueError(f"x: {len(x)} points; a curve needs three to have a slope")
    if not ((x > 0).all() and (np.diff(x) > 0).all()):
        raise ValueError("x: scales must be positive and increase from point to point; sort and merge them")
    if not (np.isfinite(losses).all() and (losses > 0).all()):
        rows = np.flatnonzero(~(np.isfinite(losses) & (losses > 0)).all(axis=1))
        raise ValueError(f"losses: curve {rows[0]} has a value that is not a positive number; leave it out")
    if not at > x[-1]:
        raise ValueError(f"at: {at:g} is within the curve, which ends at {x[-1]:g}; give a larger scale")
    return np.log(x), np.log(losses)


def _growth(u: Array, y: Array) -> Array:
    """Return the growth of the slope, [k]: the derivative of log |dy/du| by u, by weighted least squares."""
    steps, middles = np.diff(u), 0.5 * (u[1:] + u[:-1])
    slopes = -np.diff(y, axis=1) / steps
    floor = 0.1 * np.abs(slopes).mean(axis=1, keepdims=True) + 1e-12
    logs = np.log(np.maximum(slopes, floor))
    weights = steps / steps.sum()
    away = middles - weights @ middles
    spread = float(weights @ away**2)
    return logs @ (weights * away) / spread if spread > 0 else np.zeros(len(y))


def _stretched(u: Array, rho: Array) -> Array:
    """Return (exp(rho u) - 1) / rho, or u if rho is 0, shape [k, len(u)]."""
    safe = np.where(np.abs(rho) < 1e-9, 1.0, rho)[:, None]
    return np.where(np.abs(rho)[:, None] < 1e-9, u, np.expm1(safe * u) / safe)


def _extended(u: Array, y: Array, end: float, settings: list[Settings], own: bool = False) -> Array:
    """Return log L at u = `end` for each of the settings, shape [len(settings), k]."""
    growth = _growth(u, y)
    if not own:
        growth = np.full(len(y), np.median(growth))
    cap = _GROWTH_CAP / (end - u[-1])
    found, lines = [], {}
    for one in settings:
        key = (one.window, one.drift)
        if key not in lines:
            rho = np.clip(one.drift * growth, -cap, cap)
            z, last = _stretched(u[-one.window :] - u[-1], rho), y[:, -one.window :]
            away = z - z.mean(axis=1, keepdims=True)
            slope = (away * last).sum(axis=1) / (away**2).sum(axis=1)
            reach = _stretched(np.array([end - u[-1]]), rho)[:, 0]
            lines[key] = last.mean(axis=1) + slope * (reach - z.mean(axis=1))
        change = one.trust * (lines[key] - y[:, -1])
        found.append(y[:, -1] + (np.minimum(change, np.ptp(y, axis=1)) if one.capped else change))
    return np.array(found)


def _scale(u: Array, y: Array, end: float) -> Array:
    """Return the uncertainty of a forecast, [k], up to a factor that held-out errors determine."""
    straight, drifting, whole = _extended(
        u, y, end, [SLOPE_RULE, Settings(drift=1.0), Settings(window=_WINDOWS[-1])]
    )
    own = _extended(u, y, end, [Settings(drift=1.0)], own=True)[0]
    disagreement = (drifting - straight) ** 2 + (own - straight) ** 2 + (whole - straight) ** 2
    noise = np.median(np.abs(np.diff(y, n=2, axis=1)), axis=1)
    change = _STEP_SHARE * (straight - y[:, -1])
    return np.sqrt(change**2 + 0.5 * disagreement + noise**2) + 1e-6


def _tests(n: int) -> list[tuple[int, int]]:
    """Return the held-out forecasts as (number of points seen, index of the predicted point)."""
    ahead = (1, 2, 3, 5, 7, 10, 15, 20, 30)
    return [(seen, seen + h - 1) for seen in range(_SHORTEST, n) for h in ahead if seen + h <= n]


def _chosen(u: Array, y: Array, tests: list[tuple[int, int]]) -> Settings:
    """Return the default settings, or settings with a smaller error within the measured part.

    The slope rule replaces the default if it is better at all. The best of many settings may be best by chance, so
    any other must be better by more than chance.
    """
    if not tests:
        return SLOPE_RULE
    k = len(y)
    default = Settings(drift=_DRIFT * k / (k + 1), capped=True)
    others = itertools.product(_WINDOWS, _TRUSTS, _DRIFTS)
    grid = [default, SLOPE_RULE, *(Settings(*each, True) for each in others)]
    total, weights = np.zeros(len(grid)), 0.0
    for seen, target in tests:
        errors = np.abs(_extended(u[:seen], y[:, :seen], u[target], grid) - y[:, target]).mean(axis=1)
        reach = u[target] - u[seen - 1]
        total += reach * np.log(errors + 1e-9)
        weights += reach
    total /= weights
    first, best = int(np.argmin(total[:2])), int(np.argmin(total))
    return grid[best if total[best] < total[first] - _CHANCE / np.sqrt(k) else first]


def _far(tests: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the forecasts of more than one point ahead if there are any; shorter ones are less informative."""
    return [test for test in tests if test[1] > test[0]] or tests


def _score(u: Array, y: Array, test: tuple[int, int], settings: Settings) -> Array:
    seen, target = test
    error = _extended(u[:seen], y[:, :seen], u[target], [settings])[0] - y[:, target]
    return np.abs(error) / _scale(u[:seen], y[:, :seen], u[target])


def _quantile(scores: Array, level: float, curves: int) -> float:
    """Return the conformal quantile, of rank (n + 1) level among n, or the largest score.

    n is the number of curves and not of scores, because the errors of one curve are correlated.
    """
    return float(np.quantile(scores, min(level * (curves + 1) / curves, 1.0)))


def _summary(u: Array, y: Array, tests: list[tuple[int, int]], settings: Settings) -> dict[str, float]:
    both = [settings, SLOPE_RULE, LAST_VALUE]
    errors = [
        np.abs(_extended(u[:seen], y[:, :seen], u[target], both) - y[:, target]).mean(axis=1)
        for seen, target in tests
    ]
    means = np.mean(errors, axis=0) if errors else np.full(3, np.nan)
    return dict(zip(("used", "slope rule", "last value"), map(float, means), strict=True))
