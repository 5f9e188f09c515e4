"""Fitted scaling laws with their evidence and predictions: the results of `autotune law`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surrogates.laws import BowlLaw, Choice, Points
from surrogates.laws.experimental_design import NextRun, next_run, outliers
from surrogates.laws.fitting import LEVEL, FittedLaw
from surrogates.laws.functional_forms import Array
from surrogates.laws.optimal_hyperparameters import Optimum

_AHEAD = 4.0
"""The budget, in multiples of the largest measured one, for which the next run is chosen without a target."""
_HEADER_ROWS = 2
"""The first row of data is row 2 of the file, after the header."""

Interval = tuple[float, float, float]
"""A value, and the low and high ends of its interval."""


@dataclass(frozen=True)
class Outlier:
    """A run that deviates from the law.

    Args:
        row: of the file; the header is row 1.
        deviation: of the loss from the law, relative to the law.
    """

    row: int
    deviation: float


@dataclass(frozen=True)
class LossFit:
    """A law of the loss, chosen by its predictions of held-out budgets."""

    choice: Choice
    points: Points

    @property
    def roles(self) -> tuple[str, ...]:
        """The scales that a prediction needs, in order."""
        return self.points.roles

    @property
    def columns(self) -> dict[str, str]:
        """The table's column of each role."""
        return _columns(self.points)

    @property
    def best(self) -> FittedLaw:
        """The law that predicts held-out budgets best, even if a baseline predicts them better."""
        return self.choice.law or next(iter(self.choice.laws.values()))

    def outliers(self) -> list[Outlier]:
        """Return the runs that deviate most from the law, the farthest first."""
        return [Outlier(row + _HEADER_ROWS, deviation) for row, deviation in outliers(self.best)]

    def next_runs(self, target: Array | None = None) -> list[NextRun]:
        """Return the runs that would reduce the uncertainty at the target most, the best first.

        Args:
            target: one value per scale of `roles`; by default four times the largest budget.
        """
        if target is None:
            step = _AHEAD ** (1.0 / min(len(self.roles), 2))
            target = self.points.X.max(axis=0) * step
        return next_run(self.best, target)

    def predict(self, at: Mapping[str, float], level: float = LEVEL) -> LossPrediction:
        """Predict the loss of a new run.

        Args:
            at: the value of every scale of `roles`.
            level: the probability of the interval.
        """
        target = np.array([[at[role] for role in self.roles]], dtype=float)
        found = self.choice.predict(target, level)
        loss = Range(float(found.value[0]), float(found.low[0]), float(found.high[0]))
        return LossPrediction(self, dict(at), loss, level, self.next_runs(target[0]))

    def as_json(self) -> dict[str, Any]:
        """Return the fit as values that JSON can represent."""
        law = self.choice.law
        return {
            "law": self.choice.chosen,
            "formula": None if law is None else f"L = {law.form.formula}",
            "verdict": self.choice.verdict,
            "columns": self.columns,
            "points": len(self.points.loss),
            "level": LEVEL,
            "coefficients": {} if law is None else _intervals_json(law.table()),
            "huber_sum": None if law is None else law.objective,
            "residual": None if law is None else law.scale,
            "unidentified": [] if law is None else law.unidentified(),
            "held_out": [
                {
                    "name": test.name,
                    "error": test.error if np.isfinite(test.error) else None,
                    "reason": test.why,
                }
                for test in self.choice.held_out
            ],
            "outliers": [{"row": each.row, "deviation": each.deviation} for each in self.outliers()],
            "next_runs": _next_runs_json(self.roles, self.next_runs()),
        }


@dataclass(frozen=True)
class StepFit:
    """A law of the best learning rate and batch size."""

    law: BowlLaw
    points: Points

    @property
    def columns(self) -> dict[str, str]:
        """The table's column of each role."""
        return _columns(self.points)

    def predict(self, at: Mapping[str, float], level: float = LEVEL) -> OptimumPrediction:
        """Predict the best hyperparameters of a new run.

        Args:
            at: the value of every scale of the law.
            level: the probability of the intervals.
        """
        return OptimumPrediction(dict(at), self.law.optimum(at, level=level), level)

    def as_json(self) -> dict[str, Any]:
        """Return the fit as values that JSON can represent."""
        return {
            "law": "step",
            "points": len(self.points.loss),
            "scales": self.law.cells,
            "level": LEVEL,
            "columns": self.columns,
            "optima": {name: _intervals_json(rows) for name, rows in self.law.table().items()},
            "optima_at_grid_edge": dict(zip(self.law.hyperparameters, self.law.edge, strict=True)),
        }


@dataclass(frozen=True)
class Range:
    """A predicted value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LossPrediction:
    """The predicted loss of a new run.

    Args:
        fit: the law that predicts.
        at: the scales of the run.
        loss: the prediction.
        level: the probability of its interval.
        next_runs: the runs that would reduce its uncertainty most, the best first.
    """

    fit: LossFit
    at: dict[str, float]
    loss: Range
    level: float
    next_runs: list[NextRun]

    def as_json(self) -> dict[str, Any]:
        """Return the prediction as values that JSON can represent."""
        return {
            "at": self.at,
            "loss": {"value": self.loss.value, "low": self.loss.low, "high": self.loss.high},
            "level": self.level,
            "law": self.fit.choice.chosen,
            "verdict": self.fit.choice.verdict,
            "next_runs": _next_runs_json(self.fit.roles, self.next_runs[:1]),
        }


@dataclass(frozen=True)
class OptimumPrediction:
    """The predicted best hyperparameters of a new run, with intervals of probability `level`."""

    at: dict[str, float]
    optima: dict[str, Optimum]
    level: float

    def as_json(self) -> dict[str, Any]:
        """Return the prediction as values that JSON can represent."""
        return {
            "at": self.at,
            "level": self.level,
            "law": "step",
            "optima": {
                name: {"value": o.value, "low": o.low, "high": o.high, "plateau": list(o.plateau)}
                for name, o in self.optima.items()
            },
        }


def _columns(points: Points) -> dict[str, str]:
    """Return the table's column of each role."""
    return {"loss": points.loss_column, **dict(zip(points.roles, points.columns, strict=True))}


def _intervals_json(rows: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: {"value": value, "low": low, "high": high} for name, (value, low, high) in rows.items()}


def _next_runs_json(roles: Sequence[str], runs: Sequence[NextRun]) -> list[dict[str, Any]]:
    return [
        {
            "scales": dict(zip(roles, run.scales.values(), strict=True)),
            "uncertainty_before": run.before,
            "uncertainty_after": run.after,
        }
        for run in runs
    ]
