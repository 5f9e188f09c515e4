"""The kernels of CARBS as GPyTorch kernels, with log-normal priors of their hyperparameters.

Configurations have a linear plus a Matérn-3/2 kernel over their coordinates in the basic space, and the front has an
RBF kernel over the scaled cost (Fetterman et al. 2023, section 3.2). CARBS starts from lengthscales of one search
radius and variances of 1 and hardly moves them: 1,000 steps of Adam at a rate of 0.0001. Here these values are the
medians of the priors, and the hyperparameters are the maximum a posteriori.

Shapes: n and m configurations, p features, d lengthscales.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from botorch.utils.constraints import LogTransformedInterval
from gpytorch import Module
from gpytorch.kernels import Kernel
from gpytorch.priors import LogNormalPrior
from torch import Tensor

from surrogates.gaussian_processes.kernels import squared_distances

_ROOT_3 = math.sqrt(3.0)
_BOUNDS = (1e-5, 1e4)


class LinearMatern(Kernel):
    """A linear kernel plus a Matérn-3/2 kernel with one lengthscale per encoded column.

        k(x, z) = v x'z + s (1 + sqrt(3) r) exp(-sqrt(3) r),  r^2 = sum_i ((x_i - z_i) / l_j(i))^2

    `gpytorch.kernels.MaternKernel` has one lengthscale per feature, but the features of a nominal column share one.

    Args:
        columns: the encoded column j(i) of each feature, shape [p].
        lengthscale: median of the prior of the lengthscales.
    """

    def __init__(self, columns: Sequence[int], lengthscale: float) -> None:
        super().__init__()
        self.register_buffer("columns", torch.as_tensor(columns, dtype=torch.long))
        register_positive(self, "lengthscales", lengthscale, scale=1.0, shape=(max(columns, default=-1) + 1,))
        register_positive(self, "linear_variance", 1.0, scale=1.0)
        register_positive(self, "matern_variance", 1.0, scale=1.0)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Return the covariances of features x1 [n, p] and x2 [m, p], shape [n, m].

        With `diag`, n equals m and only the diagonal is returned, shape [n].
        """
        inverse = 1.0 / value_of(self, "lengthscales")[self.columns]
        if diag:
            products, squares = (x1 * x2).sum(-1), ((x1 - x2) * inverse).square().sum(-1)
        else:
            products, squares = x1 @ x2.mT, squared_distances(x1 * inverse, x2 * inverse)
        r = _ROOT_3 * squares.clamp_min(1e-20).sqrt()
        matern = (1.0 + r) * torch.exp(-r)
        return value_of(self, "linear_variance") * products + value_of(self, "matern_variance") * matern


class FrontRBF(Kernel):
    """An RBF kernel over one coordinate."""

    def __init__(self) -> None:
        super().__init__()
        register_positive(self, "length", 1.0, scale=1.0)
        register_positive(self, "variance", 1.0, scale=1.0)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Return the covariances of x1 [n, 1] and x2 [m, 1], shape [n, m], or their diagonal, shape [n]."""
        length, variance = value_of(self, "length"), value_of(self, "variance")
        z1, z2 = x1 / length, x2 / length
        squares = (z1 - z2).square().sum(-1) if diag else squared_distances(z1, z2)
        return variance * torch.exp(-0.5 * squares)


def register_positive(
    module: Module, name: str, median: float, *, scale: float, shape: tuple[int, ...] = ()
) -> None:
    """Register a positive hyperparameter that starts at the median of its log-normal prior.

    Args:
        module: the module that owns it.
        name: name; the parameter is called `raw_` and the name.
        median: median of the prior.
        scale: standard deviation of the prior of the logarithm.
        shape: shape of the hyperparameter.
    """
    constraint = LogTransformedInterval(*_BOUNDS)
    start = constraint.inverse_transform(torch.full(shape, median, dtype=torch.double))
    module.register_parameter(f"raw_{name}", torch.nn.Parameter(start))
    module.register_constraint(f"raw_{name}", constraint)
    # With the location shifted by the squared scale, the density is normal over the logarithm.
    prior = LogNormalPrior(math.log(median) + scale**2, scale)
    module.register_prior(f"{name}_prior", prior, lambda owner: value_of(owner, name))


def value_of(module: Module, name: str) -> Tensor:
    """Return the value of a hyperparameter of `register_positive`."""
    constraint = getattr(module, f"raw_{name}_constraint")
    value: Tensor = constraint.transform(getattr(module, f"raw_{name}"))
    return value
