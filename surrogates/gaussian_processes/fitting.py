"""Maximum a posteriori hyperparameters of a dense Gaussian process, by L-BFGS-B over GPyTorch parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from botorch.optim.core import scipy_minimize
from botorch.optim.utils import get_parameters_and_bounds
from gpytorch import Module
from torch import Tensor

_JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
"""Added to the diagonal in turn, relative to its mean, until the matrix has a Cholesky factor."""
_OPTIONS = {"ftol": 1e-4, "gtol": 1e-2}
"""Looser than BoTorch's: the posterior of the hyperparameters is flat near its mode, and a fit is part of every
suggestion."""


def cholesky(covariance: Tensor) -> Tensor:
    """Return the lower factor of a matrix [n, n], with as little jitter as it takes."""
    size = float(covariance.diagonal().mean())
    for jitter in _JITTERS:
        shifted = (
            covariance + jitter * size * torch.eye(len(covariance)).to(covariance) if jitter else covariance
        )
        factor, info = torch.linalg.cholesky_ex(shifted)
        if int(info) == 0:
            return factor
    raise AssertionError("a covariance with a hundredth of its diagonal added has a Cholesky factor")


class _LogLikelihood(torch.autograd.Function):
    """The log marginal likelihood without its constant (Rasmussen and Williams 2006, eq. 5.8 and 5.9).

    Its derivative by the covariance needs the inverse alone, which takes half the time of a derivative through the
    factorization.
    """

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, y: Tensor) -> Tensor:
        factor = cholesky(covariance)
        weights = torch.cholesky_solve(y.unsqueeze(-1), factor).squeeze(-1)
        ctx.save_for_backward(factor, weights)
        return -0.5 * (y @ weights) - factor.diagonal().log().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        factor, weights = ctx.saved_tensors
        by_covariance = 0.5 * (torch.outer(weights, weights) - torch.cholesky_inverse(factor))
        return gradients[0] * by_covariance, -gradients[0] * weights


def log_likelihood(covariance: Tensor, y: Tensor) -> Tensor:
    """Return log N(y; 0, covariance) without its constant, a scalar with derivatives.

    Args:
        covariance: shape [n, n], with noise.
        y: shape [n].
    """
    result: Tensor = _LogLikelihood.apply(covariance, y)
    return result


def log_likelihood_within(noise: Tensor, squares: float, freedom: float) -> Tensor:
    """Return the log density of squared deviations within groups without its constant, a scalar with derivatives.

    The sum of squares divided by the noise variance is chi-squared distributed.

    Args:
        noise: variance of one run, a scalar.
        squares: sum of squared deviations of runs from the mean of their group.
        freedom: number of runs less the number of groups.
    """
    return -0.5 * (freedom * noise.log() + squares / noise)


def log_prior(module: Module, but: str = "") -> Tensor:
    """Return the sum of the log densities of the priors of a module, without those of the name `but`."""
    total = torch.zeros((), dtype=torch.double)
    for name, owner, prior, closure, _ in module.named_priors():
        if name.rpartition(".")[2] == but:
            continue
        total = total + prior.log_prob(closure(owner)).sum()
    return total


def maximize_posterior(
    module: Module, log_density: Callable[[], Tensor], starts: Sequence[Callable[[], None]], steps: int = 60
) -> float:
    """Set the parameters of a module to the best of the local optima from several starts; return its value.

    Args:
        module: its parameters that require gradients are optimized within their constraints.
        log_density: returns the log posterior at the current parameters, a scalar.
        starts: functions that set the parameters, one per start.
        steps: maximum number of steps of the optimizer.
    """
    parameters, bounds = get_parameters_and_bounds(module, requires_grad=True)

    def closure() -> tuple[Tensor, list[Tensor | None]]:
        module.zero_grad()
        loss = -log_density()
        loss.backward()
        return loss.detach(), [parameter.grad for parameter in parameters.values()]

    best, best_state = float("inf"), None
    for start in starts:
        start()
        found = scipy_minimize(closure, parameters, bounds=bounds, options={**_OPTIONS, "maxiter": steps})
        if best_state is None or float(found.fval) < best:
            best = float(found.fval)
            best_state = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    assert best_state is not None, "there is at least one start"
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(best_state[name])
    return -best
