"""Forecast of the scores that the points of a front would reach with more data, or on another base model.

A probe measures each point on several shares of the data. A score is extrapolated through its distance from the best
possible value, which is positive and decreases like a loss. The curves of one base model are extrapolated together
(`surrogates.laws.extrapolate_noisy`). The extrapolation rule and the width of the interval are chosen by how well
earlier points of the curves predict later ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from autotune.results.probe_runs import search_values
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import quality
from surrogates.laws import FEWEST_POINTS, NoisyForecast, extrapolate_noisy
from surrogates.laws.fitting import LEVEL
from trials.kinds.kind import Metric

Array = NDArray[np.float64]

FACTORS = (2.0, 10.0)
"""Multiples of the data for which the report predicts scores; the FLOPs are multiplied likewise."""
_MIN_SWAP_PROBABILITY = 0.2
"""Neighbors on the front with a smaller probability of swapping are not reported."""
_MIN_ERROR = 1e-3
"""The smallest distance from the best score, so that a perfect score has a logarithm."""


@dataclass(frozen=True)
class Curves:
    """Learning curves over the size of the data, of the points on one base model.

    Args:
        trials: [k], the cheapest first by the second objective.
        examples: [n], training examples of an epoch, increasing.
        errors: [k, n], the distance of each score from the best possible score; lower is better.
    """

    trials: tuple[int, ...]
    examples: Array
    errors: Array

    def at(self, examples: float) -> NoisyForecast:
        """Extrapolate all curves to a number of examples."""
        return extrapolate_noisy(self.examples, self.errors, examples)


@dataclass(frozen=True)
class Expected:
    """A predicted score with its interval, in the units of the score.

    Args:
        value: the median.
        worst: the worse end of the interval.
        best: the better end of the interval.
        is_measured: whether the score was measured, so that the ends equal the value.
    """

    value: float
    worst: float
    best: float
    is_measured: bool = False


@dataclass(frozen=True)
class PointForecast:
    """The forecast of one point on one base model.

    Args:
        trial: the number of the point's trial.
        now: the score with the examples of the `BaseForecast`.
        later: the score with each of `FACTORS` times as many.
    """

    trial: int
    now: Expected
    later: tuple[Expected, ...]


@dataclass(frozen=True)
class Swap:
    """Two neighbors along the front, and the probability that the worse one becomes the better one.

    Args:
        cheaper: the trial with the lower cost.
        costlier: the trial with the higher cost.
        probability: in [0, 1].
    """

    cheaper: int
    costlier: int
    probability: float


@dataclass(frozen=True)
class BaseForecast:
    """The forecast of the points of a front on one base model.

    Args:
        model: the name of the base model.
        params: the number of its parameters.
        examples: the training examples of the search, or the most that the points were trained on if that is more.
        points: the cheapest first.
        swaps: for each of `FACTORS`, the neighbors along the front that may swap.
        rule: a description of the extrapolation rule.
        backtest: mean |log error| of predictions of measured points from earlier ones: first of the rule (`used`),
            then of the two baselines by name.
        curves: the measured curves; its trials are those of `points`, in their order.
    """

    model: str
    params: int
    examples: int
    points: tuple[PointForecast, ...]
    swaps: tuple[tuple[Swap, ...], ...]
    rule: str
    backtest: dict[str, float]
    curves: Curves


@dataclass(frozen=True)
class ProbeForecast:
    """The forecast of a probe.

    Args:
        score: the name of the metric.
        level: the probability of the intervals.
        bases: one forecast per base model, that of the sweep's own first.
        metric: the direction and the bounds of the score.
    """

    score: str
    level: float
    bases: tuple[BaseForecast, ...]
    metric: Metric


def forecast(results: SweepTables) -> ProbeForecast | None:
    """Return the forecast of a sweep's probe, or None if no point has a score on five shares of the data."""
    score = quality(results).name
    metric = results.metric_of(score)
    if not is_bounded(metric):
        return None
    found = [_of_base(results, model, score) for model in _models(results)]
    bases = tuple(base for base in found if base is not None)
    return ProbeForecast(score, LEVEL, bases, metric) if bases else None


def is_bounded(metric: Metric) -> bool:
    """Return whether a learning curve of the metric can be extrapolated: it approaches a best value, or is a loss."""
    return metric.best is not None or metric.direction == "minimize"


def _models(results: SweepTables) -> list[str]:
    own = results.sweep.model.name
    return sorted(results.probes["model"].unique(), key=lambda name: (name != own, name))


