"""Laws hp*(cost): the best value of each ordered hyperparameter as a function of cost, from the trials of a search.

A search varies everything at once, so every finished trial informs every law; see `moving_bowl` for the model. The
line is in log cost and in the hyperparameter's own scale: logarithm (a power law), identity or logit. Intervals are
credible intervals for the best value at a cost. Beyond the costs of the trials, the prior of the slope limits how far
the optimum may move: 80 % of it is within ±0.38 for an exponent. For comparison, with parameters and tokens in
proportion, the best learning rate is ∝ cost^-0.20 and the best batch size ∝ cost^0.29 in Step Law (arXiv 2503.04715),
and ∝ cost^-0.125 and cost^0.33 in DeepSeek LLM (arXiv 2401.02954).

A hyperparameter without a law has a reason instead: too few trials, costs that are too similar, or too few values. A
law may also say that the hyperparameter is flat: no value in the tried range is better by more than the noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from search_spaces.errors import InvalidInputError, Problem
from surrogates.laws.fitting import LEVEL
from surrogates.laws.functional_forms import Array, Mask
from surrogates.laws.moving_bowl import MovingBowl, fit_moving_bowl, weighted_quantiles

ValueScale = Literal["log", "linear", "logit"]

FEWEST_TRIALS = 12
SMALLEST_SPAN = 3.0
"""Smallest ratio of the largest to the smallest cost from which a law is fitted."""
_FEWEST_VALUES = 3
_MOST_TRIALS = 256
"""With more trials, the best ones at their cost are used."""
_LOG_SLOPE = 0.25
"""Scale of the prior of an exponent."""
_WIDTHS = (0.05, 1.0)
"""Limits of the standard deviation of a value that did well, in half of the tried range."""
_LINEAR_SLOPE = 0.05
"""Scale of the prior of another slope: share of the tried range per factor e of cost."""


@dataclass(frozen=True)
class SearchLaw:
    """The best value of one hyperparameter as a function of cost.

    Args:
        name: name of the hyperparameter.
        scale: the scale on which the best value is linear in log cost.
        trials: number of trials used.
        costs: smallest and largest cost of these trials.
        tried: smallest and largest value of these trials.
        bowl: the posterior of the line.
    """

    name: str
    scale: ValueScale
    trials: int
    costs: tuple[float, float]
    tried: tuple[float, float]
    bowl: MovingBowl

    @property
    def changes(self) -> float:
        """Probability that the best value depends on cost."""
        return self.bowl.changes

    @property
    def is_flat(self) -> bool:
        """Whether no value in the tried range is distinguishable from the best: no curvature is more probable."""
        return self.bowl.curved < 0.5

    def slope(self, level: float = LEVEL) -> tuple[float, float, float]:
        """Return the change of the best value on its scale per factor e of cost, as (mean, low, high).

        On the log scale it is the exponent: best value ∝ cost^slope.
        """
        half = self._ends()[1]
        low, high = half * weighted_quantiles(self.bowl.slopes, self.bowl.weights, _tails(level))
        return float(half * (self.bowl.slopes @ self.bowl.weights)), float(low), float(high)

    def at(self, cost: float, level: float = LEVEL) -> tuple[float, float, float]:
        """Return the best value at a cost as (median, low, high), which may lie outside the tried range."""
        center, half = self._ends()
        ends = weighted_quantiles(self.bowl.at(np.log(cost)), self.bowl.weights, (0.5, *_tails(level)))
        value, low, high = (_back(float(center + half * end), self.scale) for end in ends)
        return value, low, high

    def plateau(self, cost: float) -> tuple[float, float]:
        """Return the values that are as good as the best at a cost, within the tried range.

        Their expected loss exceeds the best by less than one standard deviation of the noise of a trial.
        """
        if self.is_flat:
            return self.tried
        center, half = self._ends()
        middle = float(np.clip(self._median_position(cost), -1.0, 1.0))
        ends = np.clip([middle - self.bowl.halfwidth, middle + self.bowl.halfwidth], -1.0, 1.0)
        low, high = (_back(float(center + half * end), self.scale) for end in ends)
        return low, high

    def edge(self, cost: float) -> Literal["", "lower", "upper"]:
        """Return the end of the tried range at or beyond which the best value at a cost probably is."""
        if self.is_flat:
            return ""
        position = self._median_position(cost)
        return "" if abs(position) < 1.0 else "upper" if position > 0 else "lower"

    def is_in_domain(self, value: float) -> bool:
        """Return whether a value is on the law's scale: above 0, between 0 and 1, or any number."""
        return self.scale == "linear" or (value > 0 and (self.scale == "log" or value < 1))

    @property
    def expected_slope(self) -> float:
        """Posterior mean of the slope on the law's scale, which is zero with the probability 1 - `changes`."""
        return self.changes * self.slope()[0]

    def moved(self, value: float, cost: float, to: float) -> float:
        """Return what the law makes of a value at another cost.

        A value that did well at its cost is one more observation of the best value there, with the half width of the
        plateau as its standard deviation: the best of many noisy trials is good by luck as well. The value moves with
        the posterior mean of the line, whose slope is zero with the probability 1 - `changes`, and toward that line:
        not at its own cost, where it was tested, and by nine tenths of the distance at ten times that cost if the
        hyperparameter surely matters, less with a lower probability, down to nothing where it is flat.

        Args:
            value: a value at `cost`, inside the scale's domain.
            cost: the cost at which the value was used.
            to: the cost at which it is to be used.
        """
        center, half = self._ends()
        own = (float(_forward(np.array(value), self.scale)) - center) / half
        here, there = self.bowl.at(np.log(cost)), self.bowl.at(np.log(to))
        width = float(np.clip(self.bowl.halfwidth, *_WIDTHS))
        log_weights = np.log(self.bowl.weights + 1e-300) - 0.5 * ((own - here) / width) ** 2
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        best = float(weights @ here)
        shift = self.changes * (float(weights @ there) - best)
        way = max(2.0 * self.bowl.curved - 1.0, 0.0) * (1.0 - min(cost, to) / max(cost, to))
        return _back(center + half * (own + shift + way * (best - own)), self.scale)

    def scaled(self, value: float, cost: float, to: float) -> float:
        """Return a value moved by the law's trend alone, on its scale by `expected_slope`.

        Unlike `moved`, it takes values in any unit where the scale is logarithmic, such as rates where the law is of
        multiples of rates.
        """
        return shifted(value, self.scale, self.expected_slope * float(np.log(to / cost)))

    def _median_position(self, cost: float) -> float:
        return float(weighted_quantiles(self.bowl.at(np.log(cost)), self.bowl.weights, (0.5,))[0])

    def _ends(self) -> tuple[float, float]:
        """Return the center and half the width of the tried range on the scale."""
        low, high = (float(_forward(np.array(end), self.scale)) for end in self.tried)
        return (low + high) / 2, (high - low) / 2


