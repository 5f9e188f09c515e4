"""The scales on which CARBS models outputs and costs (Fetterman et al. 2023, section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]


@dataclass(frozen=True)
class QuantileTransform:
    """A monotone map of outputs to normal scores through the square root of n empirical quantiles.

    Between quantiles the probability is interpolated linearly, so that few quantiles preserve more of the distances
    than one per output would. It is the map of `sklearn.preprocessing.QuantileTransformer` except at its ends, which
    that map puts at a score of 5.2, whatever n is. There the best output is an outlier to a Gaussian process, and the
    search hardly moves: on the two functions of `benchmarks.carbs` the hypervolume after 30 trials was 2.9 and 6.1
    square decades, and with the probabilities 1 / 2n and 1 - 1 / 2n it was 3.7 and 6.7 (12 seeds).

    Args:
        quantiles: ascending quantiles of the outputs, shape [q].
        edge: probability of the smallest output, and of an output above the largest.
    """

    quantiles: Array
    edge: float

    @classmethod
    def fit(cls, outputs: Array) -> QuantileTransform:
        """Compute the quantiles of n outputs, shape [n], n >= 1."""
        count = max(2, math.isqrt(len(outputs)))
        return cls(np.quantile(outputs, np.linspace(0.0, 1.0, count)), 0.5 / len(outputs))

    def __call__(self, outputs: Array) -> Array:
        """Return the normal scores of outputs of any shape."""
        if self.quantiles[0] == self.quantiles[-1]:
            return np.zeros(np.shape(outputs))
        levels = np.linspace(0.0, 1.0, len(self.quantiles))
        # Interpolation from both sides centers the probability of a value that several quantiles share.
        below = np.interp(outputs, self.quantiles, levels)
        above = 1.0 - np.interp(-np.asarray(outputs), -self.quantiles[::-1], levels)
        probability = np.clip(0.5 * (below + above), self.edge, 1.0 - self.edge)
        return np.asarray(ndtri(probability))

    def variance(self, outputs: Array, variances: Array) -> Array:
        """Return the variances of the scores of outputs [n] with errors of the given variances [n].

        It is the square of half the difference between one standard deviation above and below.
        """
        std = np.sqrt(variances)
        return np.square(0.5 * (self(outputs + std) - self(outputs - std)))


@dataclass(frozen=True)
class CostScale:
    """A map of costs to [-1, 1]: the logarithm, then the observed range.

    Args:
        low: smallest observed cost, after the logarithm.
        high: largest observed cost, after the logarithm.
        floor: cost that stands for smaller ones in the logarithm; None for no logarithm.
    """

    low: float
    high: float
    floor: float | None

    @classmethod
    def fit(cls, costs: Array, *, can_log: bool = True) -> CostScale:
        """Compute the scale of observed costs.

        Args:
            costs: costs, shape [n], n >= 1. The smallest one above 0 stands for 0 in the logarithm; if one is
                negative or none is above 0, they are scaled without a logarithm.
            can_log: whether a logarithm may be taken; False for costs that are logarithms already.
        """
        positive = costs[costs > 0]
        floor = float(positive.min()) if can_log and len(positive) and (costs >= 0).all() else None
        values = _log(costs, floor)
        return cls(float(values.min()), float(values.max()), floor)

    def __call__(self, costs: Array) -> Array:
        """Return the scaled costs, of any shape."""
        span = self.high - self.low
        return np.asarray(2.0 * (_log(costs, self.floor) - self.low) / (span if span > 0 else 1.0) - 1.0)


def _log(costs: Array, floor: float | None) -> Array:
    return costs if floor is None else np.log(np.maximum(costs, floor))
