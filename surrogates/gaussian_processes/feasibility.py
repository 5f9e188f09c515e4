"""The probability that a configuration completes its trial, learned from failures.

A Gaussian process is fitted to the labels, 1 for complete and 0 for failed, with the share of complete trials as
its prior mean. Its posterior mean, clipped, is the probability (least-squares classification, Rasmussen and
Williams 2006, section 6.5). With the few failures of a search it ranks configurations like a Laplace classifier,
but has no inner loop that may fail to converge, and it returns the overall share far from all data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FLOOR = 0.02
"""Minimum probability: a few failures must not exclude a region permanently."""


@dataclass(frozen=True)
class Feasibility:
    """A fitted model of success; `fit` builds it.

    Args:
        process: the Gaussian process, or None without any failure.
    """

    process: GaussianProcess | None

    @classmethod
    def fit(cls, X: Array, succeeded: Mask, embedding: Embedding) -> Feasibility:
        """Fit the model.

        Args:
            X: encoded configurations, shape [n, d]; n may be 0.
            succeeded: whether each trial completed, shape [n].
            embedding: of the columns of X.
        """
        succeeded = np.asarray(succeeded, dtype=bool)
        if succeeded.all():
            return cls(None)
        return cls(GaussianProcess.fit(X, succeeded.astype(float), embedding))

    def probability(self, X: Array) -> Array:
        """Return the probability of success at X [m, d], shape [m], in [0.02, 1]; 1 without any failure."""
        if self.process is None:
            return np.ones(len(X))
        return np.clip(self.process.predict(X)[0], _FLOOR, 1.0)

    def log_probability(self, features: Tensor) -> Tensor:
        """Return the logarithm of the probability of success at features [m, p], shape [m]."""
        if self.process is None:
            return torch.zeros(len(features), dtype=torch.double)
        return self.process.moments(features)[0].clamp(_FLOOR, 1.0).log()
