"""The acquisition function of CARBS (Fetterman et al. 2023, section 3.3), as a logarithm.

    EI(x) * max_i N(|x - x_i|; 0, 0.3) * P(success) * P(limits) * [predicted cost within its limit]

x_i are the members of the front, and EI(x) is the expected improvement on the front at the predicted cost of x, on
the scale of normal scores. An improvement counts from one unit above the front (the exploration bias), which prefers
uncertain candidates. The threshold is at least the front's value at a cost that is drawn for each proposal, so that
proposals spread over the costs instead of refining the cheap end.

The logarithm distinguishes candidates whose improvement is 0 in double precision.

Shapes: c candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr, ndtr

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

EXPLORATION_BIAS = 1.0
"""Distance above the front from which an improvement counts, in normal scores."""


@dataclass(frozen=True)
class Prediction:
    """The predictions for c candidates that the acquisition function combines; each array has shape [c].

    Args:
        mean: posterior mean of the normal score, larger is better.
        std: its posterior standard deviation, above 0.
        cost: scaled cost, known or predicted.
        threshold: normal score of the front to improve on.
        squared_distance: squared distance to the nearest member of the front, in the basic space.
        log_feasible: log probability that the trial succeeds and satisfies the uncertain limits.
        is_affordable: whether the predicted cost is within its limit.
    """

    mean: Array
    std: Array
    cost: Array
    threshold: Array
    squared_distance: Array
    log_feasible: Array
    is_affordable: Mask


def log_acquisition(prediction: Prediction, radius: float) -> Array:
    """Return the logarithm of the acquisition function, up to a constant, shape [c].

    Args:
        prediction: predictions for the candidates.
        radius: search radius in the basic space.

    Returns:
        Values that are -inf where a candidate is not affordable.
    """
    improvement = log_expected_improvement(
        prediction.mean, prediction.std, prediction.threshold + EXPLORATION_BIAS
    )
    proximity = -0.5 * prediction.squared_distance / radius**2
    values = improvement + proximity + prediction.log_feasible
    return np.where(prediction.is_affordable, values, -np.inf)


def log_expected_improvement(mean: Array, std: Array, threshold: Array) -> Array:
    """Return log E (Y - threshold)^+ for Y ~ N(mean, std^2) of a maximized output.

    With z = (mean - threshold) / std it is log(std) + log(phi(z) + z Phi(z)); below z = -1 the sum cancels and the
    scaled complementary error function replaces Phi (Ament et al. 2023, "Unexpected improvements to expected
    improvement", eq. 9).
    """
    z = (mean - threshold) / std
    log_density = -0.5 * z**2 - 0.5 * math.log(2.0 * math.pi)
    near = np.maximum(z, -1.0)
    direct = np.log(np.exp(-0.5 * near**2) / math.sqrt(2.0 * math.pi) + near * ndtr(near))
    far = np.minimum(z, -1.0)
    # 1 - |z| Phi(z) / phi(z), which tends to 1 / z^2 and is lost to rounding below z = -1e5.
    ratio = 1.0 + far * math.sqrt(0.5 * math.pi) * erfcx(-far / math.sqrt(2.0))
    ratio = np.where(far < -1e3, 1.0 / far**2, ratio)
    return np.asarray(np.log(std) + np.where(z > -1.0, direct, log_density + np.log(ratio)))


def log_success(mean: Array, std: Array) -> Array:
    """Return log P(label < 0) for a label ~ N(mean, std^2), where -1 stands for success and 1 for failure."""
    return np.asarray(log_ndtr(-mean / std))


def log_within(mean: Array, std: Array, low: float | None, high: float | None) -> Array:
    """Return log P(low <= Y <= high) for Y ~ N(mean, std^2), None for no bound."""
    upper = np.ones(len(mean)) if high is None else ndtr((high - mean) / std)
    lower = np.zeros(len(mean)) if low is None else ndtr((low - mean) / std)
    return np.log(np.maximum(upper - lower, 1e-300))
