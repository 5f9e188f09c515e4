"""The objectives of a sweep: name, direction, scale, limits, and the box for hypervolume.

Fronts, hypervolume and knees are computed in *loss coordinates*: the value, after a logarithm if its scale is `log`,
and negated if it is maximized. Lower is better in loss coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from search_spaces.costs.cost_model import KNOWN_COSTS
from trials.kinds.kind import Direction, Metric
from trials.tasks.metrics import METRICS, metric_direction

MEASURED_COSTS = ("train_seconds", "peak_memory")
"""Costs that only a run determines."""
BOUNDS = ("reference", "ideal", "floor")
"""Fields of an objective that are derived when a sweep starts, where its author leaves them open."""
OBJECTIVE_NAMES = (*METRICS, "eval_loss", *KNOWN_COSTS, *MEASURED_COSTS)
"""The names of all objectives."""


class Objective(BaseModel):
    """One objective of a sweep.

    Args:
        name: A metric of the task, `eval_loss`, a score of your own, or a cost.
        direction: Which way is better; it follows from the name, or from the code of your own score.
        scale: `log` for costs that span orders of magnitude; it follows from the name.
        max: Hard upper limit: a configuration beyond it is never on the front, and is not run if its cost is known.
            For `trainable_params` it may be a share of the base model's parameters, such as `0.5%`.
        min: Hard lower limit, likewise.
        reference: Worst value that counts for the hypervolume; by default derived when a sweep starts.
        ideal: Best value that counts for the hypervolume; by default derived when a sweep starts.
        floor: Smallest value on a log scale; smaller ones count as this, since an adapter without parameters has no
            logarithm.
        derived: Which of the bounds were derived when the sweep started; None until then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    direction: Direction = "maximize"
    scale: Literal["linear", "log"] = "linear"
    max: float | str | None = None
    min: float | str | None = None
    reference: float | None = None
    ideal: float | None = None
    floor: float | None = None
    derived: tuple[Literal["reference", "ideal", "floor"], ...] | None = None

    def as_given(self) -> Objective:
        """Return the objective with only the bounds that the sweep's author gave."""
        return self.model_copy(update=dict.fromkeys((*(self.derived or ()), "derived")))

    @property
    def is_direction_open(self) -> bool:
        """Whether the direction is still to be read from the code of the user's own score."""
        return "direction" not in self.model_fields_set

    @property
    def known(self) -> bool:
        """Whether the value follows from the configuration and the model's shape."""
        return self.name in KNOWN_COSTS

    @property
    def limits(self) -> tuple[float, float]:
        """The hard limits (min, max) as numbers, infinite if there is none."""
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        assert not isinstance(low, str), "percentages are resolved when the sweep starts"
        assert not isinstance(high, str), "percentages are resolved when the sweep starts"
        return low, high

    def feasible(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Return which values satisfy the hard limits, in the shape of `values`."""
        low, high = self.limits
        values = np.asarray(values, dtype=float)
        return (values >= low) & (values <= high)

    def loss(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the loss coordinates of values, in the shape of `values`; lower is better."""
        losses: NDArray[np.float64] = np.asarray(values, dtype=float)
        if self.scale == "log":
            losses = np.log(np.maximum(losses, self.floor or 1.0))
        return -losses if self.direction == "maximize" else losses

    def value(self, loss: float) -> float:
        """Return the value of a loss coordinate, at best the ideal value."""
        loss = -loss if self.direction == "maximize" else loss
        value = math.exp(loss) if self.scale == "log" else loss
        if self.ideal is None:
            return value
        return min(value, self.ideal) if self.direction == "maximize" else max(value, self.ideal)


def box(
    objectives: Sequence[Objective], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ideal and the reference point in loss coordinates, shape [m] each.

    Objectives without them (measured costs, unbounded metrics) use the best and worst observed values. No side of the
    box is empty.

    Args:
        objectives: the m objectives.
        values: observed values, shape [n, m].
    """
    ideal, reference = np.zeros(len(objectives)), np.ones(len(objectives))
    for j, objective in enumerate(objectives):
        losses = objective.loss(values[:, j])
        losses = losses[np.isfinite(losses)]
        low, high = (losses.min(), losses.max()) if losses.size else (0.0, 1.0)
        ideal[j] = low if objective.ideal is None else objective.loss(objective.ideal)
        reference[j] = high if objective.reference is None else objective.loss(objective.reference)
        if not ideal[j] < reference[j]:
            reference[j] = ideal[j] + 1.0
    return ideal, reference


def unit_losses(objectives: Sequence[Objective], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return loss coordinates scaled such that the ideal is 0 and the reference is 1, shape [n, m].

    Values better than the ideal count as the ideal, so that hypervolume is within [0, 1].

    Args:
        objectives: the m objectives.
        values: observed values, shape [n, m].
    """
    ideal, reference = box(objectives, values)
    losses = np.column_stack([o.loss(values[:, j]) for j, o in enumerate(objectives)])
    return np.maximum((losses - ideal) / (reference - ideal), 0.0)


def is_cost(name: str) -> bool:
    """Return whether an objective is a cost, known or measured, and not a score on the validation split."""
    return name in KNOWN_COSTS or name in MEASURED_COSTS


def violations(objectives: Sequence[Objective], values: Sequence[float]) -> list[float]:
    """Return by how much values exceed each hard limit, at most 0 where it is kept; empty without a limit.

    Args:
        objectives: the m objectives.
        values: of one trial, shape [m].
    """
    found = []
    for objective, value in zip(objectives, values, strict=True):
        low, high = objective.limits
        found += [excess for excess in (low - value, value - high) if math.isfinite(excess)]
    return found


def objective_defaults(name: str, metrics: Mapping[str, Metric] = METRICS) -> dict[str, Any]:
    """Return the default direction and scale of an objective by its name.

    Args:
        name: of the objective.
        metrics: the properties of the task's scores; the direction of a score without them is that of a loss.
    """
    if is_cost(name):
        return {"direction": "minimize", "scale": "log"}
    metric = metrics.get(name)
    return {"direction": metric_direction(name) if metric is None else metric.direction, "scale": "linear"}
