"""Baselines that a law must improve on: the slope of the last three points, and the last value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogates.laws.functional_forms import Array, log_budget

SLOPE, LAST = "last three points' slope", "last value"


@dataclass(frozen=True)
class Baseline:
    """A baseline in log-log coordinates over the budget, the product of the scales (N·D for params and tokens).

    Args:
        name: `SLOPE` or `LAST`.
        log_budget: log budgets of the points, ascending, shape [n].
        log_loss: log losses of the points, shape [n].
    """

    name: str
    log_budget: Array
    log_loss: Array

    @classmethod
    def of(cls, name: str, X: Array, loss: Array) -> Baseline:
        """Build a baseline from points X [n, d] and losses [n].

        Raises:
            ValueError: The slope baseline has fewer than three points.
        """
        if name == SLOPE and len(loss) < 3:
            raise ValueError(f"loss: {len(loss)} points; the slope of the last three needs three")
        budget = log_budget(X)
        order = np.argsort(budget, kind="stable")
        return cls(name, budget[order], np.log(np.asarray(loss, dtype=float))[order])

    def predict(self, X: Array) -> Array:
        """Predict the losses [m] at X [m, d]."""
        ahead = log_budget(X)
        if self.name == LAST:
            return np.full(len(ahead), np.exp(self.log_loss[-1]))
        u, y = self.log_budget[-3:], self.log_loss[-3:]
        away = u - u.mean()
        spread = float(away @ away)
        slope = float(away @ y) / spread if spread > 1e-12 else 0.0
        return np.exp(y.mean() + slope * (ahead - u.mean()))
