"""Trends of hyperparameters along a front, hp*(cost), with their probability.

Each numeric hyperparameter of the front's points, or its logarithm if it is positive and spans a factor of three,
is regressed on log cost, after CARBS (Fetterman et al. 2023, arXiv 2306.08055). The probability of a trend compares
the line with a constant, at even prior odds, by the Bayes factor of the unit-information g-prior (Liang et al.
2008, eq. 6, g = n). For a categorical hyperparameter, "different shares below and above the median cost" is
compared with "the same shares" by a Dirichlet-multinomial model with one pseudo-count per option. With few points
both stay near even odds.
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
    """The trend of one hyperparameter along a front.

    Args:
        name: name of the hyperparameter.
        points: number of points of the front with the hyperparameter.
        probability: probability that it changes with cost.
        rises: probability that it increases with cost, given a trend; None for a categorical one.
        log: whether the slope is an exponent, value ∝ cost^slope; otherwise it is the change per factor e of cost.
        slope: value, low and high; None for a categorical one.
        shares: share of each option below and above the median cost, for a categorical one.
        line: mean log cost, mean value, slope, standard deviation of the residuals, and sum of squares of log cost.
    """

    name: str
    points: int
    probability: float
    rises: float | None = None
    log: bool = False
    slope: tuple[float, float, float] | None = None
    shares: dict[str, tuple[float, float]] = field(default_factory=dict)
    line: tuple[float, float, float, float, float] | None = None

    def at(self, cost: Array, level: float = LEVEL) -> tuple[Array, Array, Array]:
        """Predict the value of a point of the front.

        Args:
            cost: costs, shape [m].
            level: probability of the interval.

        Returns:
            Value, low and high, each of shape [m].

        Raises:
            ValueError: The hyperparameter is categorical.
        """
        if self.line is None:
            raise ValueError(f"{self.name}: a categorical hyperparameter has no value; use `shares`")
        center, mean, slope, deviation, spread = self.line
        away = np.log(np.asarray(cost, dtype=float)) - center
        half = t.ppf(0.5 + level / 2, max(self.points - 2, 1)) * deviation
        half = half * np.sqrt(1.0 + 1.0 / self.points + away**2 / spread)
        ends = [mean + slope * away + sign * half for sign in (0.0, -1.0, 1.0)]
        if self.log:
            ends = [np.exp(end) for end in ends]
        return ends[0], ends[1], ends[2]


def front_of(cost: Array, quality: Array, maximize: bool) -> Labels:
    """Return the rows [f] of the points that are not dominated in cost and quality, by increasing cost."""
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
    """Return the trends of the hyperparameters over cost, the most probable first.

    Args:
        frame: a table with one row per point of the front; inactive hyperparameters are empty.
        cost: name of the column of costs, which are positive.
        parameters: names of the columns of hyperparameters; by default all other columns.
        level: probability of the intervals.

    Raises:
        InvalidInputError: There are fewer than four points, or costs are not positive or all equal.
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
            Problem("front", f"{len(frame)} points; a trend needs at least {_FEWEST}", "Run more trials.")
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
    is_high = u > np.median(u)
    counts = np.array(
        [[np.sum(values[side] == option) for option in options] for side in (~is_high, is_high)]
    )
    apart = sum(_log_evidence(row) for row in counts)
    together = _log_evidence(counts.sum(axis=0))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    pairs = {option: (float(shares[0, i]), float(shares[1, i])) for i, option in enumerate(options)}
    return Trend(name, len(values), float(expit(apart - together)), shares=pairs)


def _log_evidence(counts: Array) -> float:
    """Return the log evidence of a sequence of choices under a uniform Dirichlet prior of their shares."""
    k, n = len(counts), counts.sum()
    return float(gammaln(k) - gammaln(k + n) + gammaln(1.0 + counts).sum())
