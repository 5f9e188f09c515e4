"""The noise of a score between training runs of one configuration, pooled over configurations.

Two to five runs of a point say little about its own variance: a 95 % t interval from two runs is 12.7 standard errors
wide on either side. The noise of runs in one sweep is mostly of one size, so the variances of all points are pooled:
with n runs of k points, the common variance has n - k degrees of freedom.

Where the variances of the points clearly differ (Bartlett's test at 1 %), each point's variance is instead shrunken
towards the common one, as a weighted mean of both (Smyth 2004, "Linear models and empirical Bayes methods for
assessing differential expression in microarray experiments", equations 6 to 8). The weight of the common variance, in
degrees of freedom, follows from how much the logarithms of the variances vary beyond chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special, stats

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


@dataclass(frozen=True)
class RunNoise:
    """The variance of one run of every point, in the squared unit of the score.

    Args:
        common: the pooled variance; NaN if no point has two runs.
        freedom: its degrees of freedom, runs minus points.
        variances: by point, its variance: the common one, or shrunken towards it.
        freedoms: by point, the degrees of freedom of its variance.
    """

    common: float
    freedom: int
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
        quantiles = stats.t.ppf(0.5 + confidence / 2, freedoms.where(freedoms > 0))
        return pd.Series(quantiles, points) * np.sqrt(self.variances.reindex(points) / counts)


def run_noise(scores: pd.Series, points: pd.Series) -> RunNoise:
    """Estimate the noise of a score.

    Args:
        scores: one score per run; runs without one are ignored.
        points: the point of each run, in the same order.
    """
    known = scores.notna().to_numpy()
    groups = pd.Series(scores.to_numpy(dtype=float)[known]).groupby(points.to_numpy()[known])
    freedoms = (groups.count() - 1).astype(float)
    squares = groups.var(ddof=1).fillna(0.0) * freedoms
    freedom = int(freedoms.sum())
    common = float(squares.sum() / freedom) if freedom else math.nan
    weight = _weight_of_common(squares, freedoms, common) if freedom and common > 0 else math.inf
    if math.isinf(weight):
        return RunNoise(common, freedom, freedoms * 0.0 + common, freedoms * 0.0 + freedom)
    variances = (weight * common + squares) / (weight + freedoms)
    return RunNoise(common, freedom, variances, (weight + freedoms).clip(upper=freedom))


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
    return float(stats.chi2.sf(statistic / correction, k - 1))


def _inverse_trigamma(value: float) -> float:
    """Return the number whose trigamma function is `value`; at most `_MOST_FREEDOM`."""
    low, high = 1e-6, _MOST_FREEDOM
    if special.polygamma(1, high) >= value:
        return high
    return float(optimize.brentq(lambda x: special.polygamma(1, x) - value, low, high))
