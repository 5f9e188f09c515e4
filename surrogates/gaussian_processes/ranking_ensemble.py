"""A mixture of this study's process and processes that start from other studies, weighted by how well each ranks.

Feurer, Letham, Hutter and Bakshy (2018), "Practical transfer learning for Bayesian optimization" (RGPE,
arXiv:1802.02219): the weight of a model is the probability that it misranks the fewest pairs of this study's
observations. Values of a source are standardized by themselves, so that only their ranking and their shape transfer.

Members differ from the paper: the mean of each source is the prior mean of one more process of this study
(`SourceMean`), which corrects the source where it is wrong, where the paper's members are the sources themselves. All
members are ranked by their leave-one-out predictions. On the FCNet tables, with three of them as sources of the
fourth (8 searches), the paper's weights of uncorrected sources were 0 from 20 trials on, where corrected ones still
predicted random configurations better than the study's own process: rank correlation 0.82 and 0.70 at 20 trials, 0.82
and 0.72 at 30. One process with the weighted mean of all sources as its prior mean ranked as well, but was
overconfident near the front.

Shapes: n observations, k sources, s samples, p features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import kendalltau
from torch import Tensor

from surrogates.gaussian_processes.gaussian_process import GaussianProcess, PriorMean
from surrogates.gaussian_processes.mixture import Mixture

Array = NDArray[np.float64]

FEWEST = 5
"""Number of observations below which no ranking is measured: sources share equal weights."""
_SAMPLES = 256
_MOST = 100
"""Maximum number of observations whose pairs are ranked; of more, a random part."""
_CHANCE = 0.1
"""Probability with which an unrelated source is taken for one that agrees."""
_QUANTILE = 0.95
_LEAST_OWN = 0.3
"""Least weight of the study's own process: few leave-one-out predictions cannot rule it out."""
_PRIOR_COUNT = 3.0
"""Number of observations that the prior correlation of 1 between a source and this study counts as."""
_LEAST_SPREAD = 0.2
"""Least standard deviation of a source's mean over the observations, in its own units, that sets its slope."""


@dataclass(frozen=True)
class Ranking:
    """How far each source is trusted.

    Args:
        weights: weights of the sources, shape [k], 0 for a source that is dropped; with `own` they sum to 1.
        own: weight of the study's own process.
        agreement: Kendall's rank correlation of each source's mean with the observations, shape [k]; NaN for fewer
            than five observations.
        is_dropped: which sources mislead, shape [k].
        n: number of observations.
    """

    weights: Array
    own: float
    agreement: Array
    is_dropped: NDArray[np.bool_]
    n: int


class SourceMean:
    """The mean of a source's process in the units of this study, as a prior mean.

    The slope is the ratio of the standard deviations of the observations and of the source's mean there, times their
    correlation, which is shrunk towards 1 for few observations and is not below 0. The process that has the prior
    mean fits the intercept.

    Args:
        source: process of the source, with standardized values.
        features: features of the observations, shape [n, p].
        y: the observations, shape [n].
    """

    def __init__(self, source: GaussianProcess, features: Tensor, y: Array) -> None:
        self._source = source
        mean = source.mean(features).numpy()
        n, spread, size = len(y), max(float(mean.std()), _LEAST_SPREAD), float(y.std())
        covariance = float(((mean - mean.mean()) * (y - y.mean())).mean())
        correlation = covariance / (spread * size) if size > 0 else 0.0
        self.slope = max((n * correlation + _PRIOR_COUNT) / (n + _PRIOR_COUNT), 0.0) * size / spread

    def __call__(self, features: Tensor) -> Tensor:
        """Return the mean at features [..., p], shape [...]."""
        return self.slope * self._source.mean(features)


