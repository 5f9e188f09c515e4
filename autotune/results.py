"""A sweep's results as tables, read back from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.objectives import Objective
from autotune.sweep import Sweep


@dataclass(frozen=True)
class SweepResults:
    """Everything the report, the figures and the export need.

    Args:
        folder: the sweep's folder.
        sweep: the resolved sweep; its objectives have references, ideals and floors.
        trials: one row a trial, in order: `trial` (number), `status` (complete, pruned, failed, lost,
            running), `started` and `finished` (timestamps), `seconds`, `seed`, `error`, `feasible`,
            `on_front`, one column an objective under its name (NaN unless complete), `param.NAME` for every
            parameter (missing where inactive), `metric.NAME` for every validation score, `cost.NAME` for
            every known and measured cost, `cost.head_params` among them.
        curves: one row a point of a validation curve: `trial`, `step`, `samples`, `metric.NAME`.
        confirmations: one row a confirmation run: `trial` (whose configuration it repeats), `seed`,
            `seconds`, `metric.NAME` on validation and `test.NAME` on the test split; empty before.
        baselines: what needs no adapter, by name (`majority class`): the metric's value on validation.
    """

    folder: Path
    sweep: Sweep
    trials: pd.DataFrame
    curves: pd.DataFrame
    confirmations: pd.DataFrame
    baselines: dict[str, float]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return tuple(self.sweep.objectives)

    @property
    def front(self) -> pd.DataFrame:
        """The rows of `trials` on the front, by the second objective (the first cost), ascending."""
        rows = self.trials[self.trials["on_front"]]
        return rows.sort_values(self.objectives[1].name)

    def losses(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Loss coordinates of rows of `trials`, shape [n, objectives]; lower is better."""
        return np.column_stack([objective.loss(rows[objective.name]) for objective in self.objectives])
