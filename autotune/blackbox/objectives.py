"""The objectives and the budget of `autotune.optimize`, and reading the metrics that a function returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.objectives import Objective as TableObjective
from autotune.objectives import objective_defaults
from search_spaces.costs.cost_model import KNOWN_COSTS
from search_spaces.parameters.types import Value
from trials.tasks.metrics import METRICS

TINY = 1e-300
"""The floor of a logarithmic objective that has none of its own: values at or below 0 fail their trial."""

Array = NDArray[np.float64]
Points = list[tuple[float, float]]
Metric = float | Mapping[float, float]
"""A value, or the curve since the last rung: fidelity -> value, with the rung's own fidelity last."""


@dataclass(frozen=True)
class Objective:
    """One objective.

    Args:
        name: of its metric.
        direction: `minimize` or `maximize`.
        known: returns its value for a configuration, for objectives that need no evaluation. It must be cheap.
        log: whether to compare values by ratio, for costs that span orders of magnitude. Values must be above 0.
        reference: the worst value of interest; None to derive it from the trials.
        max: hard upper limit: a trial beyond it is never on the front, and is not evaluated if the value is known.
        min: hard lower limit, likewise.
        floor: smallest value on a logarithmic scale; smaller ones count as this. Without one, a value that is not
            above 0 fails its trial.

    Raises:
        ValueError: the direction is unknown, or the limits exclude every value.

    Example:
        >>> Objective("accuracy", "maximize").loss(0.9)
        -0.9
    """

    name: str
    direction: str = "minimize"
    known: Callable[[Mapping[str, Value]], float] | None = None
    log: bool = False
    reference: float | None = None
    max: float | None = None
    min: float | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min, max: {self.min}, {self.max} of {self.name!r}; no value is within both")
        if self.direction not in ("minimize", "maximize"):
            raise ValueError(f"direction: {self.direction!r} of {self.name!r}; give minimize or maximize")

    @property
    def sign(self) -> float:
        """1 to minimize, -1 to maximize."""
        return 1.0 if self.direction == "minimize" else -1.0

    def loss(self, value: float) -> float:
        """Return the loss of a value, to minimize; NaN where a logarithmic objective is not above 0."""
        if self.log and self.floor is not None:
            value = max(value, self.floor)
        if self.log:
            value = math.log(value) if value > 0 else math.nan
        return self.sign * value

    @property
    def limits(self) -> tuple[float | None, float | None] | None:
        """The hard limits (min, max); None if there is none."""
        return None if self.min is None and self.max is None else (self.min, self.max)

    def in_tables(self) -> TableObjective:
        """Return the objective as figures and tables take it."""
        return TableObjective(
            name=self.name,
            direction=self.direction,  # type: ignore[arg-type]
            scale="log" if self.log else "linear",
            max=self.max,
            min=self.min,
            reference=self.reference,
            floor=(self.floor or TINY) if self.log else None,
        )

    def value(self, loss: float) -> float:
        """Return the value of a loss: the inverse of `loss`."""
        return math.exp(self.sign * loss) if self.log else self.sign * loss


@dataclass(frozen=True)
class Budget:
    """The limits of a search, which ends at the first that is reached; None for no limit.

    Args:
        fidelity: training in all, in the ladder's unit of fidelity. An evaluation that would exceed it does not
            start.
        trials: number of configurations, failed ones included.
        seconds: of this call, after which no evaluation starts.

    Raises:
        ValueError: there is no limit, or one that is not above 0.
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
    """Return the objectives; a bare name is one to minimize, unless it names a metric of a task, such as `accuracy`.

    Raises:
        ValueError: they are a single text, there are none or more than four, two have one name, or all are known.
    """
    if isinstance(objectives, str):
        raise ValueError(f"objectives: {objectives!r} is a text; give a list such as [{objectives!r}]")
    read = tuple(_named(o) if isinstance(o, str) else o for o in objectives)
    names = [objective.name for objective in read]
    if not 1 <= len(read) <= 4:
        raise ValueError(f"objectives: there are {len(read)}; give one to four")
    if len(set(names)) < len(names):
        raise ValueError(f"objectives: {names} has a name twice; give each objective once")
    if all(objective.known for objective in read):
        raise ValueError(
            f"objectives: {names} are all known, so nothing needs an evaluation; add one that does"
        )
    return read


def _named(name: str) -> Objective:
    if name not in METRICS and name not in KNOWN_COSTS:
        return Objective(name)
    return Objective(name, objective_defaults(name)["direction"], log=name in KNOWN_COSTS)


def read_metrics(
    objectives: Sequence[Objective],
    metrics: Mapping[str, Metric],
    fidelity: float,
    config: Mapping[str, Value],
) -> tuple[list[float], list[Points]]:
    """Read the objectives from the metrics of an evaluation.

    Args:
        objectives: of the search.
        metrics: that the function returned.
        fidelity: of the rung.
        config: of the trial.

    Returns:
        The value of each objective and its (fidelity, value) points since the last rung, in the objective's own unit.

    Raises:
        ValueError: a metric is missing, or its curve does not end at the fidelity.
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
        raise ValueError(
            f"evaluate: the curve of {name!r} must end at the fidelity of the rung, {fidelity:g}"
        )
    return points