def shifted(value: float, scale: ValueScale, shift: float) -> float:
    """Return a value moved by a shift on its scale; it must be inside the scale's domain."""
    return _back(float(_forward(np.array(value), scale)) + shift, scale)


@dataclass(frozen=True)
class NoLaw:
    """A hyperparameter without a law.

    Args:
        name: name of the hyperparameter.
        trials: number of its trials.
        reason: why there is no law, and what would help.
    """

    name: str
    trials: int
    reason: str


def search_laws(
    frame: pd.DataFrame,
    cost: str,
    score: str,
    parameters: Mapping[str, ValueScale],
    *,
    maximize: bool,
    groups: Sequence[str] = (),
    determine_cost: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> list[SearchLaw | NoLaw]:
    """Fit the law of each ordered hyperparameter, in their order.

    Args:
        frame: a table with one row per finished full trial; inactive hyperparameters are empty.
        cost: name of the column of costs, positive.
        score: name of the column of scores.
        parameters: the scale of each ordered hyperparameter by the name of its column.
        maximize: whether larger scores are better.
        groups: names of the columns of categorical hyperparameters.
        determine_cost: those of `parameters` and `groups` that set the scale of a run, such as the number of
            examples. The others of them are not held fixed for the law of one: at a given cost they follow from it.
        only: those of `parameters` that laws are fitted for; by default all.

    Raises:
        InvalidInputError: A column is missing, or a cost is not positive.
    """
    missing = [name for name in (cost, score, *parameters, *groups) if name not in frame.columns]
    if missing:
        raise InvalidInputError(
            [Problem(name, "is not a column of the table", "Leave it out.") for name in missing]
        )
    values = frame[cost].to_numpy(dtype=float)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InvalidInputError(Problem(cost, "has values that are not positive", "Leave those rows out."))
    columns = _Columns(frame, cost, score, -1.0 if maximize else 1.0, dict(parameters), tuple(groups))
    return [_law(columns, name, frozenset(determine_cost)) for name in (parameters if only is None else only)]


@dataclass(frozen=True)
class _Columns:
    frame: pd.DataFrame
    cost: str
    score: str
    sign: float
    parameters: dict[str, ValueScale]
    groups: tuple[str, ...]

    def loss(self, rows: Mask) -> Array:
        return np.asarray(self.sign * self.frame.loc[rows, self.score].to_numpy(dtype=float))

    def log_cost(self, rows: Mask) -> Array:
        return np.asarray(np.log(self.frame.loc[rows, self.cost].to_numpy(dtype=float)))

    def values(self, name: str) -> Array:
        return np.asarray(pd.to_numeric(self.frame[name], errors="coerce").to_numpy(dtype=float))


def _law(columns: _Columns, name: str, scales: frozenset[str]) -> SearchLaw | NoLaw:
    values, scale = columns.values(name), columns.parameters[name]
    rows = np.isfinite(values) & np.isfinite(columns.frame[columns.score].to_numpy(dtype=float))
    if scale != "linear":
        rows &= (values > 0) & ((values < 1) if scale == "logit" else True)
    if reason := _refusal(columns, rows, values[rows]):
        return NoLaw(name, int(rows.sum()), reason)
    rows = _best_rows(columns, rows)
    z = _forward(values[rows], scale)
    held = [each for each in (*columns.parameters, *columns.groups) if each != name]
    if name in scales:
        held = [each for each in held if each not in scales]
    covariates = [_positions(columns, each, rows) for each in held if each in columns.parameters]
    labels = [_indicators(columns.frame.loc[rows, each]) for each in held if each in columns.groups]
    kept = [column for column in covariates if np.ptp(column) > 0]
    half = float(np.ptp(z)) / 2
    bowl = fit_moving_bowl(
        (z - (z.min() + z.max()) / 2) / half,
        columns.log_cost(rows),
        columns.loss(rows),
        _LOG_SLOPE / half if scale == "log" else 2.0 * _LINEAR_SLOPE,
        np.column_stack(kept) if kept else np.zeros((len(z), 0)),
        np.concatenate(labels, axis=1) if labels else np.zeros((len(z), 0)),
    )
    costs = np.exp(columns.log_cost(rows))
    return SearchLaw(
        name, scale, len(z), (float(costs.min()), float(costs.max())),
        (float(values[rows].min()), float(values[rows].max())), bowl,
    )  # fmt: skip


def _refusal(columns: _Columns, rows: Mask, values: Array) -> str:
    """Return why there is no law; empty if there can be one."""
    count = int(rows.sum())
    if count and len(np.unique(values)) == 1:
        return f"one value ({values[0]:g}) in all its trials"
    if count < FEWEST_TRIALS:
        return f"{count} finished trials with a value and a score; a law needs {FEWEST_TRIALS}"
    if len(np.unique(values)) < _FEWEST_VALUES:
        return f"{len(np.unique(values))} different values; an optimum needs {_FEWEST_VALUES}"
    span = float(np.exp(np.ptp(columns.log_cost(rows))))
    if span < SMALLEST_SPAN:
        return f"the cost of its trials spans a factor of {span:.2g}; a law needs {SMALLEST_SPAN:g}"
    loss = columns.loss(rows)
    if np.ptp(loss) <= 1e-12 * max(float(np.abs(loss).max()), 1e-300):
        return "all its trials have the same score"
    return ""


def _best_rows(columns: _Columns, rows: Mask) -> Mask:
    """Limit the trials to the most that a fit takes: those with the lowest loss for their cost."""
    if int(rows.sum()) <= _MOST_TRIALS:
        return rows
    loss, log_cost = columns.loss(rows), columns.log_cost(rows)
    line = np.polyfit(log_cost, loss, 2)
    best = np.argsort(loss - np.polyval(line, log_cost), kind="stable")[:_MOST_TRIALS]
    limited = np.zeros_like(rows)
    limited[np.flatnonzero(rows)[best]] = True
    return limited


def _positions(columns: _Columns, name: str, rows: Mask) -> Array:
    """Return a covariate from -1 to 1, 0 where it is inactive or outside its scale's domain."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = _forward(columns.values(name)[rows], columns.parameters[name])
    known = np.isfinite(z)
    if not known.any() or np.ptp(z[known]) == 0:
        return np.zeros(len(z))
    low, high = z[known].min(), z[known].max()
    return np.where(known, (2 * z - low - high) / (high - low), 0.0)


def _indicators(column: pd.Series) -> Array:
    labels = np.array([str(value) for value in column])
    options = np.unique(labels)
    return np.asarray(labels[:, None] == options[None], dtype=float)[
        :, : len(options) if len(options) > 1 else 0
    ]


def _forward(values: Array, scale: ValueScale) -> Array:
    if scale == "log":
        return np.asarray(np.log(values))
    return np.asarray(logit(values)) if scale == "logit" else np.asarray(values, dtype=float)


def _back(value: float, scale: ValueScale) -> float:
    if scale == "log":
        return float(np.exp(value))
    return float(expit(value)) if scale == "logit" else float(value)


def _tails(level: float) -> tuple[float, float]:
    return 0.5 - level / 2, 0.5 + level / 2
