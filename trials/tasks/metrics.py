"""The metrics of each type of task: their names, directions and bounds. `scores.py` computes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Metric:
    """The properties of a score.

    Args:
        direction: Which values are better.
        best: The best possible value, or None if there is no bound.
        task: The task type that it scores.
        worst: The worst possible value, or None if there is no bound.
    """

    direction: Direction
    best: float | None
    task: str
    worst: float | None = None


_CLASSIFICATION, _REGRESSION, _LM = "sequence-classification", "regression", "causal-lm"

METRICS: dict[str, Metric] = {
    "accuracy": Metric("maximize", 1.0, _CLASSIFICATION, worst=0.0),
    "f1": Metric("maximize", 1.0, _CLASSIFICATION, worst=0.0),
    "matthews": Metric("maximize", 1.0, _CLASSIFICATION, worst=-1.0),
    "pearson": Metric("maximize", 1.0, _REGRESSION, worst=-1.0),
    "spearman": Metric("maximize", 1.0, _REGRESSION, worst=-1.0),
    "mse": Metric("minimize", 0.0, _REGRESSION),
    "perplexity": Metric("minimize", 1.0, _LM),
    "token_accuracy": Metric("maximize", 1.0, _LM, worst=0.0),
    "exact_match": Metric("maximize", 1.0, _LM, worst=0.0),
}
"""Every metric by name. In addition, every task has `eval_loss` (minimize)."""

_DEFAULTS = {_CLASSIFICATION: "accuracy", _REGRESSION: "pearson", _LM: "eval_loss"}


def metrics_for(task_type: str) -> list[str]:
    """Return the names of the metrics that score a task, `eval_loss` included."""
    return [*(name for name, metric in METRICS.items() if metric.task == task_type), "eval_loss"]


def default_metric(task_type: object) -> str:
    """Return the metric of a task that names none."""
    return _DEFAULTS.get(str(task_type), "eval_loss")


def metric_direction(name: str) -> Direction:
    """Return which values of a metric are better."""
    return METRICS[name].direction if name in METRICS else "minimize"


def metric_range(name: str) -> tuple[float, float]:
    """Return the least and the largest possible value of a metric, infinite where there is no bound.

    Example:
        >>> metric_range("accuracy"), metric_range("perplexity")
        ((0.0, 1.0), (1.0, inf))
    """
    metric = METRICS.get(name, Metric("minimize", 0.0, ""))
    best = metric.best if metric.best is not None else math.inf
    worst = metric.worst if metric.worst is not None else math.inf
    return (worst, best) if metric.direction == "maximize" else (best, worst)
