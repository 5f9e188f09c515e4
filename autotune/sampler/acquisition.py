"""Expected hypervolume improvement (EHVI) where some objectives are known exactly.

All objectives are minimized. Shapes: c candidates, m objectives, b boxes.

The improvement of a value vector Y over a front is the volume of the open region (not dominated by the
front, below the reference) that Y dominates. Over the disjoint boxes (l, u] of that region it is

    HVI(Y) = sum_b prod_j (u_bj - max(l_bj, Y_j))^+ ,

and where the objectives are independent the expectation goes inside the product (Yang, Emmerich, Deutz and
Bäck 2019, "Efficient computation of expected hypervolume improvement using box decomposition algorithms",
eq. 10; Daulton, Balandat and Bakshy 2020, section 3). Each factor is a difference of one-dimensional
expected improvements,

    E (u - max(l, Y))^+ = E (u - Y)^+ - E (l - Y)^+ ,
    E (t - Y)^+ = s (z Phi(z) + phi(z)),  z = (t - mean) / s.

A known objective has s = 0 and a deterministic factor. Rejected alternative: a Monte Carlo estimate (qEHVI) also
covers correlated objectives, but it is noisy and slower, and most objectives here are known.

The front consists of posterior means at the observed points instead of the observations. Otherwise one observation
with a favorable error moves the front beyond what is attainable and suppresses improvement in its neighborhood.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

_CHUNK = 1_000_000
"""Candidates times boxes per evaluation; bounds the memory to a few tens of MB."""

_ROOT_2PI = float(np.sqrt(2.0 * np.pi))


def expected_improvement(threshold: Array, mean: Array, std: Array) -> Array:
    """Return E (threshold - Y)^+ for Y ~ N(mean, std^2), the expected improvement of a minimized objective.

    Args:
        threshold: value to improve on, in the units of `mean`; -inf gives 0. The arguments broadcast.
        mean: mean of Y.
        std: standard deviation of Y; 0 means that Y equals `mean`.

    Returns:
        Expected improvements of the broadcast shape, never negative.
    """
    threshold, mean, std = np.broadcast_arrays(threshold, mean, std)
    gain = threshold - mean
    known = std <= 0
    scale = np.where(known, 1.0, std)
    # Below -38 the density is 0 in double precision; the clip prevents -inf * 0.
    z = np.clip(gain / scale, -40.0, None)
    normal = scale * (z * ndtr(z) + np.exp(-0.5 * z * z) / _ROOT_2PI)
    return np.maximum(np.where(known, gain, normal), 0.0)


def expected_hypervolume_improvement(mean: Array, std: Array, lower: Array, upper: Array) -> Array:
    """Return the expected hypervolume improvement of each candidate; for m = 1 it is the expected improvement.

    Args:
        mean: posterior means, shape [c, m].
        std: posterior standard deviations, shape [c, m]; 0 where an objective is known exactly.
        lower: lower corners of the boxes that the front does not dominate, shape [b, m], -inf allowed; with
            `upper` as `autotune.pareto.box_decomposition` returns them.
        upper: upper corners of these boxes, shape [b, m].

    Returns:
        Improvements of shape [c], never negative, in the product of the objectives' units.
    """
    improvements = np.empty(len(mean))
    step = max(1, _CHUNK // max(len(lower), 1))
    for start in range(0, len(mean), step):
        part = slice(start, start + step)
        volume = np.ones((len(mean[part]), len(lower)))
        for j in range(mean.shape[1]):
            volume *= _factor(mean[part, j], std[part, j], lower[:, j], upper[:, j])
        improvements[part] = volume.sum(axis=1)
    return improvements


def _factor(mean: Array, std: Array, lower: Array, upper: Array) -> Array:
    """Return E (u - max(l, Y))^+, shape [c, b]; boxes share bounds, so each distinct bound is evaluated once."""
    bounds, index = np.unique(np.concatenate([lower, upper]), return_inverse=True)
    gains = expected_improvement(bounds[None, :], mean[:, None], std[:, None])
    b = len(lower)
    return np.maximum(gains[:, index[b:]] - gains[:, index[:b]], 0.0)


def probability_within(mean: Array, std: Array, low: float | None, high: float | None) -> Array:
    """Return P(low <= Y <= high) for Y ~ N(mean, std^2).

    Args:
        mean: means, shape [c].
        std: standard deviations, shape [c]; where 0, the probability is 0 or 1.
        low: lower bound, or None for no bound.
        high: upper bound, or None for no bound.

    Returns:
        Probabilities of shape [c].
    """
    known = std <= 0
    scale = np.where(known, 1.0, std)
    probability = np.ones_like(mean)
    inside = np.ones(mean.shape, dtype=bool)
    if high is not None:
        probability = ndtr((high - mean) / scale)
        inside &= mean <= high
    if low is not None:
        probability = probability - ndtr((low - mean) / scale)
        inside &= mean >= low
    return np.where(known, inside.astype(float), np.clip(probability, 0.0, 1.0))
