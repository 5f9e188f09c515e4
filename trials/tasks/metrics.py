"""The metrics of each type of task: their names, directions and bounds. `scores.py` computes them."""

from __future__ import annotations

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
    """

    direction: Direction
    best: float | None
    task: str


_CLASSIFICATION, _REGRESSION, _LM = "sequence-classification", "regression", "causal-lm"

METRICS: dict[str, Metric] = {
    "accuracy": Metric("maximize", 1.0, _CLASSIFICATION),
    "f1": Metric("maximize", 1.0, _CLASSIFICATION),
    "matthews": Metric("maximize", 1.0, _CLASSIFICATION),
    "pearson": Metric("maximize", 1.0, _REGRESSION),
    "spearman": Metric("maximize", 1.0, _REGRESSION),
    "mse": Metric("minimize", 0.0, _REGRESSION),
    "perplexity": Metric("minimize", 1.0, _LM),
    "token_accuracy": Metric("maximize", 1.0, _LM),
    "exact_match": Metric("maximize", 1.0, _LM),
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
