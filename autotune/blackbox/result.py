"""The result of `autotune.optimize`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna

from autotune.blackbox.objectives import Objective
from autotune.blackbox.tables import OptimizeTables, read_optimize_tables
from autotune.ladder.promotion import CandidateStatus, PromotionScheduler
from autotune.ladder.rank_correlation import Trust
from autotune.pareto import non_dominated
from autotune.trial_attributes import TrialAttributes
from search_spaces.costs.cost_model import CostModel
from search_spaces.parameters.types import Configuration

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class OptimizeTrial:
    """One configuration and how far it was trained.

    Args:
        number: of the trial in the study.
        config: the active parameters.
        status: `complete` on the top rung, `waiting` below it, `stopped` if it was pruned, or `failed`.
        fidelity: how far it was trained, 0 where its first evaluation failed.
        rungs: fidelity -> objective values there, in the order of the objectives.
        exploratory: whether it belongs to the random share.
        error: why it failed.
    """

    number: int
    config: Configuration
    status: CandidateStatus
    fidelity: float
    rungs: dict[float, tuple[float, ...]]
    exploratory: bool
    error: str | None = None

    @property
    def values(self) -> tuple[float, ...] | None:
        """The objectives on the top rung, None unless the trial is complete."""
        return self.rungs[self.fidelity] if self.status == CandidateStatus.COMPLETE else None


@dataclass(frozen=True)
class OptimizeResult:
    """The result of a search.

    Args:
        study: the Optuna study. Trials that could still be promoted are in the state RUNNING.
        objectives: of the search.
        trials: every configuration, in order.
        front: the complete trials that no other dominates.
        trust: the rank correlation of each lower rung with the top, and the verdict.
        used: training in all, in the ladder's unit of fidelity, earlier calls included.
    """

    study: optuna.Study
    objectives: tuple[Objective, ...]
    trials: tuple[OptimizeTrial, ...]
    front: tuple[OptimizeTrial, ...]
    trust: Trust
    used: float
    _tables: OptimizeTables = field(repr=False)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per trial: its status, objectives, `param.NAME`, `metric.NAME`, `cost.NAME`, `on_front`."""
        return self._tables.trials.copy()

    @property
    def hypervolume(self) -> float:
        """The share of the box between ideal and reference values that the front dominates, in [0, 1].

        An objective without a reference has the range of the feasible trials as its side of the box.
        """
        return self._tables.hypervolume

    def plot_front(self) -> go.Figure:
        """Plot the trials and their Pareto front in the objectives."""
        from autotune import figures

        return figures.plot_front(self._tables)

    def plot_hypervolume(self) -> go.Figure:
        """Plot the progress of the search: the hypervolume, with one objective its best value."""
        from autotune import figures

        return figures.plot_hypervolume(self._tables)

    def plot_parallel_coordinates(self) -> go.Figure:
        """Plot one line per trial through its parameters and objectives."""
        from autotune import figures

        return figures.plot_parallel_coordinates(self._tables)

    def plot_importance(self) -> go.Figure:
        """Plot the share of each objective's variance that each parameter explains (fANOVA)."""
        from autotune import figures

        return figures.plot_importance(self._tables)

    def plot_curves(self) -> go.Figure:
        """Plot the values of each trial over its fidelity."""
        from autotune import figures

        return figures.plot_curves(self._tables)

    def report(self, path: str | PathLike[str], *, title: str = "autotune.optimize") -> Path:
        """Write the result as one HTML file that needs no network: the front, its points, figures and failures.

        Args:
            path: of the file, which is replaced.
            title: of the page.
        """
        from autotune.blackbox.page import write_optimize_report

        return write_optimize_report(self._tables, Path(path), title, used=self.used, trust=self.trust)

    @property
    def best(self) -> OptimizeTrial:
        """The best trial of a search with one objective.

        Raises:
            ValueError: there are more objectives, or no trial reached the top.
        """
        if len(self.objectives) > 1:
            raise ValueError(f"best: there are {len(self.objectives)} objectives; use `front`")
        if not self.front:
            raise ValueError("best: no trial reached the top rung; raise the budget")
        return self.front[0]

    def __str__(self) -> str:
        states = [trial.status for trial in self.trials]
        counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(sorted(states)))
        found = f"{len(self.trials)} trials ({counts}), {self.used:g} of training used."
        errors = list(dict.fromkeys(trial.error for trial in self.trials if trial.error))
        if errors and not self.front:
            found += f" No trial is on the front; the first that failed: {errors[0]}"
        return f"{found}\n{self.trust}" if self.trust.rungs else found


def read_result(
    study: optuna.Study,
    promotion: PromotionScheduler,
    objectives: Sequence[Objective],
    used: float,
    costs: CostModel | None = None,
) -> OptimizeResult:
    """Return the result of a search that has ended.

    Args:
        study: with every result.
        promotion: the scheduler of the search.
        objectives: of the search.
        used: training in all, in the ladder's unit of fidelity.
        costs: of the model; None where none is known.
    """
    trials: dict[int, OptimizeTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        candidate = promotion.candidates.get(trial.number)
        if candidate is None:
            continue
        attributes = TrialAttributes(trial)
        rungs = {float(record.fidelity): tuple(record.values) for record in attributes.rung_values}
        trials[trial.number] = OptimizeTrial(
            number=trial.number,
            config=dict(trial.params),
            status=candidate.status,
            fidelity=max(rungs, default=0.0),
            rungs=rungs,
            exploratory=candidate.exploratory,
            error=attributes.error,
        )
    statuses = {number: candidate.status for number, candidate in promotion.candidates.items()}
    top = promotion.ladder.max
    tables = read_optimize_tables(study.get_trials(deepcopy=False), statuses, objectives, top, costs)
    is_feasible = dict(zip(tables.trials["trial"], tables.trials["feasible"], strict=True))
    complete = [trial for trial in trials.values() if trial.values is not None and is_feasible[trial.number]]
    losses = [[o.loss(v) for o, v in zip(objectives, t.values or (), strict=True)] for t in complete]
    kept = non_dominated(np.array(losses)) if losses else np.zeros(0, dtype=bool)
    return OptimizeResult(
        study=study,
        objectives=tuple(objectives),
        trials=tuple(trials.values()),
        front=tuple(trial for trial, is_on_front in zip(complete, kept, strict=True) if is_on_front),
        trust=promotion.trust(),
        used=used,
        _tables=tables,
    )