def curves(results: SweepTables, model: str, score: str) -> Curves:
    """Return the learning curves of the points on a base model, at their own learning rates and batch sizes.

    Errors are geometric means over seeds. A point without a score on a share that most points have is left out;
    `autotune.probe.excluded_points` reports it.

    Args:
        results: the sweep.
        model: the name of the base model.
        score: the name of the metric.
    """
    runs = search_values(results.probes)
    runs = runs[runs["model"] == model]
    column = f"metric.{score}"
    if runs.empty or column not in runs:
        return Curves((), np.empty(0), np.empty((0, 0)))
    logs = runs.assign(error=np.log(_errors(results.metric_of(score), runs[column].to_numpy(dtype=float))))
    table = logs.pivot_table("error", "trial", "examples")
    table = table.loc[:, table.notna().mean() > 0.5].dropna()
    by = "cost.trainable_params" if results.has_single_objective else results.objectives[1].name
    cost = results.trials.set_index("trial")[by].reindex(table.index)
    table = table.iloc[np.argsort(cost.to_numpy(dtype=float), kind="stable")]
    trials = tuple(map(int, table.index))
    return Curves(trials, table.columns.to_numpy(dtype=float), np.exp(table.to_numpy(dtype=float)))


def _of_base(results: SweepTables, model: str, score: str) -> BaseForecast | None:
    measured = curves(results, model, score)
    if len(measured.examples) < FEWEST_POINTS or not measured.trials:
        return None
    runs = results.probes[results.probes["model"] == model]
    full = max(_searched(runs), round(float(measured.examples[-1])))
    at_full = measured.errors[:, measured.examples == full]
    metric = results.metric_of(score)
    now = _measured(metric, at_full[:, 0]) if at_full.size else _predicted(metric, measured.at(full))
    ahead = [measured.at(factor * full) for factor in FACTORS]
    later = zip(*(_predicted(metric, each) for each in ahead), strict=True)
    return BaseForecast(
        model=model,
        params=int(runs["params"].iloc[0]),
        examples=full,
        points=tuple(map(PointForecast, measured.trials, now, later)),
        swaps=tuple(_swaps(each, measured) for each in ahead),
        rule=ahead[0].rule,
        backtest=ahead[0].backtest,
        curves=measured,
    )


def _searched(runs: pd.DataFrame) -> int:
    """Return the number of examples of share 1, even if no run has that share."""
    shares, examples = runs["share"].to_numpy(dtype=float), runs["examples"].to_numpy(dtype=float)
    nearest = int(np.argmin(np.abs(shares - 1.0)))
    return round(float(examples[nearest] / shares[nearest]))


def _swaps(found: NoisyForecast, measured: Curves) -> tuple[Swap, ...]:
    """Return the neighbors that may swap, assuming that log errors are normal and independent.

    In fact the forecast errors of one task are positively correlated, so the probabilities are too high.
    """
    spread = (np.log(found.high) - np.log(found.low)) / (2.0 * norm.ppf(0.5 + found.level / 2))
    gap, width = np.diff(np.log(found.value)), np.hypot(spread[1:], spread[:-1])
    now = np.sign(np.diff(measured.errors[:, -1]))
    probabilities = norm.cdf(-now * gap / np.maximum(width, 1e-12))
    pairs = zip(measured.trials[:-1], measured.trials[1:], probabilities.tolist(), strict=True)
    return tuple(Swap(*pair) for pair in pairs if pair[2] > _MIN_SWAP_PROBABILITY)


def _errors(metric: Metric, values: Array) -> Array:
    """Return the distance of scores from the best possible value, above 0."""
    return np.maximum(np.abs(values - (metric.best or 0.0)), _MIN_ERROR)


def _measured(metric: Metric, errors: Array) -> list[Expected]:
    values = values_of(metric, errors).tolist()
    return [Expected(value, value, value, is_measured=True) for value in values]


def _predicted(metric: Metric, found: NoisyForecast) -> list[Expected]:
    return [
        Expected(*ends)
        for ends in zip(
            *(values_of(metric, e).tolist() for e in (found.value, found.high, found.low)), strict=True
        )
    ]


def values_of(metric: Metric, errors: Array) -> Array:
    """Return the scores at given distances from the best possible value, which is 0 for losses without a bound.

    Args:
        metric: the direction and the bounds of the score.
        errors: distances, of any shape.
    """
    best = metric.best or 0.0
    return best - errors if metric.direction == "maximize" else best + errors
