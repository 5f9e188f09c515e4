"""The noise of a score between training runs of one configuration, pooled over configurations.

Two to five runs of a point say little about its own variance: a 95 % t interval from two runs is 12.7 standard errors
wide on either side. The noise of runs in one sweep is mostly of one size, so the variances of all points are pooled:
with n runs of k points, the common variance has n - k degrees of freedom.

Where the variances of the points clearly differ (Bartlett's test at 1 %), each point's variance is instead shrunken
towards the common one, as a weighted mean of both (Smyth 2004, "Linear models and empirical Bayes methods for
assessing differential expression in microarray experiments", equations 6 to 8). The weight of the common variance, in
degrees of freedom, follows from how much the logarithms of the variances vary beyond chance.

Runs that all tie do not show that there is no noise: a score in steps of one example hides it. For a proportion of
examples the noise is then the binomial variance p (1 - p) / n, which is the largest that examples can give whose
outcomes change independently between seeds. For another score the noise is then unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from autotune.results.confirmation_runs import ExampleScores

Array = NDArray[np.float64]

_CLEARLY = 0.01
"""The level of the test that the variances of the points differ."""
_FEWEST_FREEDOM = 2
"""The least degrees of freedom of a point that takes part in the test."""
_FEWEST_POINTS = 3
"""The least number of such points."""
_LEAST_SHARE = 0.01
"""The least variance of a point as a share of the common one: scores are rounded, and equal ones have none."""
_MOST_FREEDOM = 1e6
"""Above it, the shrinkage is complete."""
_TIED = 1e-9
"""The deviation between tied runs as a share of the score: rounding errors of their mean."""


@dataclass(frozen=True)
class RunNoise:
    """The variance of one run of every point, in the squared unit of the score.

    Args:
        common: the pooled variance; NaN if it is unknown: no point has two runs, or all runs tie.
        freedom: its degrees of freedom, runs minus points; infinite if it is binomial, 0 if it is unknown.
        variances: by point, its variance: the common one, or shrunken towards it.
        freedoms: by point, the degrees of freedom of its variance.
    """

    common: float
    freedom: float
    variances: pd.Series
    freedoms: pd.Series

    @property
    def is_pooled(self) -> bool:
        """Whether all points have the common variance."""
        return bool((self.freedoms == self.freedom).all())

    def half_widths(self, counts: pd.Series, confidence: float) -> pd.Series:
        """Return half the width of the two-sided t interval of each point's mean; NaN where no noise is known.

        Args:
            counts: by point, the number of its runs.
            confidence: such as 0.95.
        """
        points = counts.index
        freedoms = self.freedoms.reindex(points)
        quantiles = special.stdtrit(freedoms.where(freedoms > 0), 0.5 + confidence / 2)
        return pd.Series(quantiles, points) * np.sqrt(self.variances.reindex(points) / counts)


def run_noise(scores: pd.Series, points: pd.Series, binomial: pd.Series | None = None) -> RunNoise:
    """Estimate the noise of a score.

    Args:
        scores: one score per run; runs without one are ignored.
        points: the point of each run, in the same order.
        binomial: by point, the variance of a proportion of examples, see `binomial_variances`; it counts where the
            runs of each point tie.
    """
    known = scores.notna().to_numpy()
    groups = pd.Series(scores.to_numpy(dtype=float)[known]).groupby(points.to_numpy()[known])
    freedoms = (groups.count() - 1).astype(float)
    squares = groups.var(ddof=1).fillna(0.0) * freedoms
    freedom = int(freedoms.sum())
    common = float(squares.sum() / freedom) if freedom else math.nan
    if freedom and common <= (_TIED * float(scores.abs().max())) ** 2:
        return _noise_of_ties(freedoms.index, pd.Series(dtype=float) if binomial is None else binomial)
    weight = _weight_of_common(squares, freedoms, common) if freedom else math.inf
    if math.isinf(weight):
        return RunNoise(common, freedom, freedoms * 0.0 + common, freedoms * 0.0 + freedom)
    variances = (weight * common + squares) / (weight + freedoms)
    return RunNoise(common, freedom, variances, (weight + freedoms).clip(upper=freedom))


def binomial_variances(example_scores: ExampleScores, metric: str) -> pd.Series:
    """Return the variance p (1 - p) / n of a run's score where it is the proportion of right answers to n examples.

    The proportion is that of all runs of a point, with half a right and half a wrong answer more: no share of right
    answers proves that none can be wrong.

    Args:
        example_scores: see `SweepTables.example_scores`.
        metric: the score.

    Returns:
        by point; empty unless the scores of the examples are 0 or 1.
    """
    scores = [(run.trial, each[metric]) for run, each in example_scores.items() if metric in each]
    if not all(len(each) and np.isin(each, (0.0, 1.0)).all() for _, each in scores):
        return pd.Series(dtype=float)
    table = pd.DataFrame(
        [(trial, each.sum(), len(each)) for trial, each in scores], columns=["trial", "right", "n"]
    )
    sums = table.groupby("trial").sum()
    share = (sums["right"] + 0.5) / (sums["n"] + 1.0)
    return (share * (1.0 - share) / table.groupby("trial")["n"].mean()).astype(float)


def _noise_of_ties(points: pd.Index, binomial: pd.Series) -> RunNoise:
    """Return the noise of points whose runs tie; a point without scores per example has the mean of the others."""
    common = float(binomial.mean()) if len(binomial) else math.nan
    freedom = 0.0 if math.isnan(common) else math.inf
    variances = binomial.reindex(points).astype(float).fillna(common)
    return RunNoise(common, freedom, variances, pd.Series(freedom, points))


def _weight_of_common(squares: pd.Series, freedoms: pd.Series, common: float) -> float:
    """Return how many degrees of freedom the common variance counts for; infinite unless variances clearly differ.

    Args:
        squares: by point, the sum of squared deviations from its mean.
        freedoms: by point, the degrees of freedom.
        common: the pooled variance, above 0.
    """
    enough = freedoms >= _FEWEST_FREEDOM
    if enough.sum() < _FEWEST_POINTS:
        return math.inf
    d = freedoms[enough].to_numpy()
    variances = np.maximum(squares[enough].to_numpy() / d, _LEAST_SHARE * common)
    if _bartlett(variances, d) > _CLEARLY:
        return math.inf
    logs = np.log(variances) - special.digamma(d / 2) + np.log(d / 2)
    excess = float(logs.var(ddof=1) - special.polygamma(1, d / 2).mean())
    return 2.0 * _inverse_trigamma(excess) if excess > 0 else math.inf


def _bartlett(variances: Array, d: Array) -> float:
    """Return the p-value of Bartlett's test that variances with `d` degrees of freedom are equal."""
    total, k = d.sum(), len(d)
    statistic = total * np.log((d * variances).sum() / total) - (d * np.log(variances)).sum()
    correction = 1 + ((1 / d).sum() - 1 / total) / (3 * (k - 1))
    return float(special.chdtrc(k - 1, statistic / correction))


def _inverse_trigamma(value: float) -> float:
    """Return the number whose trigamma function is `value`; at most `_MOST_FREEDOM`."""
    from scipy.optimize import brentq  # slow to import, and rarely needed

    low, high = 1e-6, _MOST_FREEDOM
    if special.polygamma(1, high) >= value:
        return high
    return float(brentq(lambda x: special.polygamma(1, x) - value, low, high))
