"""What a sweep optimises: a name, a direction, a scale, and the box in which hypervolume is measured.

An objective is turned into a *loss coordinate* for everything geometric (front, hypervolume, knee): negated
where it is maximised, after a logarithm where its scale is `log`. Lower is better in loss coordinates.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from trials.metrics import METRICS, Direction, metric_direction

KNOWN_COSTS = ("trainable_params", "stored_bytes", "train_flops", "inference_flops")
"""Costs that follow from the configuration and the model's shape; never modelled."""
MEASURED_COSTS = ("train_seconds", "peak_memory")
"""Costs that only a run can tell."""
OBJECTIVE_NAMES = (*METRICS, "eval_loss", *KNOWN_COSTS, *MEASURED_COSTS)


class Objective(BaseModel):
    """One objective of a sweep.

    Args:
        name: a metric of the task, `eval_loss`, or a cost.
        direction: which way is better; follows from the name.
        scale: `log` for costs that span orders of magnitude; follows from the name.
        max, min: hard limits: a configuration outside them is never on the front, and one whose known cost
            is outside is never run. `"0.5%"` of the base's parameters is allowed for trainable_params.
        reference: the worst value that counts; hypervolume is measured from there.
        ideal: the best value that counts, for normalising; both are filled in when a sweep starts.
        floor: on a log scale, values below count as this (an adapter of no parameters has no logarithm).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    direction: Direction
    scale: Literal["linear", "log"] = "linear"
    max: float | str | None = None
    min: float | str | None = None
    reference: float | None = None
    ideal: float | None = None
    floor: float | None = None

    @property
    def known(self) -> bool:
        """Whether the value follows from the configuration alone."""
        return self.name in KNOWN_COSTS

    @property
    def limits(self) -> tuple[float, float]:
        """The hard limits as numbers, infinite where there is none."""
        low, high = (-math.inf if self.min is None else self.min), (math.inf if self.max is None else self.max)
        assert not isinstance(low, str), "percentages are resolved when the sweep starts"
        assert not isinstance(high, str), "percentages are resolved when the sweep starts"
        return low, high

    def feasible(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which of the values keep the hard limits."""
        low, high = self.limits
        values = np.asarray(values, dtype=float)
        return (values >= low) & (values <= high)

    def loss(self, values: ArrayLike) -> NDArray[np.float64]:
        """Loss coordinates of values, of the same shape; lower is better."""
        values = np.asarray(values, dtype=float)
        if self.scale == "log":
            values = np.log(np.maximum(values, self.floor or 1.0))
        return -values if self.direction == "maximize" else values


def objective_defaults(name: str) -> dict[str, Any]:
    """The direction and scale that follow from an objective's name."""
    if name in KNOWN_COSTS or name in MEASURED_COSTS:
        return {"direction": "minimize", "scale": "log"}
    return {"direction": metric_direction(name), "scale": "linear"}
