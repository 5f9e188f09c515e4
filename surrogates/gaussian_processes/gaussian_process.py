"""Exact Gaussian process regression over mixed, conditional and noisy configurations, as a BoTorch model.

Shapes: n observations, d columns, p features, m new configurations. X is encoded as in `embedding.py`. Outputs y
come and go in their own units; inside they have mean 0 and variance 1, and every variance of `Hyperparameters` refers
to those.

The model is y = c + t(x) + f(x) + e: a constant c ~ N(0, 1), integrated out; an optional prior mean t; f with the
covariance of `kernels.ConditionalMatern`; independent noise e. The logarithm of the noise variance is normal around
log 0.02 with scale 1.5: two fine-tuning runs that differ in their seed alone differ by roughly 5 to 40 % of the
standard deviation over a search space, that is 0.003 to 0.15 in variance. An observation that is the mean of k runs
has 1/k of it, and observations may have extra variances. The squared deviations of the k runs from their mean inform
the noise, too. Hyperparameters are the maximum a posteriori.

`posterior` takes features, keeps the training set unexpanded over a batch of candidates and uses one Cholesky factor
that is computed once, so that acquisition functions of BoTorch evaluate hundreds of candidates at the cost of one
matrix product. GPyTorch's prediction strategies broadcast the training set over such a batch instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.acquisition.objective import PosteriorTransform
from botorch.models.model import Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from botorch.utils.constraints import LogTransformedInterval
from gpytorch import Module
from gpytorch.distributions import MultivariateNormal
from gpytorch.priors import NormalPrior
from linear_operator.operators import DenseLinearOperator, DiagLinearOperator
from numpy.typing import NDArray
from torch import Tensor

from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.fitting import (
    cholesky,
    log_likelihood,
    log_likelihood_within,
    log_prior,
    maximize_posterior,
)
from surrogates.gaussian_processes.kernels import ConditionalMatern
from surrogates.gaussian_processes.observations import Observations, WithinGroups

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_NOISE_CENTER, _NOISE_SCALE = float(np.log(0.02)), 1.5
_NOISE_BOUNDS = (1e-5, 2.0)
_FEW = 60
"""Up to this many observations the posterior of the hyperparameters has several modes: two starts."""
_STEPS, _WARM_STEPS = 60, 20
"""Maximum number of steps of the optimizer, and from the last fit of a study, which the next fit continues."""
_MAX_FIT = 300
"""Maximum number of observations for the fit of the hyperparameters; predictions use all of them."""


@dataclass(frozen=True)
class Hyperparameters:
    """Lengthscales [d], and the variances of signal and noise for standardized outputs."""

    lengthscales: Array
    signal: float
    noise: float

    def as_list(self) -> list[float]:
        """Return the numbers with six digits: lengthscales, signal, noise."""
        numbers = [*self.lengthscales.tolist(), self.signal, self.noise]
        return [float(f"{number:.6g}") for number in numbers]

    @classmethod
    def from_list(cls, numbers: Sequence[float]) -> Hyperparameters:
        """Return the hyperparameters that `as_list` wrote."""
        return cls(np.array(numbers[:-2], dtype=float), float(numbers[-2]), float(numbers[-1]))


class _Modules(Module):
    """The kernel and the noise variance of one process, with their priors."""

    def __init__(self, columns: Tensor, active: float) -> None:
        super().__init__()
        self.kernel = ConditionalMatern(columns, active)
        self.register_parameter("raw_noise", torch.nn.Parameter(torch.zeros((), dtype=torch.double)))
        self.register_constraint("raw_noise", LogTransformedInterval(*_NOISE_BOUNDS))
        self.register_prior("noise_prior", NormalPrior(_NOISE_CENTER, _NOISE_SCALE), "raw_noise")

    @property
    def noise(self) -> Tensor:
        """Variance of the noise of one run."""
        return self.raw_noise_constraint.transform(self.raw_noise)

    def assign(self, values: Hyperparameters) -> None:
        """Set all hyperparameters, moved into their bounds."""
        self.kernel.set_values(_tensor(values.lengthscales), values.signal)
        low, high = _NOISE_BOUNDS
        noise = torch.tensor(values.noise, dtype=torch.double).clamp(low * 1.0001, high * 0.9999)
        self.initialize(raw_noise=self.raw_noise_constraint.inverse_transform(noise))

    def values(self) -> Hyperparameters:
        """Return the hyperparameters."""
        lengthscales = self.kernel.lengthscales.detach().numpy().copy()
        return Hyperparameters(lengthscales, float(self.kernel.signal.detach()), float(self.noise.detach()))

    def starts(self, n: int) -> list[Hyperparameters]:
        """Return the prior's mode in lengthscales; for few observations its median too."""
        logs = [self.kernel.mode, self.kernel.median] if n <= _FEW else [self.kernel.mode]
        d = len(self.kernel.raw_lengthscales)
        return [Hyperparameters(np.full(d, np.exp(log)), 1.0, float(np.exp(_NOISE_CENTER))) for log in logs]


