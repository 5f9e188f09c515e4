"""The probability that a configuration runs to the end: what failures teach.

A Gaussian process is regressed on the labels, 1 for complete and 0 for failed, whose prior mean is the
share that succeeded; its posterior mean, clipped, is taken for the probability (least-squares classification,
Rasmussen and Williams 2006, section 6.5). With the few failures of a search it ranks configurations as a
Laplace classifier does, has no inner loop that may not converge, and falls back on the overall share where
nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogates.gaussian_process import GaussianProcess

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FLOOR = 0.02
"""No configuration is ruled out for good: a few failures are no proof."""


@dataclass(frozen=True)
class Feasibility:
    """A fitted model of success; build it with `fit`."""

    process: GaussianProcess | None
    """None where there has been no failure."""

    @classmethod
    def fit(cls, X: Array, succeeded: Mask, nominal: Mask) -> Feasibility:
        """Args: X [n, d] encoded configurations, succeeded [n], nominal [d]; n may be 0."""
        succeeded = np.asarray(succeeded, dtype=bool)
        if succeeded.all():
            return cls(None)
        return cls(GaussianProcess.fit(X, succeeded.astype(float), nominal))

    def probability(self, X: Array) -> Array:
        """Shape [m]: the probability of success at X [m, d], in [0.02, 1]; 1 with no failure on record."""
        if self.process is None:
            return np.ones(len(X))
        return np.clip(self.process.predict(X)[0], _FLOOR, 1.0)
