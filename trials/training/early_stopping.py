"""Selection among the evaluations of a run: which one is the trial's score, and when further ones are not worth it.

Evaluations are compared by the task's metric, as `EarlyStoppingCallback` and `load_best_model_at_end` of transformers
do: only a strictly better value is an improvement, so of equal evaluations the first one counts.

The module imports nothing of the project, because an exported run carries a copy of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor


class Evaluated(Protocol):
    """A point on the validation curve."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The scores by name."""


Point = TypeVar("Point", bound=Evaluated)


@dataclass(frozen=True)
class Selection:
    """The rule by which evaluations are selected.

    Args:
        metric: The name of the metric that evaluations are compared by.
        direction: Which of its values are better.
        patience: After how many evaluations in a row without an improvement a run ends; None for never.
        score: The evaluation that is the run's score.
    """

    metric: str
    direction: Literal["maximize", "minimize"]
    patience: int | None = None
    score: Literal["last", "best"] = "last"


class EvaluationRecord(Generic[Point]):
    """The validation curve of a run, its best evaluation, and the decision to stop early.

    Args:
        selection: The rule.
        keeps_parameters: Whether to copy the trained parameters at the best evaluation, for `restore`.
    """

    def __init__(self, selection: Selection, keeps_parameters: bool) -> None:
        self.curve: list[Point] = []
        self._selection = selection
        self._sign = 1.0 if selection.direction == "minimize" else -1.0
        self._keeps_parameters = keeps_parameters and selection.score == "best"
        self._best = 0
        self._parameters: list[Tensor] = []

    def add(self, point: Point, parameters: Sequence[Tensor]) -> None:
        """Append an evaluation.

        Args:
            point: The evaluation.
            parameters: The trained parameters at the time of the evaluation.
        """
        self.curve.append(point)
        is_best = len(self.curve) == 1 or self._loss(point.metrics) < self._loss(self.best.metrics)
        if is_best:
            self._best = len(self.curve) - 1
            if self._keeps_parameters:
                self._parameters = [parameter.detach().clone() for parameter in parameters]

    @property
    def best(self) -> Point:
        """The first evaluation with the best value of the metric."""
        return self.curve[self._best]

    @property
    def score(self) -> Point:
        """The evaluation that is the run's score."""
        return self.best if self._selection.score == "best" else self.curve[-1]

    @property
    def is_out_of_patience(self) -> bool:
        """Whether as many evaluations in a row as the patience allows have not improved on the best one."""
        patience = self._selection.patience
        return patience is not None and len(self.curve) - 1 - self._best >= patience

    def restore(self, parameters: Sequence[Tensor]) -> None:
        """Copy the parameters of the best evaluation back, where they were kept."""
        with torch.no_grad():
            for parameter, kept in zip(parameters, self._parameters, strict=bool(self._parameters)):
                parameter.copy_(kept)

    def _loss(self, metrics: Mapping[str, float]) -> float:
        # An evaluation that decides nothing has no scores of generated text.
        value = self._sign * metrics.get(self._selection.metric, math.nan)
        return math.inf if math.isnan(value) else value


def evaluation_steps(steps: int, evaluations: int) -> frozenset[int]:
    """Return the steps after which the validation split is scored: evenly spread, the last step always included."""
    return frozenset(math.ceil(steps * (i + 1) / max(evaluations, 1)) for i in range(max(evaluations, 1)))
