"""The covariance of embedded configurations, as a GPyTorch kernel.

Features come from `embedding.Embedding`; several of them share the lengthscale of their column.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from botorch.utils.constraints import LogTransformedInterval
from gpytorch.kernels import Kernel
from gpytorch.priors import NormalPrior
from torch import Tensor

MEAN_VARIANCE = 1.0
"""Prior variance of the constant mean, for standardized outputs; the kernel includes it."""
_LENGTH_BOUNDS = (0.02, 1e4)
_SIGNAL_BOUNDS = (0.05, 50.0)
_LENGTH_SCALE = math.sqrt(3.0)
_SIGNAL_SCALE = 1.0
_TINY = 1e-20
"""Smallest squared distance: the square root has no derivative at 0."""


class ConditionalMatern(Kernel):
    """Matérn-5/2 over the features with one lengthscale per column, plus the variance of a constant mean.

    Priors: lengthscales are log-normal with location sqrt(2) + log(a)/2 and scale sqrt(3) (Hvarfner, Hellsten and
    Nardi 2024, "Vanilla Bayesian optimization performs great in high dimensions", eq. 7), a being how many columns a
    configuration has active on average, since only those add up to a distance. The logarithm of the signal
    variance is normal around 0 with scale 1. Parameters are logarithms, and so are the arguments of the registered
    priors: a log-normal density of l with location c and scale s is, up to a constant, a normal one of log l with
    mean c - s^2.

    Args:
        columns: the column of each feature, shape [p].
        active: the mean number of active columns.
    """

    def __init__(self, columns: Tensor, active: float) -> None:
        super().__init__()
        self.register_buffer("columns", columns)
        self.median = math.sqrt(2.0) + 0.5 * math.log(max(active, 1.0))
        """Logarithm of the prior's median of a lengthscale."""
        self.mode = self.median - _LENGTH_SCALE**2
        """Logarithm of the prior's mode."""
        count = int(columns.max()) + 1 if len(columns) else 0
        self.register_parameter(
            "raw_lengthscales", torch.nn.Parameter(torch.zeros(count, dtype=torch.double))
        )
        self.register_parameter("raw_signal", torch.nn.Parameter(torch.zeros((), dtype=torch.double)))
        self.register_constraint("raw_lengthscales", LogTransformedInterval(*_LENGTH_BOUNDS))
        self.register_constraint("raw_signal", LogTransformedInterval(*_SIGNAL_BOUNDS))
        self.register_prior("lengthscales_prior", NormalPrior(self.mode, _LENGTH_SCALE), "raw_lengthscales")
        self.register_prior("signal_prior", NormalPrior(0.0, _SIGNAL_SCALE), "raw_signal")

    @property
    def lengthscales(self) -> Tensor:
        """Lengthscales of the columns, shape [d]."""
        return self.raw_lengthscales_constraint.transform(self.raw_lengthscales)

    @property
    def signal(self) -> Tensor:
        """Variance of the latent function around its mean."""
        return self.raw_signal_constraint.transform(self.raw_signal)

    def set_values(self, lengthscales: Tensor, signal: float) -> None:
        """Set the hyperparameters, moved into their bounds."""
        low, high = _LENGTH_BOUNDS
        inside = lengthscales.clamp(low * 1.0001, high * 0.9999)
        self.initialize(raw_lengthscales=self.raw_lengthscales_constraint.inverse_transform(inside))
        variance = torch.tensor(signal, dtype=torch.double).clamp(
            _SIGNAL_BOUNDS[0] * 1.0001, _SIGNAL_BOUNDS[1] * 0.9999
        )
        self.initialize(raw_signal=self.raw_signal_constraint.inverse_transform(variance))

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Return the covariances of features x1 [..., n, p] and x2 [..., m, p], shape [..., n, m].

        With `diag`, n equals m and only the diagonal is returned, shape [..., n].
        """
        if diag:
            squares = ((x1 - x2) / self.lengthscales[self.columns]).square().sum(dim=-1)
        else:
            inverse = 1.0 / self.lengthscales[self.columns]
            squares = squared_distances(x1 * inverse, x2 * inverse)
        return self.signal * matern(squares) + MEAN_VARIANCE

    def prior_variance(self) -> Tensor:
        """Return the variance of the latent function without data."""
        return self.signal + MEAN_VARIANCE


def squared_distances(A: Tensor, B: Tensor) -> Tensor:
    """Return the squared Euclidean distances of the rows of A [..., n, p] and B [..., m, p]: [..., n, m]."""
    squares = A.square().sum(dim=-1).unsqueeze(-1) + B.square().sum(dim=-1).unsqueeze(-2)
    return (squares - 2.0 * A @ B.transpose(-1, -2)).clamp_min(_TINY)


def matern(squares: Tensor) -> Tensor:
    """Return the Matérn-5/2 correlation of squared scaled distances."""
    r = (5.0 * squares).clamp_min(_TINY).sqrt()
    return (1.0 + r + r.square() / 3.0) * torch.exp(-r)
