"""What is asked of a black box: objectives, a budget, and how its answers are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.parameters.types import Value

Array = NDArray[np.float64]
Points = list[tuple[float, float]]
Metric = float | Mapping[float, float]
"""A value, or the curve since the last rung: fidelity -> value, the rung's own fidelity last."""


@dataclass(frozen=True)
class Objective:
    """One objective.

    Args:
        name: of the metric that holds it.
        direction: `minimize` or `maximize`.
        known: its value as a function of the configuration, where it needs no trial. It must be cheap.
        log: compare values by ratio, as fits costs that span orders of magnitude. Values must be above 0.
        reference: the worst value of interest, or None for what the trials suggest.

    Raises:
        ValueError: an unknown direction.
    """

    name: str
    direction: str = "minimize"
    known: Callable[[Mapping[str, Value]], float] | None = None
    log: bool = False
    reference: float | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise ValueError(f"direction: {self.direction!r} of {self.name!r}; give minimize or maximize")

    @property
    def sign(self) -> float:
        return 1.0 if self.direction == "minimize" else -1.0

    def loss(self, value: float) -> float:
        """To minimize; NaN where a logarithmic objective is not above 0."""
        if self.log:
            value = math.log(value) if value > 0 else math.nan
        return self.sign * value

    def value(self, loss: float) -> float:
        """The inverse of `loss`."""
        return math.exp(self.sign * loss) if self.log else self.sign * loss


@dataclass(frozen=True)
class Budget:
    """What may be spent; whichever ends first. None for no limit.

    Args:
        fidelity: training in all, in the ladder's unit. Nothing is begun that would not fit.
        trials: configurations, failed ones included.
        seconds: of this call; nothing is begun after.

    Raises:
        ValueError: no limit at all, or one that is not above 0.
    """

    fidelity: float | None = None
    trials: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        limits = {"fidelity": self.fidelity, "trials": self.trials, "seconds": self.seconds}
        if all(limit is None for limit in limits.values()):
            raise ValueError("budget: no limit; give fidelity, trials or seconds")
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"budget: {name} is {limit}; it must be above 0")


def read_objectives(objectives: Sequence[str | Objective]) -> tuple[Objective, ...]:
    """Return the objectives; a bare name is one to minimize.

    Raises:
        ValueError: none, more than four, a name twice, or all of them known.
    """
    read = tuple(Objective(o) if isinstance(o, str) else o for o in objectives)
    names = [objective.name for objective in read]
    if not 1 <= len(read) <= 4:
        raise ValueError(f"objectives: {len(read)} of them; give one to four")
    if len(set(names)) < len(names):
        raise ValueError(f"objectives: {names} names one twice")
    if all(objective.known for objective in read):
        raise ValueError(f"objectives: {names} are all known, so there is nothing to evaluate")
    return read


def read_metrics(
    objectives: Sequence[Objective],
    metrics: Mapping[str, Metric],
    fidelity: float,
    config: Mapping[str, Value],
) -> tuple[list[float], list[Points]]:
    """Return values and curve points of each objective, in the objectives' own units.

    Raises:
        ValueError: a metric is missing, or is a curve without points.
    """
    values: list[float] = []
    curves: list[Points] = []
    for objective in objectives:
        if objective.known is not None:
            points = [(fidelity, float(objective.known(config)))]
        elif objective.name not in metrics:
            raise ValueError(
                f"evaluate: its metrics {sorted(metrics)} lack the objective {objective.name!r}; return it as well"
            )
        else:
            points = _points(objective.name, metrics[objective.name], fidelity)
        values.append(points[-1][1])
        curves.append(points)
    return values, curves


def _points(name: str, metric: Metric, fidelity: float) -> Points:
    if not isinstance(metric, Mapping):
        return [(fidelity, float(metric))]
    points = sorted((float(f), float(value)) for f, value in metric.items())
    if not points or points[-1][0] != fidelity:
        raise ValueError(f"evaluate: the curve of {name!r} must end at the fidelity asked for, {fidelity:g}")
    return points
