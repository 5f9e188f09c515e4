"""Expected hypervolume improvement where some objectives are known exactly.

Everything is in MINIMISATION. Shapes: c candidates, m objectives, b boxes.

The improvement of a value vector Y over a front is the volume of the open region (not dominated by the
front, below the reference) that Y dominates. Over the disjoint boxes (l, u] of that region it is

    HVI(Y) = sum_b prod_j (u_bj - max(l_bj, Y_j))^+ ,

and where the objectives are independent the expectation goes inside the product (Yang, Emmerich, Deutz and
Bäck 2019, "Efficient computation of expected hypervolume improvement using box decomposition algorithms",
eq. 10; Daulton, Balandat and Bakshy 2020, section 3). Each factor is a difference of one-dimensional
expected improvements,

    E (u - max(l, Y))^+ = E (u - Y)^+ - E (l - Y)^+ ,
    E (t - Y)^+ = s (z Phi(z) + phi(z)),  z = (t - mean) / s.

A known objective has s = 0 and a deterministic factor. A Monte-Carlo estimate (qEHVI) would serve correlated
objectives as well, but it is noisy, slower, and most of our objectives are known.

The front should be made of posterior means at the observed points, not of the observations: with noise a
lucky observation would otherwise raise the front above what is there and block its whole neighborhood.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

_CHUNK = 1_000_000
"""Candidates times boxes evaluated at once, which bounds the memory at a few tens of MB."""

_ROOT_2PI = float(np.sqrt(2.0 * np.pi))


def expected_improvement(threshold: Array, mean: Array, std: Array) -> Array:
    """E (threshold - Y)^+ for normal Y, broadcast over the arguments; std 0 means Y = mean.

    A threshold of -inf gives 0.
    """
    threshold, mean, std = np.broadcast_arrays(threshold, mean, std)
    gain = threshold - mean
    known = std <= 0
    scale = np.where(known, 1.0, std)
    # Below -38 the density is 0 in double precision; the clip keeps -inf * 0 away.
    z = np.clip(gain / scale, -40.0, None)
    normal = scale * (z * ndtr(z) + np.exp(-0.5 * z * z) / _ROOT_2PI)
    return np.maximum(np.where(known, gain, normal), 0.0)


def expected_hypervolume_improvement(mean: Array, std: Array, lower: Array, upper: Array) -> Array:
    """The expected hypervolume improvement of each candidate; for m = 1 it is the expected improvement.

    Args:
        mean: shape [c, m].
        std: shape [c, m], standard deviation of each objective, 0 where it is known exactly.
        lower: shape [b, m], may be -inf; with `upper` from `front.box_decomposition`.
        upper: shape [b, m].

    Returns:
        Shape [c], never negative.
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
    """Shape [c, b]: E (u - max(l, Y))^+. Boxes share their bounds, so each distinct bound is met once."""
    bounds, index = np.unique(np.concatenate([lower, upper]), return_inverse=True)
    gains = expected_improvement(bounds[None, :], mean[:, None], std[:, None])
    b = len(lower)
    return np.maximum(gains[:, index[b:]] - gains[:, index[:b]], 0.0)


def probability_within(mean: Array, std: Array, low: float | None, high: float | None) -> Array:
    """P(low <= Y <= high) for normal Y of shape [c]; 0 or 1 where std is 0; None is no bound."""
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