PriorMean = Callable[[Tensor], Tensor]
"""A function of features [..., m, p], such as a `gpytorch.means.Mean`, that returns [..., m] in units of y."""


LengthscalePrior = Callable[[Tensor], Tensor]
"""The log density of lengthscales [d] up to a constant, a scalar with derivatives."""


class GaussianProcess(Model):
    """A fitted Gaussian process with one output; `fit` builds it. Conditioning returns another one."""

    num_outputs = 1

    def __init__(
        self,
        embedding: Embedding,
        observations: Observations,
        hyperparameters: Hyperparameters,
        offset: float,
        scale: float,
        prior_mean: PriorMean | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.observations, self.hyperparameters = embedding, observations, hyperparameters
        self.offset, self.scale, self.prior_mean = offset, scale, prior_mean
        self._modules_of_fit = _modules(embedding, observations.X)
        self._modules_of_fit.assign(hyperparameters)
        self._kernel = self._modules_of_fit.kernel
        with torch.no_grad():
            self._Z = _tensor(embedding.features(observations.X))
            self._residuals = self._standardized(self._Z, observations.y)
            noise = hyperparameters.noise / observations.replicates + observations.extra_noise / scale**2
            covariance = self._kernel.forward(self._Z, self._Z)
            self._factor = cholesky(covariance + torch.diag(_tensor(noise)))
            self._weights = torch.cholesky_solve(self._residuals.unsqueeze(-1), self._factor).squeeze(-1)

    @classmethod
    def fit(
        cls,
        X: Array,
        y: Array,
        embedding: Embedding,
        *,
        start: Hyperparameters | None = None,
        seed: int = 0,
        extra_noise: Array | None = None,
        replicates: Array | None = None,
        within: WithinGroups | None = None,
        prior_mean: PriorMean | None = None,
        lengthscale_prior: LengthscalePrior | None = None,
    ) -> GaussianProcess:
        """Fit the hyperparameters by maximum a posteriori.

        Args:
            X: shape [n, d], n >= 1, encoded configurations, NaN where inactive.
            y: shape [n], finite.
            embedding: of the columns of X.
            start: a starting point, such as the last fit; it replaces that of the prior for more than 60
                observations, and one of two for fewer.
            seed: picks the observations that are fitted to where there are more than 300.
            extra_noise: shape [n], variances in units of y squared that observations have beside the common noise.
            replicates: shape [n], number of runs that each y is the mean of.
            within: the squared deviations of these runs from their means; none by default.
            prior_mean: mean of y before any data, a function of features; 0 by default. Parameters of a
                `gpytorch.means.Mean` are fitted, too.
            lengthscale_prior: replaces the prior of the lengthscales.

        Raises:
            ValueError: the arguments do not fit; see `Observations`.
        """
        observations = Observations.of(X, y, extra_noise, replicates)
        within = within or WithinGroups()
        Z = _tensor(embedding.features(observations.X))
        trend = np.zeros(len(Z)) if prior_mean is None else prior_mean(Z).detach().numpy()
        offset, scale = standardization(observations.y - trend)
        rows = np.arange(len(Z))
        if len(rows) > _MAX_FIT:
            rows = np.sort(np.random.default_rng(seed).choice(len(rows), _MAX_FIT, replace=False))
        modules = _modules(embedding, observations.X[rows])
        if isinstance(prior_mean, Module):
            modules.prior_mean = prior_mean
        y_fit = _tensor(observations.y)[rows]
        extra = _tensor(observations.extra_noise / scale**2)[rows]
        runs, features = _tensor(observations.replicates)[rows], Z[rows]

        def log_density() -> Tensor:
            covariance = modules.kernel.forward(features, features)
            noisy = covariance + torch.diag(modules.noise / runs + extra)
            expected = 0.0 if prior_mean is None else prior_mean(features)
            targets = (y_fit - expected - offset) / scale
            likelihood = log_likelihood(noisy, targets)
            likelihood = likelihood + log_likelihood_within(
                modules.noise, within.squares / scale**2, within.freedom
            )
            if lengthscale_prior is None:
                return likelihood + log_prior(modules)
            prior = lengthscale_prior(modules.kernel.lengthscales) + log_prior(
                modules, but="lengthscales_prior"
            )
            return likelihood + prior

        starts = modules.starts(len(rows))
        steps = _STEPS
        if start is not None and len(start.lengthscales) == embedding.width:
            is_enough = len(rows) > _FEW
            starts, steps = ([start], _WARM_STEPS) if is_enough else ([start, starts[0]], _STEPS)
        maximize_posterior(modules, log_density, [_assign(modules, values) for values in starts], steps)
        return cls(embedding, observations, modules.values(), offset, scale, prior_mean)

    @classmethod
    def of(
        cls,
        X: Array,
        y: Array,
        embedding: Embedding,
        hyperparameters: Hyperparameters,
        *,
        extra_noise: Array | None = None,
        replicates: Array | None = None,
    ) -> GaussianProcess:
        """Return the process with the given hyperparameters; the other arguments are those of `fit`."""
        observations = Observations.of(X, y, extra_noise, replicates)
        return cls(embedding, observations, hyperparameters, *standardization(observations.y))

    @property
    def noise_variance(self) -> float:
        """The variance of the noise of one run, in units of y squared."""
        return self.hyperparameters.noise * self.scale**2

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
    ) -> GPyTorchPosterior:
        """Return the posterior of the latent function at features X [..., q, >= p], in units of y.

        Columns after the p features are ignored. With `observation_noise`, the noise of one run is added.
        """
        Z = X[..., : self._Z.shape[-1]]
        mean, covariance = self._moments(Z)
        if observation_noise is not False:
            covariance = covariance + self.scale**2 * self.hyperparameters.noise * torch.eye(Z.shape[-2]).to(
                Z
            )
        # A single point per batch has a diagonal covariance, which needs no factorization. That of several points may
        # be singular in double precision, as between observations; an operator is factorized with jitter.
        is_single = Z.shape[-2] == 1
        operator = DiagLinearOperator(covariance[..., 0]) if is_single else DenseLinearOperator(covariance)
        posterior = GPyTorchPosterior(MultivariateNormal(mean, operator))
        if posterior_transform is not None:
            raise NotImplementedError("posterior_transform: transform the outputs of a ModelList instead")
        return posterior

    def moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation at features X [c, >= p], shape [c] each, without gradients."""
        with torch.no_grad():
            mean, variance = self._moments(X[:, : self._Z.shape[-1]].unsqueeze(1))
        return mean[:, 0], variance[:, 0, 0].sqrt()

    def mean(self, X: Tensor) -> Tensor:
        """Return the posterior mean at features X [..., >= p], shape [...], without gradients."""
        with torch.no_grad():
            Z = X[..., : self._Z.shape[-1]]
            cross = self._kernel.forward(Z.reshape(-1, Z.shape[-1]), self._Z)
            mean = self.offset + self.scale * (cross @ self._weights).reshape(Z.shape[:-1])
            return mean if self.prior_mean is None else mean + self.prior_mean(Z)

    def predict(self, X: Array, noise: bool = False) -> tuple[Array, Array]:
        """Return the posterior mean and standard deviation of the latent function at X [m, d], in units of y.

        With `noise`, the standard deviation is that of a new observation of one run without extra noise.
        """
        mean, std = self.moments(_tensor(self.embedding.features(np.asarray(X, dtype=float))))
        if noise:
            std = (std.square() + self.scale**2 * self.hyperparameters.noise).sqrt()
        return mean.numpy(), std.numpy()

    def condition_on(self, X: Array, y: Array | None = None) -> GaussianProcess:
        """Return the process with further observations at X [m, d], with the same hyperparameters and units.

        Without y, the posterior mean is used as the observation (the "kriging believer" of Ginsbourger, Le Riche and
        Carraro 2010): the mean does not change, and the uncertainty around pending configurations decreases.
        """
        if len(X) == 0:
            return self
        more = Observations.of(X, self.predict(X)[0] if y is None else y)
        return GaussianProcess(
            self.embedding,
            self.observations.joined(more),
            self.hyperparameters,
            self.offset,
            self.scale,
            self.prior_mean,
        )

    def leave_one_out(self) -> Array:
        """Return the log density of each observation given the others, shape [n], in units of 1/y.

        Hyperparameters are those of all observations (Rasmussen and Williams 2006, eq. 5.10 to 5.12).
        """
        residuals, variance = self._leave_one_out_residuals()
        densities = -0.5 * (residuals.square() / variance + variance.log() + float(np.log(2 * np.pi)))
        return np.asarray(densities.numpy() - np.log(self.scale))

    def leave_one_out_moments(self) -> tuple[Array, Array]:
        """Return mean and standard deviation of the latent function at each observation given the others, [n]."""
        residuals, variance = self._leave_one_out_residuals()
        observations = self.observations
        noise = (
            self.hyperparameters.noise / observations.replicates + observations.extra_noise / self.scale**2
        )
        latent = np.maximum(variance.numpy() - noise, 1e-12)
        return observations.y - self.scale * residuals.numpy(), self.scale * np.sqrt(latent)

    def _leave_one_out_residuals(self) -> tuple[Tensor, Tensor]:
        """Return y minus its prediction from the others, and the variance of that, shape [n], standardized."""
        variance = 1.0 / torch.cholesky_inverse(self._factor).diagonal()
        return self._weights * variance, variance

    def _moments(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean [..., q] and covariance [..., q, q] at features Z [..., q, p], in units of y."""
        q = Z.shape[-2]
        flat = Z.reshape(-1, Z.shape[-1])
        cross = self._kernel.forward(flat, self._Z)
        half = torch.linalg.solve_triangular(self._factor, cross.T, upper=False)
        mean = self.offset + self.scale * (cross @ self._weights).reshape(Z.shape[:-1])
        if self.prior_mean is not None:
            mean = mean + self.prior_mean(Z)
        if q == 1:
            explained = half.square().sum(dim=0).reshape(*Z.shape[:-1], 1)
            prior = self._kernel.prior_variance()
        else:
            rows = half.T.reshape(*Z.shape[:-1], -1)
            explained = rows @ rows.transpose(-1, -2)
            prior = self._kernel.forward(Z, Z)
        covariance = prior - explained
        # The posterior variance cannot be 0 in truth; rounding must not make it so.
        floor = 1e-12 * float(self._kernel.prior_variance())
        diagonal = covariance.diagonal(dim1=-2, dim2=-1)
        covariance = covariance + torch.diag_embed((floor - diagonal).clamp_min(0.0))
        return mean, self.scale**2 * covariance

    def _standardized(self, Z: Tensor, y: Array) -> Tensor:
        trend = 0.0 if self.prior_mean is None else self.prior_mean(Z)
        return (_tensor(y) - trend - self.offset) / self.scale


def _modules(embedding: Embedding, X: Array) -> _Modules:
    active = float((~np.isnan(X)).sum(axis=1).mean()) if X.size else 1.0
    return _Modules(torch.as_tensor(embedding.columns, dtype=torch.long), active)


def _assign(modules: _Modules, values: Hyperparameters) -> Callable[[], None]:
    return lambda: modules.assign(values)


def standardization(y: Array) -> tuple[float, float]:
    """Return mean and standard deviation of outputs; those that agree to rounding have the scale 1."""
    offset, scale = float(y.mean()), float(y.std())
    return offset, scale if scale > 1e-12 * max(1.0, abs(offset)) else 1.0


def _tensor(values: Array) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.double)