def ranking_ensemble(
    own: GaussianProcess | Mixture,
    sources: Sequence[GaussianProcess],
    fit: Callable[[int, PriorMean], GaussianProcess],
    features: Tensor,
    y: Array,
    seed: int = 0,
) -> tuple[GaussianProcess | Mixture, Ranking]:
    """Return the mixture of a study's own process and those that start from sources, and its weights.

    A source is dropped where it misleads: where its rank correlation with the observations is one that an unrelated
    source reaches in one of ten cases or more, or where the median ranking loss of its process is above the 95 %
    quantile of the loss of the study's own one. It returns as soon as neither holds. If all sources are dropped, the
    result is the study's own process.

    Args:
        own: the process of this study without a prior mean.
        sources: processes of the sources, with standardized values.
        fit: fits a process to the observations of this study; takes the index of a source and its prior mean.
        features: features of the observations, shape [n, p].
        y: the observations, shape [n].
        seed: seed of the samples of the ranking loss.
    """
    k, n = len(sources), len(y)
    agreement = np.full(k, np.nan)
    is_dropped = np.zeros(k, dtype=bool)
    if n >= FEWEST:
        agreement = np.array([_kendall(source.mean(features).numpy(), y) for source in sources])
        is_dropped = agreement <= critical_agreement(n)
    kept = np.flatnonzero(~is_dropped).tolist()
    members = [fit(i, SourceMean(sources[i], features, y)) for i in kept]
    weights = np.zeros(k)
    if n < FEWEST:
        weights[kept] = 1.0 / (k + 1)
    elif kept:
        own_losses = _losses(own, y, seed)
        losses = np.array([_losses(member, y, seed) for member in members])
        is_worse = np.median(losses, axis=1) > np.quantile(own_losses, _QUANTILE)
        is_dropped[[i for i, is_bad in zip(kept, is_worse, strict=True) if is_bad]] = True
        losses[is_worse] = np.inf
        weights[kept] = _shares(np.vstack([losses, own_losses]))[:-1]
    if weights.sum() > 1.0 - _LEAST_OWN:
        weights *= (1.0 - _LEAST_OWN) / weights.sum()
    own_weight = 1.0 - float(weights.sum())
    ranking = Ranking(weights, own_weight, agreement, is_dropped, n)
    used = [(member, weights[i]) for i, member in zip(kept, members, strict=True) if weights[i] > 0]
    if not used:
        return own, ranking
    return Mixture([own, *(member for member, _ in used)], [own_weight, *(w for _, w in used)]), ranking


def critical_agreement(n: int) -> float:
    """Return what Kendall's correlation of n independent pairs exceeds in one of ten cases; normal approximation."""
    return float(-ndtri(_CHANCE) * math.sqrt(2.0 * (2 * n + 5) / (9.0 * n * (n - 1))))


def _kendall(predicted: Array, y: Array) -> float:
    found = float(kendalltau(predicted, y).statistic)
    return 0.0 if math.isnan(found) else found  # all values of one side agree


def _losses(process: GaussianProcess | Mixture, y: Array, seed: int) -> Array:
    """Return the number of misranked pairs of each sample of the leave-one-out predictions, shape [s].

    The prediction of one observation is ranked among the values of the others. The samples of different processes use
    the same normal variables, so that their losses are comparable sample by sample.
    """
    mean, std = process.leave_one_out_moments()
    rng = np.random.default_rng(seed)
    rows = np.arange(len(y)) if len(y) <= _MOST else np.sort(rng.choice(len(y), _MOST, replace=False))
    samples = mean[rows] + std[rows] * rng.standard_normal((_SAMPLES, len(rows)))
    is_above = y[rows][:, None] < y[rows]
    return np.array([(is_above != (sample[:, None] < y[rows])).sum() for sample in samples], dtype=float)


def _shares(losses: Array) -> Array:
    """Return the share of the samples in which each row of losses [k, s] is the least, shape [k]; ties are split."""
    is_least = losses == losses.min(axis=0)
    return np.asarray((is_least / is_least.sum(axis=0)).mean(axis=1))
