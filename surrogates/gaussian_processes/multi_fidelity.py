"""A Gaussian process over configurations and training budgets, whose mean follows a scaling law of the budget.

y(x, z) = m(z) + f(x, log z) + e: scores of every budget are observations, m is the power law that all configurations
share, and f is a Gaussian process with the logarithm of the budget as a further column, so its lengthscale says how
much configurations differ in their curves. Budgets z are relative to the full one, above 0 and at most 1.

`surrogates.multi_fidelity` estimates the same law robustly from the differences between budgets, chooses between the
law and simpler rules, and gives a score of a low budget more noise. The sampler uses that two-step model: with 60
configurations of four tables, predictions of it had the smaller error on two tables (by 26 % and 9 %) and the larger
one on two (by 8 % and 2 %), and a few configurations that diverge mislead it less. Intervals of the joint model were
better on three of the four tables (`benchmarks.multi_fidelity process`, six seeds).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from botorch.utils.constraints import LogTransformedInterval
from gpytorch.means import Mean
from gpytorch.priors import NormalPrior
from numpy.typing import NDArray
from torch import Tensor

from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess

Array = NDArray[np.float64]

_EXPONENT_CENTER, _EXPONENT_SCALE = math.log(0.5), 1.0
_EXPONENT_BOUNDS = (0.05, 4.0)
_COEFFICIENT_SCALE = 2.0
"""Prior standard deviation of B, in standard deviations of the scores."""


class ScalingLawMean(Mean):
    """The power law m(z) = B (z^-b - 1) of the relative budget, which is 0 at the full budget.

    Its input is the logarithm of the budget, in the last column of the features. The logarithm of b is normal around
    log 1/2 with scale 1, because few budgets do not identify it, and B is normal around 0.

    Args:
        scale: standard deviation of the scores, which gives B its unit.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_parameter("coefficient", torch.nn.Parameter(torch.zeros((), dtype=torch.double)))
        start = torch.tensor(_EXPONENT_CENTER, dtype=torch.double)
        self.register_parameter("raw_exponent", torch.nn.Parameter(start))
        self.register_constraint("raw_exponent", LogTransformedInterval(*_EXPONENT_BOUNDS))
        self.register_prior("coefficient_prior", NormalPrior(0.0, _COEFFICIENT_SCALE * scale), "coefficient")
        self.register_prior("exponent_prior", NormalPrior(_EXPONENT_CENTER, _EXPONENT_SCALE), "raw_exponent")

    @property
    def exponent(self) -> Tensor:
        """The exponent b, above 0."""
        return self.raw_exponent_constraint.transform(self.raw_exponent)

    def forward(self, x: Tensor) -> Tensor:
        """Return m at features x [..., n, p], shape [..., n]."""
        return self.coefficient * torch.expm1(-self.exponent * x[..., -1])


class MultiFidelityProcess:
    """A fitted process over configurations and budgets; `fit` builds it.

    Args:
        process: the Gaussian process, whose last column is the logarithm of the budget.
        mean: its scaling law.
    """

    def __init__(self, process: GaussianProcess, mean: ScalingLawMean) -> None:
        self.process, self.mean = process, mean

    @classmethod
    def fit(cls, X: Array, budgets: Array, y: Array, embedding: Embedding) -> MultiFidelityProcess:
        """Fit the law and the hyperparameters together, by maximum a posteriori.

        Args:
            X: encoded configurations, shape [n, d], one row per score; a configuration may have several.
            budgets: relative budgets of the scores, above 0 and at most 1, shape [n].
            y: scores, shape [n].
            embedding: of the columns of X.

        Raises:
            ValueError: A budget is outside (0, 1], or the shapes do not fit.
        """
        mean = ScalingLawMean(float(np.std(y)) or 1.0)
        process = GaussianProcess.fit(_with_budgets(X, budgets), y, _with_column(embedding), prior_mean=mean)
        return cls(process, mean)

    def predict(self, X: Array, budgets: Array | float = 1.0) -> tuple[Array, Array]:
        """Return mean and standard deviation of the score at X [m, d] and budgets [m], by default the full one."""
        return self.process.predict(_with_budgets(X, np.broadcast_to(budgets, len(X))))


def _with_column(embedding: Embedding) -> Embedding:
    return Embedding(embedding.counts, embedding.linear + 1)


def _with_budgets(X: Array, budgets: Array) -> Array:
    budgets = np.asarray(budgets, dtype=float)
    if budgets.shape != (len(X),) or not ((budgets > 0) & (budgets <= 1)).all():
        raise ValueError(
            f"budgets: {budgets}; give {len(X)} numbers above 0 and at most 1, relative to the full one"
        )
    return np.column_stack([X, np.log(budgets)])
