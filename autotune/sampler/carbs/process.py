"""A Gaussian process with zero mean and maximum a posteriori hyperparameters, over any GPyTorch kernel.

The noise has the prior of CARBS, log-normal around 0.01 with scale 0.5 for outputs of about unit variance, which is
that of HEBO (Cowen-Rivers et al. 2020, arXiv 2012.03826). The Gaussian process in `surrogates` does not fit here: it
standardizes its outputs and integrates out a constant mean, but the scales of CARBS are absolute and its mean is 0.

Shapes: n observations, p features, m new points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from gpytorch import Module
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from autotune.sampler.carbs.kernels import register_positive, value_of
from surrogates.gaussian_processes.fitting import cholesky, log_likelihood, log_prior, maximize_posterior

Array = NDArray[np.float64]

_NOISE, _NOISE_SCALE = 0.01, 0.5
_MAX_FIT = 300
"""Maximum number of observations for the fit of the hyperparameters; predictions use all of them."""


class NoisyKernel(Module):
    """A kernel and the variance of the noise.

    Args:
        kernel: the kernel, with the starting values of its hyperparameters.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        register_positive(self, "noise", _NOISE, scale=_NOISE_SCALE)

    def covariance(self, X: Tensor, extra: Tensor) -> Tensor:
        """Return the covariance of noisy outputs at X [n, p], shape [n, n], with variances beside the noise [n]."""
        return self.kernel.forward(X, X) + torch.diag(value_of(self, "noise") + extra)


@dataclass(frozen=True)
class Process:
    """A Gaussian process conditioned on observations; `fit` builds it.

    Args:
        modules: the kernel and the noise, fitted.
        X: features of the observations, shape [n, p].
        y: outputs, shape [n].
        extra: variance of each output beside the noise, shape [n].
    """

    modules: NoisyKernel
    X: Tensor
    y: Tensor
    extra: Tensor

    @classmethod
    def fit(cls, kernel: Kernel, X: Array, y: Array, extra: Array | None = None) -> Process:
        """Fit the hyperparameters and condition the process on the observations.

        Args:
            kernel: kernel with the starting values; its hyperparameters are changed in place.
            X: features, shape [n, p], n >= 1.
            y: outputs, shape [n].
            extra: variances beside the noise, in squared units of y, shape [n]; 0 by default.
        """
        modules = NoisyKernel(kernel)
        outputs = _tensor(y)
        other = torch.zeros_like(outputs) if extra is None else _tensor(extra)
        process = cls(modules, _tensor(X), outputs, other)
        every = math.ceil(len(outputs) / _MAX_FIT)
        inputs, outputs, other = (t[::every] for t in (process.X, outputs, other))

        def log_density() -> Tensor:
            return log_likelihood(modules.covariance(inputs, other), outputs) + log_prior(modules)

        # A new kernel starts at the medians of its priors.
        maximize_posterior(modules, log_density, starts=[lambda: None])
        return process

    @torch.no_grad()
    def predict(self, X: Array) -> tuple[Array, Array]:
        """Return the posterior mean and standard deviation of the latent function at X [m, p], in units of y."""
        inputs = _tensor(X)
        cross, half = self._cross(inputs)
        prior = self.modules.kernel.forward(inputs, inputs, diag=True)
        # Rounding must not make a variance negative or zero.
        variance = (prior - half.square().sum(0)).clamp_min(1e-12)
        return (cross @ self._weights).numpy(), variance.sqrt().numpy()

    @torch.no_grad()
    def draw(self, X: Array, rng: np.random.Generator) -> Array:
        """Draw the latent function at X [m, p] from its joint posterior, shape [m]."""
        inputs = _tensor(X)
        cross, half = self._cross(inputs)
        covariance = self.modules.kernel.forward(inputs, inputs) - half.mT @ half
        # Equal points have a singular covariance.
        root = cholesky(covariance + 1e-9 * torch.eye(len(X), dtype=torch.double))
        return (cross @ self._weights + root @ _tensor(rng.standard_normal(len(X)))).numpy()

    def condition_on(self, X: Array, y: Array) -> Process:
        """Return the process with more observations and the same hyperparameters."""
        more = _tensor(y)
        return Process(
            self.modules,
            torch.cat([self.X, _tensor(X)]),
            torch.cat([self.y, more]),
            torch.cat([self.extra, torch.zeros_like(more)]),
        )

    @cached_property
    def _root(self) -> Tensor:
        """The lower Cholesky factor of the covariance of the outputs, shape [n, n]."""
        return cholesky(self.modules.covariance(self.X, self.extra).detach())

    @cached_property
    def _weights(self) -> Tensor:
        """The inverse of that covariance times the outputs, shape [n]."""
        return torch.cholesky_solve(self.y[:, None], self._root)[:, 0]

    def _cross(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the covariances with the observations [m, n], and the inverse root times their transpose."""
        cross = self.modules.kernel.forward(inputs, self.X)
        return cross, torch.linalg.solve_triangular(self._root, cross.mT, upper=False)


def _tensor(values: Array) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.double)
