"""The scores of a task, computed by scikit-learn and scipy on predictions and references.

For classification `predictions` are logits of shape [n, classes] and `references` class indices [n]; for
regression both are numbers of shape [n]; for causal language modeling the scores come from per-example
sums that `trials.training.run` collects (`TokenScores`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Direction = Literal["maximize", "minimize"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class TokenScores:
    """Per example of a causal-lm split, shape [n] each: learned tokens, their summed loss in nats, and how
    many of them the model's first choice gets right (every one right = greedy decoding would write it)."""

    tokens: Array
    loss: Array
    correct: Array


@dataclass(frozen=True)
class Metric:
    """A score.

    Args:
        direction: which way is better.
        best: the best possible value, or None where there is no bound.
        tasks: the task types it scores.
        compute: from what the task's evaluation gives.
    """

    direction: Direction
    best: float | None
    tasks: tuple[str, ...]
    compute: Callable[..., float]


def _accuracy(logits: Array, labels: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, logits.argmax(-1)))


def _f1(logits: Array, labels: Array) -> float:
    from sklearn.metrics import f1_score

    if logits.shape[-1] == 2:
        return float(f1_score(labels, logits.argmax(-1), zero_division=0.0))
    return float(f1_score(labels, logits.argmax(-1), average="macro", zero_division=0.0))


def _matthews(logits: Array, labels: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, logits.argmax(-1)))


def _correlation(name: Literal["pearsonr", "spearmanr"]) -> Callable[[Array, Array], float]:
    def compute(predictions: Array, references: Array) -> float:
        from scipy import stats

        if np.ptp(predictions) == 0 or np.ptp(references) == 0:
            return 0.0  # a constant explains nothing; the correlation itself is undefined
        return float(getattr(stats, name)(predictions, references).statistic)

    return compute


def _mse(predictions: Array, references: Array) -> float:
    from sklearn.metrics import mean_squared_error

    return float(mean_squared_error(references, predictions))


def _perplexity(scores: TokenScores) -> float:
    return math.exp(min(float(scores.loss.sum() / scores.tokens.sum()), 700.0))


def _token_accuracy(scores: TokenScores) -> float:
    return float(scores.correct.sum() / scores.tokens.sum())


def _exact_match(scores: TokenScores) -> float:
    return float(np.mean(scores.correct == scores.tokens))


_CLASSIFICATION, _REGRESSION, _LM = ("sequence-classification",), ("regression",), ("causal-lm",)

METRICS: dict[str, Metric] = {
    "accuracy": Metric("maximize", 1.0, _CLASSIFICATION, _accuracy),
    "f1": Metric("maximize", 1.0, _CLASSIFICATION, _f1),
    "matthews": Metric("maximize", 1.0, _CLASSIFICATION, _matthews),
    "pearson": Metric("maximize", 1.0, _REGRESSION, _correlation("pearsonr")),
    "spearman": Metric("maximize", 1.0, _REGRESSION, _correlation("spearmanr")),
    "mse": Metric("minimize", 0.0, _REGRESSION, _mse),
    "perplexity": Metric("minimize", 1.0, _LM, _perplexity),
    "token_accuracy": Metric("maximize", 1.0, _LM, _token_accuracy),
    "exact_match": Metric("maximize", 1.0, _LM, _exact_match),
}
"""Every metric by name; `eval_loss` (minimize) comes with every task beside them."""

_DEFAULTS = {"sequence-classification": "accuracy", "regression": "pearson", "causal-lm": "eval_loss"}


def metrics_for(task_type: str) -> list[str]:
    """The names of the metrics that score a task, `eval_loss` included."""
    return [*(name for name, metric in METRICS.items() if task_type in metric.tasks), "eval_loss"]


def default_metric(task_type: object) -> str:
    """The metric of a task that names none."""
    return _DEFAULTS.get(str(task_type), "eval_loss")


def metric_direction(name: str) -> Direction:
    """Which way the metric is better."""
    return METRICS[name].direction if name in METRICS else "minimize"


def compute_metrics(task_type: str, *outputs: object) -> dict[str, float]:
    """Every metric of the task, from the outputs that its evaluation gives."""
    return {name: metric.compute(*outputs) for name, metric in METRICS.items() if task_type in metric.tasks}
