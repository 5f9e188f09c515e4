"""The result of `autotune.optimize` as the tables that figures and reports take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial

from autotune.blackbox.objectives import Objective
from autotune.ladder.promotion import CandidateStatus
from autotune.objectives import Objective as TableObjective
from autotune.results.confirmation_runs import ExampleScores, empty_confirmations
from autotune.results.estimates import feasible_rows, pool_repeats, search_front
from autotune.results.trial_tables import TrialTables
from autotune.trial_attributes import RungValues, TrialAttributes
from search_spaces.costs.cost_model import KNOWN_COSTS, CostModel

STATUS = {
    CandidateStatus.COMPLETE: "complete",
    CandidateStatus.WAITING: "paused",
    CandidateStatus.RUNNING: "running",
    CandidateStatus.STOPPED: "stopped",
    CandidateStatus.FAILED: "failed",
}
"""The status of a trial in tables, as for sweeps, by that of its candidate."""


@dataclass(frozen=True)
class OptimizeTables(TrialTables):
    """The trials of one search.

    Args:
        trials: one row per trial, with the columns of `SweepTables.trials` that a black box has: `trial`, `status`,
            `started`, `finished`, `elapsed`, `seconds`, `error`, `share` (of the fidelity of the top), `config`,
            `feasible`, `on_front`, one column per objective, `param.NAME`, `metric.NAME` for every number that the
            evaluation returned, and `cost.NAME` where a model is known.
        curves: one row per point: `trial`, `step` and `samples` (both the fidelity), `metric.NAME`.
    """

    shown: tuple[TableObjective, ...]
    trials: pd.DataFrame
    curves: pd.DataFrame
    curve_axis: str = "Fidelity"
    baselines: Mapping[str, float] = field(default_factory=dict)
    confirmations: pd.DataFrame = field(default_factory=empty_confirmations)
    example_scores: ExampleScores = field(default_factory=dict)

    @property
    def objectives(self) -> tuple[TableObjective, ...]:
        return self.shown

    @property
    def metric(self) -> str:
        return self.shown[0].name


def read_optimize_tables(
    trials: Sequence[FrozenTrial],
    statuses: Mapping[int, CandidateStatus],
    objectives: Sequence[Objective],
    top: float,
    costs: CostModel | None = None,
) -> OptimizeTables:
    """Return the tables of a study.

    Args:
        trials: of the study.
        statuses: of the trials that were evaluated.
        objectives: of the search.
        top: the highest fidelity.
        costs: of the model; None where none is known.
    """
    shown = tuple(objective.in_tables() for objective in objectives)
    evaluated = [trial for trial in trials if trial.number in statuses]
    began = min((t.datetime_start for t in evaluated if t.datetime_start is not None), default=None)
    rows = [_row(trial, statuses[trial.number], shown, top, began, costs) for trial in evaluated]
    names = [objective.name for objective in shown]
    columns = ["trial", "status", "elapsed", "error", "share", "config", *names]
    table = pd.DataFrame(rows, columns=None if rows else columns)
    means, table["runs"] = pool_repeats(list(table["config"]), table[names].to_numpy(dtype=float))
    if (table["runs"] > 1).any():
        table[[f"pooled.{name}" for name in names]] = means
    table["feasible"] = feasible_rows(shown, means)
    table["on_search_front"] = table["on_front"] = search_front(shown, table)
    return OptimizeTables(shown, table, _curves(evaluated, objectives))


def _row(
    trial: FrozenTrial,
    status: CandidateStatus,
    objectives: Sequence[TableObjective],
    top: float,
    began: Any,
    costs: CostModel | None,
) -> dict[str, Any]:
    attributes = TrialAttributes(trial)
    records = attributes.rung_values
    is_complete = status == CandidateStatus.COMPLETE
    values = list(records[-1].values) if is_complete else [np.nan] * len(objectives)
    ended = trial.datetime_complete
    known = {} if costs is None or "family" not in trial.params else costs(trial.params)._asdict()
    kept = {name: float(known[name]) for name in (*KNOWN_COSTS, "head_params") if name in known}
    if costs is not None and costs.workload.train_samples == 1:  # no lengths: FLOPs are unknown
        kept = {name: value for name, value in kept.items() if not name.endswith("flops")}
    return {
        "trial": trial.number,
        "status": STATUS[status],
        "started": trial.datetime_start,
        "finished": ended,
        "elapsed": np.nan if ended is None or began is None else (ended - began).total_seconds(),
        "seconds": np.nan if trial.duration is None else trial.duration.total_seconds(),
        "error": attributes.error,
        "share": max((record.fidelity for record in records), default=0.0) / top,
        "config": dict(trial.params),
        **{objective.name: value for objective, value in zip(objectives, values, strict=True)},
        **{f"param.{name}": value for name, value in trial.params.items()},
        **({f"metric.{n}": v for n, v in records[-1].metrics.items()} if is_complete else {}),
        **{f"cost.{name}": value for name, value in kept.items()},
    }


def _curves(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> pd.DataFrame:
    rows = [
        {"trial": trial.number, "step": fidelity, "samples": fidelity, **metrics}
        for trial in trials
        for fidelity, metrics in _points(TrialAttributes(trial).rung_values, objectives).items()
    ]
    return pd.DataFrame(rows, columns=None if rows else ["trial", "step", "samples"])


def _points(records: Sequence[RungValues], objectives: Sequence[Objective]) -> dict[float, dict[str, float]]:
    """Return the values of the objectives that are not known by fidelity."""
    points: dict[float, dict[str, float]] = {}
    for record in records:
        for objective, curve in zip(objectives, record.curves, strict=True):
            if objective.known is None:
                for fidelity, value in curve:
                    points.setdefault(float(fidelity), {})[f"metric.{objective.name}"] = value
    return dict(sorted(points.items()))
