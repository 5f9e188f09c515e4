"""Mixtures of Gaussian processes of the same observations, as a BoTorch model.

Shapes: n observations, d columns, p features, k members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from botorch.acquisition.objective import PosteriorTransform
from botorch.models.model import Model
from botorch.posteriors import Posterior
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.distributions import MultivariateNormal
from linear_operator.operators import DenseLinearOperator, DiagLinearOperator
from numpy.typing import NDArray
from torch import Tensor

from surrogates.gaussian_processes.gaussian_process import GaussianProcess

Array = NDArray[np.float64]


class Mixture(Model):
    """A mixture of processes with one output.

    Mean and covariance are those of the mixture. `posterior` is the Gaussian with these moments, so that acquisition
    functions in closed form apply.

    Args:
        members: processes of the same observations, or mixtures of such, at least one.
        weights: their probabilities, shape [k]; equal by default.
    """

    num_outputs = 1

    def __init__(
        self, members: Sequence[GaussianProcess | Mixture], weights: Sequence[float] | Array | None = None
    ) -> None:
        super().__init__()
        assert members, "a mixture needs a member"
        self.members: tuple[GaussianProcess | Mixture, ...] = tuple(members)
        self.weights = np.full(len(members), 1.0 / len(members)) if weights is None else np.array(weights)
        assert len(self.weights) == len(self.members), "one weight per member"

    @property
    def noise_variance(self) -> float:
        """The mean variance of the noise of one run over the members, in units of y squared."""
        return float(self.weights @ [member.noise_variance for member in self.members])

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of a batch of models: one model."""
        return torch.Size([])

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
        **_: Any,
    ) -> Posterior:
        """Return the Gaussian with the mixture's moments at features X [..., q, >= p], in units of y."""
        each: list[Any] = [
            member.posterior(X, observation_noise=observation_noise) for member in self.members
        ]
        means = torch.stack([posterior.mean.squeeze(-1) for posterior in each])
        mean = self._average(means)
        spread = means - mean
        if X.shape[-2] == 1:
            variances = torch.stack([posterior.variance.squeeze(-1) for posterior in each])
            covariance = DiagLinearOperator(self._average(variances + spread.square()))
        else:
            within = torch.stack([posterior.distribution.covariance_matrix for posterior in each])
            between = spread.unsqueeze(-1) * spread.unsqueeze(-2)
            covariance = DenseLinearOperator(self._average(within + between))
        mixed = GPyTorchPosterior(MultivariateNormal(mean, covariance))
        return mixed if posterior_transform is None else posterior_transform(mixed)

    def predict(self, X: Array, noise: bool = False) -> tuple[Array, Array]:
        """Return mean and standard deviation of the mixture at X [m, d], in units of y, as `GaussianProcess`."""
        return self._mixed([member.predict(X, noise) for member in self.members])

    def moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the mixture at features X [c, >= p], shape [c] each."""
        means, stds = map(torch.stack, zip(*(member.moments(X) for member in self.members), strict=True))
        mean = self._average(means)
        return mean, self._average(stds.square() + (means - mean).square()).sqrt()

    def condition_on(self, X: Array, y: Array | None = None) -> Mixture:
        """Return the mixture with further observations at X [m, d]; without y each member takes its own mean."""
        return Mixture([each.condition_on(X, y) for each in self.members], self.weights) if len(X) else self

    def leave_one_out(self) -> Array:
        """Return the log density of the mixture for each observation given the others, shape [n], in units of 1/y."""
        each = np.array([member.leave_one_out() for member in self.members])
        with np.errstate(divide="ignore"):
            return np.logaddexp.reduce(each + np.log(self.weights)[:, None], axis=0)

    def leave_one_out_moments(self) -> tuple[Array, Array]:
        """Return mean and standard deviation of the mixture at each observation given the others, shape [n]."""
        return self._mixed([member.leave_one_out_moments() for member in self.members])

    def _mixed(self, moments: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
        means, stds = map(np.array, zip(*moments, strict=True))
        mean = self.weights @ means
        return mean, np.sqrt(self.weights @ (stds**2 + (means - mean) ** 2))

    def _average(self, values: Tensor) -> Tensor:
        """Return the weighted mean over the members of values [k, ...]."""
        return torch.tensordot(torch.as_tensor(self.weights, dtype=values.dtype), values, dims=1)
