"""What a Gaussian process is conditioned on, and what repeated runs say about its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WithinGroups:
    """How far repeated runs of one configuration lie from their mean, pooled over configurations.

    For independent normal noise, the density of k runs of a configuration is that of their mean times one of their
    squared deviations from it. So observations that are means lose nothing if these enter the fit as well.

    Args:
        squares: sum of the squared deviations of runs from the mean of their configuration, in squared units of y.
        freedom: number of runs less the number of configurations; 0 without repeats.

    Raises:
        ValueError: a number that is not finite or below 0.
    """

    squares: float = 0.0
    freedom: float = 0.0

    def __post_init__(self) -> None:
        if not all(np.isfinite(number) and number >= 0 for number in (self.squares, self.freedom)):
            raise ValueError(f"within: {self}; give finite numbers, 0 or more")


@dataclass(frozen=True)
class Observations:
    """What a Gaussian process is conditioned on.

    Args:
        X: encoded configurations, shape [n, d], NaN where inactive.
        y: outputs, shape [n].
        extra_noise: variances beside the common noise, shape [n], in squared units of y.
        replicates: number of runs that each output is the mean of, shape [n], at least 1.

    Raises:
        ValueError: shapes that do not fit, no observation, an output that is not finite, a variance below 0 or not
            finite, or a number of runs below 1.
    """

    X: Array
    y: Array
    extra_noise: Array
    replicates: Array

    @classmethod
    def of(
        cls, X: Array, y: Array, extra_noise: Array | None = None, replicates: Array | None = None
    ) -> Observations:
        """Return observations, by default of one run each and without extra variance."""
        y = np.asarray(y, dtype=float)
        extra = np.zeros(y.shape) if extra_noise is None else np.asarray(extra_noise, dtype=float)
        runs = np.ones(y.shape) if replicates is None else np.asarray(replicates, dtype=float)
        return cls(np.asarray(X, dtype=float), y, extra, runs)

    def __post_init__(self) -> None:
        X, y, extra, runs = self.X, self.y, self.extra_noise, self.replicates
        if X.ndim != 2 or y.shape != X.shape[:1]:
            raise ValueError(f"X {X.shape}, y {y.shape}: give shapes [n, d] and [n] that agree")
        if len(y) == 0:
            raise ValueError("y: no observations; a Gaussian process needs at least one")
        if not np.isfinite(y).all():
            raise ValueError(
                f"y: {y[~np.isfinite(y)][0]} at row {np.flatnonzero(~np.isfinite(y))[0]}; drop it"
            )
        if extra.shape != y.shape or not (np.isfinite(extra) & (extra >= 0)).all():
            raise ValueError(
                f"extra_noise: {extra} of shape {extra.shape}; give {len(y)} variances, 0 or more"
            )
        if runs.shape != y.shape or not (np.isfinite(runs) & (runs >= 1)).all():
            raise ValueError(f"replicates: {runs} of shape {runs.shape}; give {len(y)} numbers, 1 or more")

    def joined(self, other: Observations) -> Observations:
        """Return these observations followed by the others."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Observations(*(np.concatenate(pair) for pair in pairs))
