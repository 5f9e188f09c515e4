"""Prediction of a number from a text, or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..reading.encoding import Encoded, Encoding
from ..reading.labels import TargetScale
from .kind import Array, Columns, Metric, Scoring, TaskKind, Values
from .labeled import encode_texts
from .scoring.scores import regression_scores

if TYPE_CHECKING:
    import torch


class Regression(TaskKind):
    """One number per text. Columns: (loss, output, target); the last two end in the units of the targets."""

    name = "regression"
    auto_model = "AutoModelForSequenceClassification"
    shape_task = name
    metrics: ClassVar = {
        "pearson": Metric("maximize", 1.0, worst=-1.0),
        "spearman": Metric("maximize", 1.0, worst=-1.0),
        "mse": Metric("minimize", 0.0),
    }
    default_metric = "pearson"
    constant_name = "mean label"

    def model_options(self, outputs: int) -> dict[str, Any]:
        """Return one output."""
        return {"num_labels": 1, "problem_type": self.name}

    def encode(
        self, row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
    ) -> Encoding:
        """Return the encoding of the texts, with their target, standardized if the task has a scale."""
        value, scale = float(row[task["label"]]), task.get("target_scale")
        target = value if scale is None else float(TargetScale(**scale).standardize(value))
        return encode_texts(row, task, tokenizer, target)

    def losses(
        self, output: Any, targets: Mapping[str, torch.Tensor], configs: Sequence[Values] | None = None
    ) -> torch.Tensor:
        """Return the squared error of the standardized target."""
        return (output.logits.float().squeeze(-1) - targets["labels"]) ** 2

    def columns(self, output: Any, targets: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return (loss, output, target)."""
        return self.losses(output, targets), output.logits.float().squeeze(-1), targets["labels"]

    def finish(self, columns: Columns, examples: Sequence[Encoded], scoring: Scoring) -> Columns:
        """Return the columns with outputs and targets in their units; the targets of a batch are rounded to fp32."""
        losses, outputs, _ = columns
        targets, scale = np.array([example["labels"] for example in examples], float), scoring.target_scale
        if scale is None:
            return losses, outputs, targets
        return losses, scale.restore(outputs), scale.restore(targets)

    def scores(self, columns: Columns, scoring: Scoring) -> dict[str, float]:
        """Return the mean loss in units of the variance of train, both correlations, and the mean squared error."""
        losses, outputs, targets = columns
        if not np.isfinite(outputs).all():
            return {"eval_loss": float("nan")}
        return {"eval_loss": float(losses.mean()), **regression_scores(outputs, targets)}

    def example_scores(self, columns: Columns) -> dict[str, Array]:
        """Return the loss and the squared error of each example."""
        losses, outputs, targets = columns
        return {"eval_loss": losses, "mse": (outputs - targets) ** 2}

    def answers(
        self, columns: Columns, examples: Sequence[Encoded], scoring: Scoring
    ) -> tuple[list[Any], list[Any]] | None:
        """Return the predicted and the true numbers, in the units of the data."""
        _, outputs, targets = self.finish(columns, examples, scoring)
        return outputs.tolist(), targets.tolist()

    def constant_columns(
        self, train: Sequence[Encoded], examples: Sequence[Encoded], outputs: int
    ) -> Columns | None:
        """Return the columns of predicting the mean target of train."""
        targets = np.array([example["labels"] for example in examples], float)
        predicted = np.full(len(targets), np.mean([example["labels"] for example in train]))
        return (predicted - targets) ** 2, predicted, targets
