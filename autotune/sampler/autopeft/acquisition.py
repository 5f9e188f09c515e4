"""Noisy expected improvement, of the hypervolume or of one objective, averaged over the members of a mixture.

Daulton, Balandat and Bakshy (2021), "Parallel Bayesian optimization of multiple noisy objectives with expected
hypervolume improvement": the front is that of samples of the noiseless objectives at the finished trials, and pending
configurations are sampled jointly with the candidate. Objectives are maximized here, as in BoTorch.

Shapes: c candidates, p input columns, m objectives.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.monte_carlo import qNoisyExpectedImprovement
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.monte_carlo import qNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.utils import prune_inferior_points_multi_objective
from botorch.acquisition.utils import prune_inferior_points
from botorch.exceptions.warnings import BotorchWarning
from botorch.models.model import Model
from botorch.posteriors.torch import TorchPosterior
from botorch.sampling.get_sampler import get_sampler
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor

from autotune.sampler.pareto.acquisition import LogAcquisition
from surrogates.gaussian_processes.botorch_setup import without_compiler

_SAMPLES = 32
"""Samples per member of the mixture."""
_PRUNING_SAMPLES = 256


def mixture_improvement(
    models: Sequence[Model],
    baseline: Tensor,
    reference: Tensor,
    pending: Tensor | None,
    *,
    seed: int,
    is_smooth: bool = False,
) -> LogAcquisition:
    """Return the logarithm of the improvement, the mean over the members; -inf where no sample improves.

    Args:
        models: the members; each has independent outputs, one per objective.
        baseline: inputs of the trials that may be on the front, shape [f, p], f >= 1.
        reference: the reference point, shape [m].
        pending: inputs of pending configurations, shape [r, p], or None.
        seed: seed of the samples.
        is_smooth: whether to use qLogNEHVI, which is finite everywhere, and several times slower.
    """
    each = [_noisy_improvement(model, baseline, reference, pending, seed, is_smooth) for model in models]

    def evaluate(inputs: Tensor) -> Tensor:
        with _without_warnings(), torch.no_grad():
            values = torch.stack([improvement(inputs) for improvement in each])
        logarithms = values if is_smooth else values.clamp_min(0.0).log()
        return torch.logsumexp(logarithms, dim=0) - math.log(len(each))

    return evaluate


def possible_front(model: Model, inputs: Tensor, reference: Tensor, seed: int) -> Tensor:
    """Return the inputs that are on the front in at least one sample of the objectives, shape [f, p]; f may be 0.

    Args:
        model: one output per objective.
        inputs: of the feasible trials, shape [n, p].
        reference: the reference point, shape [m]; samples beyond it are not on the front.
        seed: seed of the samples.
    """
    # The samples come from the global generator.
    with _without_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if len(reference) == 1:
            return prune_inferior_points(model, inputs, num_samples=_PRUNING_SAMPLES)
        return prune_inferior_points_multi_objective(model, inputs, reference, num_samples=_PRUNING_SAMPLES)


def _noisy_improvement(
    model: Model, baseline: Tensor, reference: Tensor, pending: Tensor | None, seed: int, is_smooth: bool
) -> Callable[[Tensor], Tensor]:
    """Return BoTorch's qNEHVI, or qNEI for one objective; with `is_smooth` qLogNEHVI or qLogNEI, in logarithms."""
    without_compiler()
    with _without_warnings(), torch.no_grad():
        # The annotation leaves out lists of posteriors, for which a list of samplers is registered.
        posterior = cast(TorchPosterior, model.posterior(baseline[:1]))
        sampler = get_sampler(posterior, torch.Size([_SAMPLES]), seed=seed)
        options: dict[str, Any] = {
            "sampler": sampler,
            "X_pending": pending,
            "prune_baseline": False,
            "cache_root": False,
        }
        improvement: Callable[[Tensor], Tensor]
        if len(reference) == 1:
            single = qLogNoisyExpectedImprovement if is_smooth else qNoisyExpectedImprovement
            improvement = single(model, baseline, **options)
        else:
            several = (
                qLogNoisyExpectedHypervolumeImprovement if is_smooth else qNoisyExpectedHypervolumeImprovement
            )
            improvement = several(model, reference, baseline, **options)
    return improvement


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore the warnings about covariances between observations, which are factorized with jitter."""
    with warnings.catch_warnings():
        for category in (BotorchWarning, NumericalWarning):
            warnings.simplefilter("ignore", category)
        yield
