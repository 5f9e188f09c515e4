"""The models of a batch and its acquisition function.

Shapes: n data, r pending configurations, c candidates, d encoded dimensions, p features, m objectives, k constraints.
Arrays named `outcomes` have m + k columns, minimized; models see the negated outcomes, as BoTorch maximizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from botorch.models import ModelList
from botorch.models.model import Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from numpy.typing import NDArray
from torch import Tensor

from autotune.pareto import non_dominated
from autotune.sampler.autopeft.acquisition import mixture_improvement, possible_front
from autotune.sampler.autopeft.batch import BatchData
from autotune.sampler.autopeft.copula import NormalCopula, OwnUnits, Units
from autotune.sampler.pareto.acquisition import (
    LogAcquisition,
    known_output,
    log_improvement,
    log_probability_within,
)
from autotune.sampler.pareto.strategy import choice_counts
from autotune.sampler.proposal import Candidates, Proposer
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.feasibility import Feasibility
from surrogates.gaussian_processes.gaussian_process import Hyperparameters
from surrogates.gaussian_processes.saas import SaasEnsemble

Array = NDArray[np.float64]
Fit = Callable[..., SaasEnsemble]
"""A function that fits an ensemble, with the arguments of `SaasEnsemble.fit`."""

_MAX_NOISY = 3
"""Largest number of objectives of the noisy expected hypervolume improvement."""


@dataclass(frozen=True)
class ModelSettings:
    """How the models of a batch are built.

    Args:
        fit: fits an ensemble.
        n_startup: number of startup trials, whose outcomes fix the reference point of a study without one.
        copula: whether objectives are modeled as normal quantiles of their ranks.
    """

    fit: Fit
    n_startup: int
    copula: bool


class BatchPosterior:
    """One SAAS ensemble per uncertain outcome, and the front of a batch.

    Args:
        proposer: the study.
        data: the trials as the batch sees them.
        settings: how the models are built.
        hyperparameters: those that an earlier member of the batch has fitted, by the index of the outcome; empty to
            fit them.
    """

    def __init__(
        self, proposer: Proposer, data: BatchData, settings: ModelSettings, hyperparameters: Mapping[str, Any]
    ) -> None:
        self._objectives = objectives = proposer.objectives
        history, space, m = proposer.history, proposer.space, len(objectives)
        self._rows = space.encode([history.configs[i] for i in data.rows])
        minimized = [objectives.minimized(history.values[:, j], j) for j in range(m)]
        outcomes = np.column_stack([*minimized, history.constraints])[data.rows]
        is_feasible = objectives.feasible(outcomes)
        self._units: Units = NormalCopula(outcomes, m) if settings.copula else OwnUnits()
        self._reference = self._fixed_reference(
            outcomes[: settings.n_startup], is_feasible[: settings.n_startup]
        )
        self._embedding = Embedding(choice_counts(space))

        targets = np.column_stack([self._units.convert(outcomes[:, j], j) for j in range(outcomes.shape[1])])
        ratio = targets.std(axis=0) / np.maximum(outcomes.std(axis=0), 1e-12)
        extra = np.column_stack([history.variances, np.zeros_like(history.constraints)])[data.rows] * ratio**2
        self.ensembles: dict[int, SaasEnsemble] = {}
        for j in range(outcomes.shape[1]):
            if j not in objectives.known:
                stored = hyperparameters.get(str(j))
                self.ensembles[j] = self._ensemble(settings.fit, stored, -targets[:, j], extra[:, j])
        labels = np.arange(len(outcomes) + len(history.failed)) < len(outcomes)
        tried = np.concatenate([self._rows, space.encode(history.failed)])
        self._feasibility = Feasibility.fit(tried, labels, self._embedding)

        self._pending_rows = space.encode(data.pending)
        self._pending = self._inputs(self._pending_rows, proposer.known(data.pending))
        self._finished = self._inputs(self._rows, outcomes)
        means = targets[:, :m].copy()
        for j in range(m):
            if j in self.ensembles:
                means[:, j] = -self.ensembles[j].predict(self._rows)[0]
        self._eligible = np.flatnonzero(is_feasible) if is_feasible.any() else np.arange(len(outcomes))
        self._front = self._eligible[non_dominated(means[self._eligible])]
        self._front_values = means[self._front]

    @property
    def front_rows(self) -> Array:
        """The encoded configurations of the front of the posterior means, shape [f, d], f >= 1."""
        return self._rows[self._front]

    @property
    def hyperparameters(self) -> dict[str, list[list[float]]]:
        """The hyperparameters of every member, by the index of the outcome."""
        return {
            str(j): [member.hyperparameters.as_list() for member in ensemble.members]
            for j, ensemble in self.ensembles.items()
        }

    def score(self, seed: int, *, is_smooth: bool = False) -> Callable[[Candidates], Array]:
        """Return the logarithm of the acquisition value of candidates, shape [c].

        It is the noisy expected hypervolume improvement, averaged over the members of the ensembles, times the
        probability of feasibility. Pending configurations are sampled jointly with the candidate. For more than three
        objectives it is the acquisition function of the strategy `pareto`.

        Args:
            seed: seed of the samples.
            is_smooth: whether the score is finite where no sample improves, which takes several times as long.
        """
        improvement = self._improvement(seed, is_smooth)

        def log_value(candidates: Candidates) -> Array:
            inputs = self._inputs(candidates.rows, candidates.known).unsqueeze(1)
            return np.asarray((improvement(inputs) + self._log_feasibility(inputs)).numpy())

        return log_value

    def _fixed_reference(self, outcomes: Array, is_feasible: NDArray[np.bool_]) -> Array:
        objectives = outcomes[:, : len(self._objectives)]
        return self._units.reference(self._objectives.reference(objectives, objectives[is_feasible]))

    def _ensemble(self, fit: Fit, stored: list[list[float]] | None, y: Array, extra: Array) -> SaasEnsemble:
        """Return the ensemble with the stored hyperparameters, or with fitted ones, rounded as stored."""
        width = self._embedding.width
        if stored is None or any(
            len(Hyperparameters.from_list(each).lengthscales) != width for each in stored
        ):
            # Also where trials with other parameters have changed the space that is inferred from them.
            fitted = fit(self._rows, y, self._embedding, extra_noise=extra)
            stored = [member.hyperparameters.as_list() for member in fitted.members]
        hyperparameters = [Hyperparameters.from_list(numbers) for numbers in stored]
        return SaasEnsemble.of(self._rows, y, self._embedding, hyperparameters, extra_noise=extra)

    def _improvement(self, seed: int, is_smooth: bool) -> LogAcquisition:
        m, reference = len(self._objectives), torch.as_tensor(-self._reference)
        if self.ensembles and m <= _MAX_NOISY:
            model = ModelList(*self._outputs(self.ensembles))
            baseline = possible_front(model, self._finished[self._eligible], reference, seed)
            return mixture_improvement(
                [ModelList(*outputs) for outputs in self._outputs_by_member()],
                baseline if len(baseline) else self._finished[self._front],
                reference,
                self._pending if len(self._pending) else None,
                seed=seed,
                is_smooth=is_smooth,
            )
        conditioned = {j: ensemble.condition_on(self._pending_rows) for j, ensemble in self.ensembles.items()}
        model = ModelList(*self._outputs(conditioned))
        front = torch.as_tensor(-self._front_values)
        return log_improvement(model, front, reference, self._finished[self._front], seed)

    def _outputs(self, ensembles: Mapping[int, Model]) -> list[Model]:
        """Return one model per objective; a known one is a column of the inputs."""
        known = sorted(self._objectives.known)
        first = len(self._embedding.columns)
        return [
            ensembles[j] if j in ensembles else known_output(first + known.index(j))
            for j in range(len(self._objectives))
        ]

    def _outputs_by_member(self) -> list[list[Model]]:
        count = max(len(ensemble.members) for ensemble in self.ensembles.values())
        return [
            self._outputs({j: each.members[i % len(each.members)] for j, each in self.ensembles.items()})
            for i in range(count)
        ]

    def _inputs(self, rows: Array, outcomes: Array) -> Tensor:
        """Return the inputs of the models: features, then the known objectives, negated, shape [c, p'].

        Args:
            rows: encoded configurations, shape [c, d].
            outcomes: their outcomes, shape [c, m + k], of which only the known ones are read.
        """
        known = [-self._units.convert(outcomes[:, j], j) for j in sorted(self._objectives.known)]
        return torch.as_tensor(np.column_stack([self._embedding.features(rows), *known]), dtype=torch.double)

    def _log_feasibility(self, inputs: Tensor) -> Tensor:
        total = self._feasibility.log_probability(inputs[:, 0, : len(self._embedding.columns)])
        for j, ensemble in self.ensembles.items():
            bounds = self._objectives.bounds(j)
            if bounds == (None, None):
                continue
            low, high = (None if b is None else float(self._units.convert(np.array(b), j)) for b in bounds)
            with torch.no_grad():
                posterior = cast(GPyTorchPosterior, ensemble.posterior(inputs))
            mean, std = -posterior.mean[:, 0, 0], posterior.variance[:, 0, 0].sqrt()
            total = total + log_probability_within(mean, std, low, high)
        return total
