"""How the best hyperparameters move along a front, hp*(cost), and whether they move at all.

Each numeric hyperparameter of the front's points is regressed on log cost (its own logarithm where it is positive
and spans a factor of three), after CARBS (Fetterman et al. 2023, arXiv 2306.08055). The probability of a trend
weighs the line against a constant, even odds beforehand, by the Bayes factor of the unit-information g-prior (Liang
et al. 2008, eq. 6, g = n). A choice weighs "different shares below and above the median cost" against "the same
shares", Dirichlet-multinomial with one pseudo-count an option. With few points both stay near even odds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit, gammaln
from scipy.stats import t

from search_spaces.errors import InvalidInputError, Problem
from surrogates.laws.fitting import LEVEL
from surrogates.laws.functional_forms import Array, Labels

_FEWEST = 4
_DECADE = 3.0


@dataclass(frozen=True)
class Trend:
    """One hyperparameter along the front."""

    name: str
    points: int
    probability: float
    """That it changes with cost at all."""
    rises: float | None = None
    """The probability that it rises, given a trend; None for a choice."""
    log: bool = False
    """Whether the exponent is one: value ∝ cost^slope; else the slope is by factor e of cost."""
    slope: tuple[float, float, float] | None = None
    """Value, low, high."""
    shares: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of a choice: each option's share below and above the median cost."""
    line: tuple[float, float, float, float, float] | None = None
    """Mean log cost, mean value, slope, residual deviation, and the spread of log cost (its sum of squares)."""

    def at(self, cost: Array, level: float = LEVEL) -> tuple[Array, Array, Array]:
        """The value and interval of a front point at these costs, [m] each; numeric hyperparameters only."""
        if self.line is None:
            raise ValueError(f"{self.name}: a choice has shares, no value; read `shares`")
        center, mean, slope, deviation, spread = self.line
        away = np.log(np.asarray(cost, dtype=float)) - center
        half = t.ppf(0.5 + level / 2, max(self.points - 2, 1)) * deviation
        half = half * np.sqrt(1.0 + 1.0 / self.points + away**2 / spread)
        ends = [mean + slope * away + sign * half for sign in (0.0, -1.0, 1.0)]
        if self.log:
            ends = [np.exp(end) for end in ends]
        return ends[0], ends[1], ends[2]


def front_of(cost: Array, quality: Array, maximize: bool) -> Labels:
    """Rows [f] of the points that no cheaper or equally dear one matches, by rising cost."""
    cost, quality = np.asarray(cost, dtype=float), np.asarray(quality, dtype=float)
    loss = -quality if maximize else quality
    order = np.lexsort((loss, cost))
    best, kept = np.inf, []
    for i in order:
        if loss[i] < best:
            best = loss[i]
            kept.append(int(i))
    return np.array(kept, dtype=int)


def trends_along(
    frame: pd.DataFrame, cost: str, parameters: Sequence[str] | None = None, level: float = LEVEL
) -> list[Trend]:
    """The trend of every hyperparameter over the cost, the surest first.

    Args:
        frame: one row a point of the front; a hyperparameter that a point lacks is empty there.
        cost: its column of costs, positive.
        parameters: columns of hyperparameters; all others by default.

    Raises:
        InvalidInputError: fewer than four points, or costs that are not positive or all the same.
    """
    _require_front(frame, cost)
    names = [str(c) for c in frame.columns if c != cost] if parameters is None else list(parameters)
    found = []
    for name in names:
        rows = frame[frame[name].notna()]
        if len(rows) < _FEWEST or rows[name].nunique() < 2 or rows[cost].nunique() < 2:
            continue
        log_cost = np.log(rows[cost].to_numpy(dtype=float))
        if pd.api.types.is_numeric_dtype(rows[name]) and not pd.api.types.is_bool_dtype(rows[name]):
            found.append(_numeric(name, log_cost, rows[name].to_numpy(dtype=float), level))
        else:
            found.append(_chosen(name, log_cost, rows[name].astype(str).tolist()))
    return sorted(found, key=lambda trend: -trend.probability)


def _require_front(frame: pd.DataFrame, cost: str) -> None:
    if len(frame) < _FEWEST:
        raise InvalidInputError(
            Problem("front", f"{len(frame)} points; a trend needs {_FEWEST} at least", "Run more trials.")
        )
    values = frame[cost].to_numpy(dtype=float)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InvalidInputError(Problem(cost, "has values that are not positive", "Leave those rows out."))
    if np.ptp(values) <= 1e-9 * values.max():
        raise InvalidInputError(Problem(cost, "is the same for all points", "Add points of other costs."))


def _numeric(name: str, u: Array, values: Array, level: float) -> Trend:
    log = bool((values > 0).all() and values.max() >= _DECADE * values.min())
    v = np.log(values) if log else values
    n, du, dv = len(v), u - u.mean(), v - v.mean()
    spread = float(du @ du)
    slope = float(du @ dv) / spread
    unexplained = min(max(float(((dv - slope * du) ** 2).sum() / (dv @ dv)), 1e-12), 1.0)
    log_factor = 0.5 * (n - 2) * np.log1p(n) - 0.5 * (n - 1) * np.log1p(n * unexplained)
    deviation = float(np.sqrt(unexplained * float(dv @ dv) / (n - 2)))
    error = deviation / np.sqrt(spread)
    half = float(t.ppf(0.5 + level / 2, n - 2)) * error
    return Trend(
        name, n, float(expit(log_factor)), float(t.cdf(slope / max(error, 1e-300), n - 2)), log,
        (slope, slope - half, slope + half), line=(float(u.mean()), float(v.mean()), slope, deviation, spread),
    )  # fmt: skip


def _chosen(name: str, u: Array, chosen: list[str]) -> Trend:
    values = np.array(chosen, dtype=object)
    options = sorted(set(chosen))
    dear = u > np.median(u)
    counts = np.array([[np.sum(values[side] == option) for option in options] for side in (~dear, dear)])
    apart = sum(_log_evidence(row) for row in counts)
    together = _log_evidence(counts.sum(axis=0))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    pairs = {option: (float(shares[0, i]), float(shares[1, i])) for i, option in enumerate(options)}
    return Trend(name, len(values), float(expit(apart - together)), shares=pairs)


def _log_evidence(counts: Array) -> float:
    """Of the sequence of choices, under a uniform Dirichlet prior of their shares."""
    k, n = len(counts), counts.sum()
    return float(gammaln(k) - gammaln(k + n) + gammaln(1.0 + counts).sum())
