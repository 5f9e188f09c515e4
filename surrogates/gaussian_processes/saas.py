"""Gaussian processes with the sparse axis-aligned subspace prior (SAAS), as an ensemble.

Eriksson and Jankowiak (2021), "High-dimensional Bayesian optimization with sparse axis-aligned subspaces", section 4:
the inverse squared lengthscale of each column is half-Cauchy with scale tau, so that most columns have no effect, and
tau, the global shrinkage, is half-Cauchy with scale 0.1. Zhou et al. (2024), "AutoPEFT", use it for search spaces of
adapters, where a column stands for one layer or one size.

`SaasEnsemble.fit` takes the maximum a posteriori at a few quantiles of tau instead of Monte Carlo samples of all
hyperparameters (`saas_bayesian.py`). Its members are `GaussianProcess`es with these hyperparameters, and with the
priors of signal and noise of a `GaussianProcess`. BoTorch's
`EnsembleMapSaasSingleTaskGP` is not used: it has one lengthscale per feature, where several features of the embedding
share a column, and puts the half-Cauchy prior on tau / lengthscale², so that a small tau shrinks less.

Shapes: n observations, d columns, k members.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess, Hyperparameters
from surrogates.gaussian_processes.mixture import Mixture
from surrogates.gaussian_processes.observations import WithinGroups

Array = NDArray[np.float64]

TAU_SCALE = 0.1
"""Scale of the half-Cauchy prior of tau."""
_MEMBERS = 4


class SaasEnsemble(Mixture):
    """An equal mixture of Gaussian processes; `fit` builds it.

    An acquisition function that averages over the mixture takes its `members`.

    Args:
        members: processes of the same observations with different hyperparameters, at least one.
    """

    def __init__(self, members: Sequence[GaussianProcess]) -> None:
        super().__init__(members)
        self.members: tuple[GaussianProcess, ...] = tuple(members)

    @classmethod
    def fit(
        cls,
        X: Array,
        y: Array,
        embedding: Embedding,
        *,
        seed: int = 0,
        extra_noise: Array | None = None,
        replicates: Array | None = None,
        within: WithinGroups | None = None,
        members: int = _MEMBERS,
    ) -> SaasEnsemble:
        """Fit one member per quantile of tau, by maximum a posteriori.

        Args:
            X: shape [n, d], n >= 1, encoded configurations, NaN where inactive.
            y: shape [n], finite.
            embedding: of the columns of X.
            seed: picks the observations that are fitted to where there are more than 300.
            extra_noise: shape [n], variances in units of y squared that observations have beside the common noise.
            replicates: shape [n], number of runs that each y is the mean of.
            within: the squared deviations of these runs from their means; none by default.
            members: number of members.

        Raises:
            ValueError: The arguments do not fit; see `Observations`.
        """
        fitted: list[GaussianProcess] = []
        # From little to much shrinkage: a column without effect has no gradient, so it would not become active again.
        for tau in sorted(tau_quantiles(members), reverse=True):
            fitted.append(
                GaussianProcess.fit(
                    X,
                    y,
                    embedding,
                    start=fitted[-1].hyperparameters if fitted else None,
                    seed=seed,
                    extra_noise=extra_noise,
                    replicates=replicates,
                    within=within,
                    lengthscale_prior=partial(log_saas_prior, tau=tau),
                )
            )
        return cls(fitted)

    @classmethod
    def of(
        cls,
        X: Array,
        y: Array,
        embedding: Embedding,
        hyperparameters: Sequence[Hyperparameters],
        *,
        extra_noise: Array | None = None,
        replicates: Array | None = None,
    ) -> SaasEnsemble:
        """Return the ensemble with one member per hyperparameters; the other arguments are those of `fit`."""
        noise = {"extra_noise": extra_noise, "replicates": replicates}
        return cls([GaussianProcess.of(X, y, embedding, each, **noise) for each in hyperparameters])

    def condition_on(self, X: Array, y: Array | None = None) -> SaasEnsemble:
        """Return the ensemble with further observations at X [m, d]; without y each member takes its own mean."""
        return SaasEnsemble([member.condition_on(X, y) for member in self.members]) if len(X) else self


def tau_quantiles(count: int) -> list[float]:
    """Return the midpoints of `count` slices of equal probability of tau's half-Cauchy prior, ascending."""
    levels = (np.arange(count) + 0.5) / count
    return [float(TAU_SCALE * math.tan(0.5 * math.pi * level)) for level in levels]


def log_saas_prior(lengthscales: Tensor, tau: float) -> Tensor:
    """Return the log density of lengthscales [d] under the SAAS prior without its constant, a scalar.

    It is the density over the inverse lengthscale. A maximum depends on that choice: over lengthscale**-2, as in the
    sampler, the density is largest at 0 for every column, and few observations of many columns are then explained by
    two or three of them. With 20 observations of 30 columns the log loss of predictions was 7.8 instead of 0.6.

    Args:
        lengthscales: of the columns.
        tau: scale of the half-Cauchy prior of lengthscale**-2.
    """
    precision = lengthscales**-2
    return (0.5 * precision.log() - torch.log1p((precision / tau).square())).sum()
