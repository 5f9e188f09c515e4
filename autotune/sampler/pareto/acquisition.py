"""Acquisition values of candidates by BoTorch, and the probability of feasibility.

Objectives are maximized here, as in BoTorch. Shapes: c candidates, m objectives, p input columns.

* One objective: the logarithm of expected improvement (Ament et al. 2023, "Unexpected improvements to expected
  improvement for Bayesian optimization").
* Two and three: expected hypervolume improvement in closed form (Yang, Emmerich, Deutz and Bäck 2019, "Efficient
  computation of expected hypervolume improvement using box decomposition algorithms", eq. 19). It is exact because
  objectives are independent; a known objective has variance 0.
* Four: the number of boxes of the closed form grows too fast, so each proposal improves a random augmented Chebyshev
  scalarization (qLogNParEGO: Knowles 2006; Daulton, Balandat and Bakshy 2020).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import cast

import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.parego import qLogNParEGO
from botorch.exceptions.warnings import BotorchWarning
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.model import Model
from botorch.posteriors.torch import TorchPosterior
from botorch.sampling.base import MCSampler
from botorch.sampling.get_sampler import get_sampler
from botorch.utils.multi_objective.box_decompositions.non_dominated import (
    FastNondominatedPartitioning,
    NondominatedPartitioning,
)
from torch import Tensor

from surrogates.gaussian_processes.botorch_setup import without_compiler

LogAcquisition = Callable[[Tensor], Tensor]
"""A function from candidates [c, 1, p] to the logarithms of their acquisition values [c]."""

_MAX_ANALYTIC = 3
"""Largest number of objectives of the closed form."""
_SAMPLES = 64
_CHUNK = 2_000_000
"""Candidates times boxes per evaluation of the closed form; bounds the memory to a few tens of MB."""


def log_improvement(
    model: Model, front: Tensor, reference: Tensor, baseline: Tensor, seed: int
) -> LogAcquisition:
    """Return the acquisition function for a front of posterior means.

    Args:
        model: independent outputs, one per objective.
        front: values of the feasible points, shape [f, m]; f may be 0.
        reference: the reference point, shape [m].
        baseline: inputs of the feasible points, shape [f, p].
        seed: seed of the scalarization and of the samples, where there are any.
    """
    m = len(reference)
    if m == 1:
        best = front.max() if len(front) else reference[0]
        return _without_gradients(LogExpectedImprovement(model, best_f=best.clamp_min(reference[0])))
    if m > _MAX_ANALYTIC and len(baseline):
        return _without_gradients(_parego(model, baseline, m, seed))
    better = front[(front > reference).all(dim=-1)]
    boxes = FastNondominatedPartitioning(reference, Y=better)
    # The annotation names one of two classes with the same interface; this one has fewer boxes.
    exact = ExpectedHypervolumeImprovement(model, reference.tolist(), cast(NondominatedPartitioning, boxes))
    step = max(1, _CHUNK // (boxes.get_hypercell_bounds().shape[-2] * 2**m))
    return _without_gradients(lambda X: torch.cat([exact(part) for part in X.split(step)]).clamp_min(0).log())


def log_noisy_improvement(
    model: Model, baseline: Tensor, reference: Tensor, pending: Tensor | None, seed: int
) -> LogAcquisition:
    """Return qLogNEHVI, which averages over the fronts that the noisy observations allow.

    Daulton, Balandat and Bakshy (2021), "Parallel Bayesian optimization of multiple noisy objectives with expected
    hypervolume improvement".

    Args:
        model: independent outputs, one per objective.
        baseline: inputs of the points that may be on the front, shape [f, p], f >= 1.
        reference: the reference point, shape [m].
        pending: inputs of running trials, shape [r, p], or None.
        seed: seed of the samples.
    """
    without_compiler()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", BotorchWarning)
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model,
            reference,
            baseline,
            sampler=_samples(model, baseline, seed),
            X_pending=pending,
            prune_baseline=False,
            cache_root=False,
        )
    return _without_gradients(acquisition)


def log_probability_within(mean: Tensor, std: Tensor, low: float | None, high: float | None) -> Tensor:
    """Return log P(low <= Y <= high) for Y ~ N(mean, std^2).

    Args:
        mean: means, shape [c].
        std: standard deviations, shape [c], above 0.
        low: lower bound, or None for no bound.
        high: upper bound, or None for no bound.
    """
    above = torch.zeros_like(mean) if low is None else torch.special.log_ndtr((mean - low) / std)
    below = torch.zeros_like(mean) if high is None else torch.special.log_ndtr((high - mean) / std)
    if low is None or high is None:
        return above + below
    inside = torch.special.ndtr((high - mean) / std) - torch.special.ndtr((low - mean) / std)
    return inside.clamp_min(0.0).log()


def known_output(index: int) -> GenericDeterministicModel:
    """Return the model of a known objective, which is a column of the inputs."""
    return GenericDeterministicModel(lambda inputs: inputs[..., index : index + 1], num_outputs=1)


def _parego(model: Model, baseline: Tensor, m: int, seed: int) -> Callable[[Tensor], Tensor]:
    without_compiler()
    generator = torch.Generator().manual_seed(seed)
    # Uniform on the simplex: normalized exponential variables.
    weights = -torch.rand(m, generator=generator, dtype=torch.double).log()
    return qLogNParEGO(
        model,
        baseline,
        scalarization_weights=weights / weights.sum(),
        sampler=_samples(model, baseline, seed),
        prune_baseline=False,
        cache_root=False,
    )


def _samples(model: Model, inputs: Tensor, seed: int) -> MCSampler:
    """Return the sampler of joint posteriors: quasi-random normal variables per uncertain objective."""
    with torch.no_grad():
        posterior = model.posterior(inputs[:1])
    # The annotation leaves out lists of posteriors, for which a list of samplers is registered.
    return get_sampler(cast(TorchPosterior, posterior), torch.Size([_SAMPLES]), seed=seed)


def _without_gradients(acquisition: Callable[[Tensor], Tensor]) -> LogAcquisition:
    def evaluate(X: Tensor) -> Tensor:
        with torch.no_grad():
            return acquisition(X)

    return evaluate
