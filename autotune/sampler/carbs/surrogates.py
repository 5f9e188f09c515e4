"""The surrogates of CARBS: output, log cost, front, success and uncertain limits.

Shapes: n observed trials, f failed trials, q pending trials, c candidates, p features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.carbs.acquisition import log_success, log_within
from autotune.sampler.carbs.basic_space import SEARCH_RADIUS, BasicSpace
from autotune.sampler.carbs.kernels import FrontRBF, LinearMatern
from autotune.sampler.carbs.process import Process
from autotune.sampler.carbs.transforms import QuantileTransform

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureSpace:
    """The features of the observed trials, and the prior of the lengthscales.

    Args:
        observed: features of the observed trials, shape [n, p].
        groups: index of the lengthscale of each feature, one per encoded column, shape [p].
        lengthscale: median of the prior of the lengthscales.
    """

    observed: Array
    groups: Sequence[int]
    lengthscale: float

    @classmethod
    def of(cls, basic: BasicSpace, rows: Array) -> FeatureSpace:
        """Return the features of encoded rows [n, d].

        The lengthscales of CARBS start at one search radius. Distances grow with the square root of the number of
        active columns, and so does the median of the prior.
        """
        active = float((~np.isnan(rows)).sum(axis=1).mean()) if rows.size else 1.0
        lengthscale = SEARCH_RADIUS * math.sqrt(max(active, 1.0))
        return cls(basic.features(rows), basic.feature_columns.tolist(), lengthscale)

    def fit(self, y: Array, *, X: Array | None = None, extra: Array | None = None) -> Process:
        """Fit a process to outputs y at the observed trials, or at the features X."""
        kernel = LinearMatern(self.groups, self.lengthscale)
        return Process.fit(kernel, self.observed if X is None else X, y, extra)


@dataclass(frozen=True)
class FrontModel:
    """The output of the front as a function of the cost, constant beyond its ends.

    Args:
        process: the process over the scaled cost.
        low: smallest scaled cost of the front.
        high: largest scaled cost of the front.
    """

    process: Process
    low: float
    high: float

    @classmethod
    def fit(cls, costs: Array, scores: Array) -> FrontModel:
        """Fit the model to the scaled costs and normal scores of the runs on the front, each of shape [k]."""
        process = Process.fit(FrontRBF(), costs[:, None], scores)
        return cls(process, float(costs.min()), float(costs.max()))

    def __call__(self, costs: Array) -> Array:
        """Return the score of the front at scaled costs, shape [c]."""
        return self.process.predict(np.clip(costs, self.low, self.high)[:, None])[0]


@dataclass(frozen=True)
class OutputModel:
    """The normal score of the output, larger is better.

    Args:
        transform: map of outputs to normal scores.
        process: process of the scores over features.
    """

    transform: QuantileTransform
    process: Process

    @classmethod
    def fit(cls, features: FeatureSpace, outputs: Array, variances: Array) -> OutputModel:
        """Fit the model to outputs [n] with variances beside the noise [n]."""
        transform = QuantileTransform.fit(outputs)
        extra = transform.variance(outputs, variances)
        return cls(transform, features.fit(transform(outputs), extra=extra))

    def with_pending(self, pending: Array, rng: np.random.Generator) -> OutputModel:
        """Return the model with a draw from the joint posterior as the outputs of pending trials [q, p].

        Thompson draws, unlike means, also let a pending trial count as a success, so that the front may move.
        """
        if not len(pending):
            return self
        drawn = self.process.draw(pending, rng)
        return OutputModel(self.transform, self.process.condition_on(pending, drawn))

    def log_within(self, mean: Array, std: Array, low: float | None, high: float | None) -> Array:
        """Return the log probability that outputs lie within limits in their own units, shape [c].

        Args:
            mean: posterior means of the scores, shape [c].
            std: posterior standard deviations of the scores, shape [c].
            low: lower limit of the output, None for none.
            high: upper limit of the output, None for none.
        """
        scores = [None if end is None else float(self.transform(np.array(end))) for end in (low, high)]
        return log_within(mean, std, *scores)


@dataclass(frozen=True)
class CostModel:
    """The scaled log cost of configurations, for a cost that is not known.

    Args:
        process: process of the scaled costs over features.
    """

    process: Process

    @classmethod
    def fit(cls, features: FeatureSpace, costs: Array) -> CostModel:
        """Fit the model to scaled costs, shape [n]."""
        return cls(features.fit(costs))

    def predict(self, X: Array) -> Array:
        """Return the posterior mean of the scaled cost at features X [c, p], shape [c]."""
        return self.process.predict(X)[0]


@dataclass(frozen=True)
class LimitModel:
    """The probability that an uncertain value lies within its limits.

    Args:
        process: process of the standardized values over features.
        low: lower limit, standardized, None for none.
        high: upper limit, standardized, None for none.
    """

    process: Process
    low: float | None
    high: float | None

    @classmethod
    def fit(cls, features: FeatureSpace, values: Array, low: float | None, high: float | None) -> LimitModel:
        """Fit the model to values, shape [n]."""
        offset, scale = float(values.mean()), float(values.std()) or 1.0
        process = features.fit((values - offset) / scale)
        ends = [None if end is None else (end - offset) / scale for end in (low, high)]
        return cls(process, ends[0], ends[1])

    def log_probability(self, X: Array) -> Array:
        """Return the log probability at features X [c, p], shape [c]."""
        return log_within(*self.process.predict(X), self.low, self.high)


@dataclass(frozen=True)
class SuccessModel:
    """The probability that a trial succeeds, from labels -1 for success and 1 for failure.

    Args:
        process: process of the labels, None without any failure.
    """

    process: Process | None

    @classmethod
    def fit(cls, features: FeatureSpace, failed: Array) -> SuccessModel:
        """Fit the model to the observed trials and the failed ones [f, p]."""
        if not len(failed):
            return cls(None)
        labels = np.concatenate([-np.ones(len(features.observed)), np.ones(len(failed))])
        return cls(features.fit(labels, X=np.concatenate([features.observed, failed])))

    def log_probability(self, X: Array) -> Array:
        """Return the log probability of success at features X [c, p], shape [c]."""
        return np.zeros(len(X)) if self.process is None else log_success(*self.process.predict(X))
