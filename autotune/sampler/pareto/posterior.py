"""The posterior of the objectives: one surrogate per uncertain objective, and the front of the posterior means.

Shapes: n finished trials, r running trials, f failed trials, c candidates, d encoded dimensions, p features,
m objectives, k constraints. Arrays named `outcomes` have m + k columns, minimized, as in `objectives.py`. Models see
standardized outcomes, as the tolerances of BoTorch and GPyTorch are absolute, and negated ones, as BoTorch maximizes.

Known objectives are inputs of the surrogates, too: quality depends on the number of trained parameters and on the
FLOPs more smoothly than on the parameters that they follow from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from botorch.models import ModelList
from botorch.models.model import Model
from numpy.typing import NDArray
from torch import Tensor

from autotune.pareto import non_dominated
from autotune.sampler.objectives import StudyObjectives
from autotune.sampler.pareto.acquisition import (
    LogAcquisition,
    known_output,
    log_improvement,
    log_noisy_improvement,
    log_probability_within,
)
from autotune.sampler.pareto.source_surrogates import SourceData, source_process
from autotune.sampler.pareto.surrogates import Data, Surrogate, SurrogateFits
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.feasibility import Feasibility
from surrogates.gaussian_processes.gaussian_process import GaussianProcess
from surrogates.gaussian_processes.observations import WithinGroups

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """The trials of a study in the form that surrogates are fitted to.

    Args:
        X: encoded configurations of the finished trials, shape [n, d], n >= 1.
        outcomes: their outcomes, shape [n, m + k], finite.
        extra_noise: variances that are added to the noise of a surrogate, shape [n, m + k], in squared units of
            `outcomes`, as for trials that did not train to the end.
        replicates: number of runs that each row is the mean of, shape [n].
        squares: sums of squared deviations of these runs from their mean, shape [n, m + k].
        X_pending: encoded configurations of the running trials, shape [r, d].
        known_pending: known objectives of the running trials, shape [r, m + k], NaN in the other columns.
        X_failed: encoded configurations that failed through their own fault, shape [f, d].
        known_failed: known objectives of these, shape [f, m + k].
        sources: the trials of earlier studies.
    """

    X: Array
    outcomes: Array
    extra_noise: Array
    replicates: Array
    squares: Array
    X_pending: Array
    known_pending: Array
    X_failed: Array
    known_failed: Array
    sources: Sequence[SourceData] = ()


class Posterior:
    """Surrogates of the uncertain objectives and constraints, conditioned on a study, and the front to improve.

    The surrogates are conditioned on their own posterior mean at the running trials (kriging believer), so that the
    next proposal lies elsewhere.

    Args:
        objectives: the m objectives.
        counts: number of choices of each encoded column, shape [d], 0 where ordered.
        data: the trials.
        fits: fits the surrogates; by default the one that `SurrogateFits` chooses.
    """

    def __init__(
        self,
        objectives: StudyObjectives,
        counts: NDArray[np.int_],
        data: StudyData,
        fits: SurrogateFits | None = None,
    ) -> None:
        self._objectives, m = objectives, len(objectives)
        # The inputs of a source's process must not change with each trial of this study, or it would be fitted again.
        scaled = np.concatenate([each.outcomes for each in data.sources] or [data.outcomes])
        self._inputs = _CostInputs(objectives, scaled)
        self._embedding = Embedding(counts, linear=self._inputs.count)
        X, X_pending = self._inputs(data.X, data.outcomes), self._inputs(data.X_pending, data.known_pending)
        outcomes = data.outcomes.copy()
        front = non_dominated(outcomes[:, :m])
        for j in set(range(outcomes.shape[1])) - set(objectives.known):
            outcomes[:, j] = _without_outliers(outcomes[:, j], front)
        self.is_clipped = outcomes != data.outcomes
        self._center, self._scale = _scaling(outcomes)
        fits = fits or SurrogateFits()
        self._before_pending = {
            j: fits.fit(
                j,
                Data(
                    X=X,
                    y=self._maximized(outcomes)[:, j],
                    embedding=self._embedding,
                    extra_noise=data.extra_noise[:, j] / self._scale[j] ** 2,
                    replicates=data.replicates,
                    within=self._within(data, j),
                    sources=self._source_processes(data.sources, j),
                ),
            )
            for j in range(outcomes.shape[1])
            if j not in objectives.known
        }
        self.processes = {j: each.condition_on(X_pending) for j, each in self._before_pending.items()}
        labels = np.arange(len(X) + len(data.X_failed)) < len(X)
        X_failed = self._inputs(data.X_failed, data.known_failed)
        self.feasibility = Feasibility.fit(np.concatenate([X, X_failed]), labels, self._embedding)

        # The front to improve consists of known values where known, and of posterior means elsewhere.
        self.rows = np.concatenate([data.X, data.X_pending])
        known = np.concatenate([outcomes, data.known_pending])
        self.plug_in_values, self.std = self.predict(self.rows, known)
        feasible = objectives.feasible(self.plug_in_values)
        self.plug_in_values = self.plug_in_values[:, :m]
        self.reference = objectives.reference(outcomes[:, :m], self.plug_in_values[feasible])
        self.front = np.flatnonzero(feasible)[non_dominated(self.plug_in_values[feasible])]
        self.front_rows = self.rows[self.front] if len(self.front) else self.rows
        self.finished = len(data.X)
        names = {name for trust in fits.trust.values() for name, w in trust.weights.items() if w > 0}
        trusted = [source.X[source.is_front] for source in data.sources if source.name in names]
        self.source_front_rows = np.concatenate([data.X[:0], *trusted])
        self.agrees_with_source = any(trust.agrees for trust in fits.trust.values())
        self._tensors = self.tensor(self.rows, known)
        self.is_feasible = feasible

    def _within(self, data: StudyData, j: int) -> WithinGroups:
        """Return the squared deviations of repeats, standardized.

        Rows that are clipped or carry extra noise are left out: their runs deviate for other reasons than the noise.
        """
        is_plain = ~self.is_clipped[:, j] & (data.extra_noise[:, j] == 0)
        squares = float(data.squares[is_plain, j].sum() / self._scale[j] ** 2)
        return WithinGroups(squares, float((data.replicates[is_plain] - 1.0).sum()))

    def _source_processes(self, sources: Sequence[SourceData], j: int) -> dict[str, GaussianProcess]:
        """Return the processes of one outcome by the names of their sources, of the sources that have the outcome."""
        found = {}
        for source in sources:
            inputs = self._inputs(source.X, source.outcomes)
            clipped = -_without_outliers(source.outcomes[:, j], source.is_front)
            process = source_process(inputs, clipped, source.is_front, self._embedding)
            if process is not None:
                found[source.name] = process
        return found

    @property
    def is_uncertain(self) -> bool:
        """Whether an objective has a surrogate and a finished trial satisfies every limit."""
        return bool(self._before_pending) and bool(self.is_feasible[: self.finished].any())

    @property
    def scale(self) -> Array:
        """Standard deviation of each outcome over the finished trials, the unit of the surrogates, shape [m + k]."""
        return self._scale

    def noise_variance(self, j: int) -> float:
        """Return the variance of the noise of one run that the surrogate of an outcome has fitted."""
        return float(self._before_pending[j].noise_variance * self._scale[j] ** 2)

    def log_acquisition(self, seed: int) -> LogAcquisition:
        """Return the acquisition function: improvement times the probability of feasibility, in logarithms.

        The latter is the probability that the trial succeeds and satisfies the limits of uncertain objectives
        (Gardner et al. 2014, "Bayesian optimization with inequality constraints").

        Args:
            seed: seed of what is random for four objectives.
        """
        improvement = log_improvement(
            self._model(self.processes),
            torch.as_tensor(self._maximized(self.plug_in_values[self.is_feasible])),
            torch.as_tensor(self._maximized(self.reference)),
            self._tensors[self.is_feasible],
            seed,
        )
        return lambda inputs: improvement(inputs) + self._log_feasibility(inputs)

    def log_noisy_acquisition(self, seed: int, size: int) -> LogAcquisition:
        """Return the acquisition function that averages over the fronts that the noise allows.

        Args:
            seed: seed of the samples.
            size: maximum number of finished trials that may be on the front; the most optimistic ones are taken.
        """
        finished = np.flatnonzero(self.is_feasible[: self.finished])
        baseline = finished[self._contenders(finished, size)]
        pending = self._tensors[self.finished :]
        improvement = log_noisy_improvement(
            self._model(self._before_pending),
            self._tensors[baseline],
            torch.as_tensor(self._maximized(self.reference)),
            pending if len(pending) else None,
            seed,
        )
        return lambda inputs: improvement(inputs) + self._log_feasibility(inputs)

    def log_uncertainty(self, inputs: Tensor) -> Tensor:
        """Return the sum of the relative standard deviations times the probability of feasibility, in logarithms.

        It replaces the acquisition function where every expected improvement is 0 in double precision.
        """
        total = torch.zeros(len(inputs), dtype=torch.double)
        for process in self.processes.values():
            total += process.moments(inputs[:, 0])[1]
        return total.log() + self._log_feasibility(inputs)

    def tensor(self, X: Array, known: Array) -> Tensor:
        """Return the inputs of the models: features, then the known objectives, maximized; shape [c, p'].

        Args:
            X: encoded candidates, shape [c, d].
            known: their known objectives, shape [c, m + k].
        """
        features = self._embedding.features(self._inputs(X, known))
        columns = self._maximized(known)[:, sorted(self._objectives.known)]
        return torch.as_tensor(np.column_stack([features, columns]), dtype=torch.double)

    def predict(self, X: Array, known: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of each outcome, minimized, shapes [c, m + k]; see `tensor`."""
        mean, std = known.copy(), np.zeros_like(known)
        inputs = self._inputs(X, known)
        for j, process in self.processes.items():
            maximized, deviation = process.predict(inputs)
            mean[:, j] = self._center[j] - self._scale[j] * maximized
            std[:, j] = self._scale[j] * deviation
        return mean, std

    def _maximized(self, values: Array) -> Array:
        """Return outcomes, or the objectives among them, standardized and negated: what the models predict."""
        columns = values.shape[-1]
        return (self._center[:columns] - values) / self._scale[:columns]

    def _contenders(self, rows: NDArray[np.int_], size: int) -> NDArray[np.int_]:
        """Return which of the rows are non-dominated for a front one standard deviation better, at most `size`."""
        m = len(self._objectives)
        optimistic = self.plug_in_values[rows] - self.std[rows, :m]
        chosen: list[int] = []
        left = np.arange(len(rows))
        while len(chosen) < size and len(left):
            layer = non_dominated(optimistic[left])
            chosen += left[layer].tolist()
            left = left[~layer]
            if len(chosen) >= size // 2:
                break
        return np.array(chosen[:size], dtype=int)

    def _model(self, processes: Mapping[int, Surrogate]) -> Model:
        """Return the objectives as one BoTorch model; a known one is a column of the inputs."""
        models: list[Model] = []
        known = sorted(self._objectives.known)
        features = len(self._embedding.columns)
        for j in range(len(self._objectives)):
            if j in processes:
                models.append(processes[j])
            else:
                models.append(known_output(features + known.index(j)))
        return ModelList(*models)

    def _log_feasibility(self, inputs: Tensor) -> Tensor:
        features = inputs[:, 0, : len(self._embedding.columns)]
        total = self.feasibility.log_probability(features)
        for j, process in self.processes.items():
            low, high = self._objectives.bounds(j)
            if low is None and high is None:
                continue
            maximized, deviation = process.moments(inputs[:, 0])
            mean, std = self._center[j] - self._scale[j] * maximized, self._scale[j] * deviation
            total = total + log_probability_within(mean, std, low, high)
        return total


class _CostInputs:
    """Known objectives as further columns of encoded rows, scaled to [0, 1] over the finished trials.

    A positive objective that spans more than a factor of ten is scaled by its logarithm.
    """

    _WIDE = 10.0

    def __init__(self, objectives: StudyObjectives, outcomes: Array) -> None:
        self._scales: list[tuple[int, bool, float, float]] = []
        for j in sorted(objectives.known):
            values = outcomes[:, j]
            low, high = float(values.min()), float(values.max())
            is_log = low > 0 and high > self._WIDE * low
            if is_log:
                low, high = float(np.log(low)), float(np.log(high))
            if high > low and len(objectives.known) < len(objectives):
                self._scales.append((j, is_log, low, high))

    @property
    def count(self) -> int:
        """The number of columns that are appended."""
        return len(self._scales)

    def __call__(self, X: Array, known: Array) -> Array:
        """Return X [c, d] with the scaled known objectives of `known` [c, m + k] after its columns."""
        columns = []
        for j, is_log, low, high in self._scales:
            values = np.log(np.maximum(known[:, j], 1e-300)) if is_log else known[:, j]
            columns.append((values - low) / (high - low))
        return np.column_stack([X, *columns])


def _scaling(outcomes: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of each column; the scale is 1 where values agree to rounding."""
    center, scale = outcomes.mean(axis=0), outcomes.std(axis=0)
    return center, np.where(scale > 1e-12 * np.maximum(1.0, np.abs(center)), scale, 1.0)


def _without_outliers(values: Array, front: Mask) -> Array:
    """Clip bad outliers, such as diverged runs, to Tukey's fence, so that they do not set the surrogate's scale.

    Points of the observed front are not clipped: the cheap end of a front may have much worse quality than the
    rest. Missing values stay missing.
    """
    if np.isnan(values).all():
        return values
    low, high = np.nanquantile(values, [0.25, 0.75])
    if high <= low:
        return values
    return np.minimum(values, np.nanmax([high + 1.5 * (high - low), *values[front]]))
