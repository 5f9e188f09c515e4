"""What more data, or another base, would bring to the points of a front: the curves of a probe, carried on.

A score is carried on through its distance from the best possible value, which is positive and falls like a loss.
The curves of one base are carried on together (`surrogates.laws.extrapolate_noisy`), and how well earlier points of
them foretell later ones decides how, and how wide the interval is.
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
from trials.tasks.metrics import METRICS

Array = NDArray[np.float64]

FACTORS = (2.0, 10.0)
"""Multiples of the data that the report foretells; as many times the FLOPs."""
_CHANCE = 0.2
"""Neighbors with a smaller probability of changing places are expected to stay."""
_LEAST = 1e-3
"""The distance of a perfect score from itself, which has a logarithm then."""


@dataclass(frozen=True)
class Curves:
    """The errors of points on one base, their distance from the best score.

    Args:
        trials: [k], the cheapest first, by the front's second objective.
        examples: [n], of an epoch, rising.
        errors: [k, n].
    """

    trials: tuple[int, ...]
    examples: Array
    errors: Array

    def at(self, examples: float) -> NoisyForecast:
        """The errors of all at so many examples."""
        return extrapolate_noisy(self.examples, self.errors, examples)


@dataclass(frozen=True)
class Expected:
    """A score to expect: the middle, and the ends of its interval in the score's own units, worst end first."""

    value: float
    worst: float
    best: float
    measured: bool = False


@dataclass(frozen=True)
class PointForecast:
    """One point on one base: its score with the outlook's examples, and with `FACTORS` times as many."""

    trial: int
    now: Expected
    later: tuple[Expected, ...]


@dataclass(frozen=True)
class Swap:
    """Two neighbors along the front, the cheaper first, and the probability that the worse becomes the better."""

    cheaper: int
    dearer: int
    chance: float


@dataclass(frozen=True)
class BaseForecast:
    """The points of a front on one base.

    Args:
        model, params: the base and its parameters.
        examples: that the search trained on, or the most that the points were trained on, if that is more.
        points: the cheapest first.
        swaps: for each of `FACTORS`, the neighbors along the front that may change places.
        rule: how the curves were carried on, in words.
        backtest: mean |log error| of what was foretold inside the curves: of `rule` (`used`), and of the two rules
            to beat, by name.
        seen: the curves that were carried on; its trials are those of `points`, in their order.
    """

    model: str
    params: int
    examples: int
    points: tuple[PointForecast, ...]
    swaps: tuple[tuple[Swap, ...], ...]
    rule: str
    backtest: dict[str, float]
    seen: Curves


@dataclass(frozen=True)
class ProbeForecast:
    """What a probe foretells of `score`, with intervals of probability `level`; the sweep's own base first."""

    score: str
    level: float
    bases: tuple[BaseForecast, ...]


def forecast(results: SweepTables) -> ProbeForecast | None:
    """What the sweep's probe foretells; None where no base has five shares of the data for any point."""
    score = quality(results).name
    found = [_of_base(results, model, score) for model in _models(results)]
    bases = tuple(base for base in found if base is not None)
    return ProbeForecast(score, LEVEL, bases) if bases else None


def _models(results: SweepTables) -> list[str]:
    own = results.sweep.model.name
    return sorted(results.probes["model"].unique(), key=lambda name: (name != own, name))


def curves(results: SweepTables, model: str, score: str) -> Curves:
    """The points on a base at their own learning rates and batch sizes: a mean (of logarithms) over seeds.

    A point that lacks a share which most points have is left out; `outlook_gaps` says so.
    """
    runs = search_values(results.probes)
    runs = runs[runs["model"] == model]
    column = f"metric.{score}"
    if runs.empty or column not in runs:
        return Curves((), np.empty(0), np.empty((0, 0)))
    logs = runs.assign(error=np.log(_errors(score, runs[column].to_numpy(dtype=float))))
    table = logs.pivot_table("error", "trial", "examples")
    table = table.loc[:, table.notna().mean() > 0.5].dropna()
    cost = results.trials.set_index("trial")[results.objectives[1].name].reindex(table.index)
    table = table.iloc[np.argsort(cost.to_numpy(dtype=float), kind="stable")]
    trials = tuple(map(int, table.index))
    return Curves(trials, table.columns.to_numpy(dtype=float), np.exp(table.to_numpy(dtype=float)))


def _of_base(results: SweepTables, model: str, score: str) -> BaseForecast | None:
    seen = curves(results, model, score)
    if len(seen.examples) < FEWEST_POINTS or not seen.trials:
        return None
    runs = results.probes[results.probes["model"] == model]
    full = max(_searched(runs), round(float(seen.examples[-1])))
    at_full = seen.errors[:, seen.examples == full]
    now = _measured(score, at_full[:, 0]) if at_full.size else _predicted(score, seen.at(full))
    ahead = [seen.at(factor * full) for factor in FACTORS]
    later = zip(*(_predicted(score, each) for each in ahead), strict=True)
    return BaseForecast(
        model=model,
        params=int(runs["params"].iloc[0]),
        examples=full,
        points=tuple(map(PointForecast, seen.trials, now, later)),
        swaps=tuple(_swaps(each, seen) for each in ahead),
        rule=ahead[0].rule,
        backtest=ahead[0].backtest,
        seen=seen,
    )


def _searched(runs: pd.DataFrame) -> int:
    """The examples of share 1, whether or not any run has it."""
    shares, examples = runs["share"].to_numpy(dtype=float), runs["examples"].to_numpy(dtype=float)
    nearest = int(np.argmin(np.abs(shares - 1.0)))
    return round(float(examples[nearest] / shares[nearest]))


def _swaps(found: NoisyForecast, seen: Curves) -> tuple[Swap, ...]:
    """The neighbors that may change places, by the normal distributions that the intervals stand for.

    Forecasts of one task go wrong together, which this leaves out, so that it errs towards doubt.
    """
    spread = (np.log(found.high) - np.log(found.low)) / (2.0 * norm.ppf(0.5 + found.level / 2))
    gap, width = np.diff(np.log(found.value)), np.hypot(spread[1:], spread[:-1])
    now = np.sign(np.diff(seen.errors[:, -1]))
    chances = norm.cdf(-now * gap / np.maximum(width, 1e-12))
    pairs = zip(seen.trials[:-1], seen.trials[1:], chances.tolist(), strict=True)
    return tuple(Swap(*pair) for pair in pairs if pair[2] > _CHANCE)


def _errors(score: str, values: Array) -> Array:
    """The distance from the best possible value, above 0."""
    return np.maximum(np.abs(values - _best(score)), _LEAST)


def _measured(score: str, errors: Array) -> list[Expected]:
    values = values_of(score, errors).tolist()
    return [Expected(value, value, value, measured=True) for value in values]


def _predicted(score: str, found: NoisyForecast) -> list[Expected]:
    return [
        Expected(*ends)
        for ends in zip(
            *(values_of(score, e).tolist() for e in (found.value, found.high, found.low)), strict=True
        )
    ]


def values_of(score: str, errors: Array) -> Array:
    """Scores at these distances from the best one."""
    rises = score in METRICS and METRICS[score].direction == "maximize"
    return _best(score) - errors if rises else _best(score) + errors


def _best(score: str) -> float:
    """Losses and what has no bound are measured from 0."""
    best = METRICS[score].best if score in METRICS else 0.0
    return 0.0 if best is None else best
