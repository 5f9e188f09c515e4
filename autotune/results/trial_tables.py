"""The results of a search as tables: what the figures need, whatever the trials are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.objectives import Objective, unit_losses
from autotune.pareto import hypervolume
from autotune.results.confirmation_runs import ExampleScores
from autotune.results.estimates import confirmed_values, first_trials, pooled, with_pooled
from search_spaces.parameters.types import Configuration
from trials.kinds.kind import Metric
from trials.tasks.metrics import metric_of

TRAINED_HEAD = "trained head"
"""The name of the one baseline that takes training: the best head on the frozen base model."""


class TrialTables(ABC):
    """The trials of a search, of a sweep or of `autotune.optimize`.

    Args:
        trials: one row per trial; see `SweepTables`.
        curves: one row per point of a validation curve: `trial`, `step`, `samples`, `metric.NAME`.
        confirmations: one row per complete confirmation run; empty where there is no confirmation.
        example_scores: of confirmation runs, by run and metric.
        baselines: the metric of what needs no adapter, by name.
        curve_axis: what `samples` of the curves counts, in words.
    """

    trials: pd.DataFrame
    curves: pd.DataFrame
    confirmations: pd.DataFrame
    example_scores: ExampleScores
    baselines: Mapping[str, float]
    curve_axis: str = "Training examples seen"

    @property
    @abstractmethod
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives of the search."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """The name of the metric that the baselines belong to."""

    def metric_of(self, name: str) -> Metric:
        """Return the direction and the bounds of a score."""
        return metric_of(name)

    @property
    def search_seconds(self) -> float:
        """Wall time of the search until its last trial ended, over all its sessions."""
        return float(self.trials["elapsed"].fillna(0.0).max()) if len(self.trials) else 0.0

    @property
    def front(self) -> pd.DataFrame:
        """The rows of `trials` on the front, by the second objective, ascending.

        Every objective is the mean over the complete trials of the same configuration. With one objective the front
        is the best trial.
        """
        rows = with_pooled(self.objectives, self.trials[self.trials["on_front"]])
        return rows.sort_values(self.objectives[:2][-1].name)

    @property
    def has_single_objective(self) -> bool:
        """Whether there is one objective, so that the front is one trial: the best."""
        return len(self.objectives) == 1

    @property
    def search_front(self) -> pd.DataFrame:
        """The rows of `trials` on the front of the search, before any confirmation, in the same order."""
        rows = with_pooled(self.objectives, self.trials[self.trials["on_search_front"]])
        return rows.sort_values(self.objectives[:2][-1].name)

    @property
    def hypervolume(self) -> float:
        """Share of the box between ideal and reference that the reported front dominates, in [0, 1].

        The points have the values by which they are on the front; see `estimates.confirmed_values`.
        """
        values, _ = confirmed_values(self.objectives, self.trials, self.confirmations)
        is_on_front = self.trials["on_front"].to_numpy(dtype=bool)
        # The feasible trials are the range of an objective without bounds.
        rows = is_on_front | self.trials["feasible"].to_numpy(dtype=bool)
        return share_dominated(self.objectives, values[rows], is_on_front[rows])

    @property
    def search_hypervolume(self) -> float:
        """Share of the box that the values of the feasible trials in the search dominate, in [0, 1].

        It is biased upward if the scores are noisy: the best of many noisy scores is too good.
        """
        return share_dominated(self.objectives, self.values(self.trials[self.trials["feasible"]]))

    @property
    def first_trials(self) -> dict[int, int]:
        """By trial, the first one of its configuration, which the confirmation runs belong to."""
        return first_trials(self.objectives, self.trials)

    def values(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Return the objectives of rows of `trials`, means over the same configuration, shape [n, objectives]."""
        return np.column_stack([pooled(objective.name, rows) for objective in self.objectives])

    def losses(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Return the loss coordinates of rows of `trials`, shape [n, objectives]; lower is better."""
        return np.column_stack([objective.loss(rows[objective.name]) for objective in self.objectives])

    def config(self, trial: int) -> Configuration:
        """Return the configuration of a trial."""
        row = self.trials.set_index("trial").loc[trial]
        return dict(row["config"])


def share_dominated(
    objectives: Sequence[Objective],
    values: NDArray[np.float64],
    is_point: NDArray[np.bool_] | None = None,
) -> float:
    """Return the normalized hypervolume of some points.

    Args:
        objectives: the m objectives; one without bounds has the range of `values` as its box.
        values: observed values, shape [n, m]; rows with NaN are ignored.
        is_point: which rows are the points, shape [n]; all by default.
    """
    is_known = np.isfinite(values).all(axis=1)
    if not is_known.any():
        return 0.0
    points = unit_losses(objectives, values[is_known])
    return hypervolume(points if is_point is None else points[is_point[is_known]], np.ones(len(objectives)))
