"""Gaussian processes with the sparse axis-aligned subspace prior, with the No-U-Turn sampler.

Eriksson and Jankowiak (2021), "High-dimensional Bayesian optimization with sparse axis-aligned subspaces", with
BoTorch's model and sampler; it differs from BoTorch's in that the features of one column share their lengthscale. The
samples of the hyperparameters become the members of a `SaasEnsemble`. A fit takes tens of seconds, and needs the
extra `fully-bayesian`, which installs jax.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from surrogates.bayesian_extra import require_bayesian_extra
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import Hyperparameters, standardization
from surrogates.gaussian_processes.observations import Observations, WithinGroups
from surrogates.gaussian_processes.saas import SaasEnsemble

Array = NDArray[np.float64]

_WARMUP, _SAMPLES, _THINNING = 128, 64, 4
"""Steps of the sampler; AutoPEFT (Zhou et al. 2024) uses these."""


def fit_bayesian_saas(
    X: Array,
    y: Array,
    embedding: Embedding,
    *,
    seed: int = 0,
    extra_noise: Array | None = None,
    replicates: Array | None = None,
    within: WithinGroups | None = None,
) -> SaasEnsemble:
    """Fit an ensemble whose members are 16 samples from the posterior of the hyperparameters.

    Args:
        X: shape [n, d], n >= 1, encoded configurations, NaN where inactive.
        y: shape [n], finite.
        embedding: of the columns of X.
        seed: seed of the sampler.
        extra_noise: shape [n], variances in units of y squared that observations have beside the common noise.
        replicates: shape [n], number of runs that each y is the mean of.
        within: the squared deviations of these runs from their means; none by default.

    Raises:
        InvalidInputError: jax and numpyro are not installed.
        ValueError: The arguments do not fit; see `Observations`.
    """
    require_bayesian_extra()
    from botorch.fit import fit_fully_bayesian_model_nuts
    from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP

    observations = Observations.of(X, y, extra_noise, replicates)
    offset, scale = standardization(observations.y)

    class Sampled(SaasFullyBayesianSingleTaskGP):
        _pyro_model_class = _model_class(embedding.columns, observations, within or WithinGroups(), scale)

    features = torch.as_tensor(embedding.features(observations.X), dtype=torch.double)
    targets = torch.as_tensor((observations.y - offset) / scale, dtype=torch.double).unsqueeze(-1)
    model: Any = Sampled(features, targets)
    fit_fully_bayesian_model_nuts(
        model,
        warmup_steps=_WARMUP,
        num_samples=_SAMPLES,
        thinning=_THINNING,
        disable_progbar=True,
        seed=seed,
    )
    first = [int(np.flatnonzero(embedding.columns == column)[0]) for column in range(embedding.width)]
    lengthscales = model.covar_module.base_kernel.lengthscale.detach()[:, 0, first].numpy()
    signals, noises = model.covar_module.outputscale.detach(), model.likelihood.noise.detach().reshape(-1)
    samples = zip(lengthscales, signals.tolist(), noises.tolist(), strict=True)
    fitted = [Hyperparameters(lengths, signal, noise) for lengths, signal, noise in samples]
    return SaasEnsemble.of(X, y, embedding, fitted, extra_noise=extra_noise, replicates=replicates)


def _model_class(
    columns: NDArray[np.int_], observations: Observations, within: WithinGroups, scale: float
) -> type:
    """Return BoTorch's SAAS model with one lengthscale per column and the noise of each observation."""
    import jax
    import jax.numpy as jnp
    import numpyro
    from botorch.models.fully_bayesian import SaasPyroModel

    width = int(columns.max()) + 1 if len(columns) else 0
    runs, extra = observations.replicates, observations.extra_noise / scale**2

    class ColumnModel(SaasPyroModel):
        def sample_lengthscale(self, dim: int, alpha: float = 0.1) -> jax.Array:
            return super().sample_lengthscale(width, alpha)[jnp.array(columns)]

        def sample_noise(self) -> jax.Array:
            noise = super().sample_noise()
            squares = within.squares / scale**2 / noise
            numpyro.factor("within", -0.5 * jnp.sum(within.freedom * jnp.log(noise) + squares))
            return noise / jnp.array(runs) + jnp.array(extra)

        def postprocess_mcmc_samples(self, mcmc_samples: dict[str, jax.Array]) -> dict[str, Any]:
            found: dict[str, Any] = super().postprocess_mcmc_samples(mcmc_samples)
            return {**found, "lengthscale": found["lengthscale"][:, columns]}

    return ColumnModel
