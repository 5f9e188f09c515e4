"""The metrics of each type of task: their names, directions and bounds. `trials.kinds` computes them."""

from __future__ import annotations

import math

from trials.kinds.kind import Direction, Metric
from trials.kinds.registry import KINDS, all_metrics

METRICS = all_metrics()
"""Every metric by name. In addition, every task has `eval_loss` (minimize)."""


def metrics_for(task_type: str) -> list[str]:
    """Return the names of the metrics that score a task, `eval_loss` included."""
    return [*(KINDS[task_type].metrics if task_type in KINDS else ()), "eval_loss"]


def default_metric(task_type: object) -> str:
    """Return the metric of a task that names none."""
    kind = KINDS.get(str(task_type))
    return "eval_loss" if kind is None else kind.default_metric


def metric_of(name: str) -> Metric:
    """Return the properties of a metric of a kind of task, or of `eval_loss`."""
    return METRICS.get(name, Metric("minimize", 0.0))


def metric_direction(name: str) -> Direction:
    """Return which values of a metric are better."""
    return metric_of(name).direction


def metric_range(metric: Metric) -> tuple[float, float]:
    """Return the least and the largest possible value of a metric, infinite where there is no bound.

    Example:
        >>> metric_range(metric_of("accuracy")), metric_range(metric_of("perplexity"))
        ((0.0, 1.0), (1.0, inf))
    """
    if metric.direction == "maximize":
        return _or(metric.worst, -math.inf), _or(metric.best, math.inf)
    return _or(metric.best, -math.inf), _or(metric.worst, math.inf)


def _or(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound
