"""Classification of texts, or pairs of texts, into one of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..reading.encoding import Encoded, Encoding
from .kind import Array, Columns, Metric, Scoring, TaskKind, Values
from .labeled import encode_texts
from .scoring.scores import brier_terms, classification_scores, fit_temperature, probabilities

if TYPE_CHECKING:
    import torch


class SequenceClassification(TaskKind):
    """One class per text. Columns: (loss, logits, class index)."""

    name = "sequence-classification"
    auto_model = "AutoModelForSequenceClassification"
    shape_task = name
    metrics: ClassVar = {
        "accuracy": Metric("maximize", 1.0, worst=0.0),
        "f1": Metric("maximize", 1.0, worst=0.0),
        "precision": Metric("maximize", 1.0, worst=0.0),
        "recall": Metric("maximize", 1.0, worst=0.0),
        "matthews": Metric("maximize", 1.0, worst=-1.0),
        "average_precision": Metric("maximize", 1.0, worst=0.0),
        "roc_auc": Metric("maximize", 1.0, worst=0.0),
        "brier": Metric("minimize", 0.0, worst=2.0),
        "ece": Metric("minimize", 0.0, worst=1.0),
        "ece_calibrated": Metric("minimize", 0.0, worst=1.0),
    }
    default_metric = "accuracy"
    constant_name = "majority class"
    has_classes = True

    def model_options(self, outputs: int) -> dict[str, Any]:
        """Return the number of classes."""
        return {"num_labels": outputs, "problem_type": "single_label_classification"}

    def encode(
        self, row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
    ) -> Encoding:
        """Return the encoding of the texts, with the index of their class."""
        assert classes is not None, "a classification has classes"
        return encode_texts(row, task, tokenizer, list(classes).index(row[task["label"]]))

    def losses(
        self, output: Any, targets: Mapping[str, torch.Tensor], configs: Sequence[Values] | None = None
    ) -> torch.Tensor:
        """Return the cross entropy in nats."""
        from torch.nn import functional

        return functional.cross_entropy(output.logits.float(), targets["labels"], reduction="none")

    def columns(self, output: Any, targets: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return (loss, logits, class index)."""
        return self.losses(output, targets), output.logits.float(), targets["labels"]

    def scores(self, columns: Columns, scoring: Scoring) -> dict[str, float]:
        """Return the mean loss in nats, and the scores of classes, rankings and probabilities."""
        losses, logits, labels = columns
        if not np.isfinite(logits).all():
            return {"eval_loss": float("nan")}
        return {"eval_loss": float(losses.mean()), **classification_scores(logits, labels, scoring.positive)}

    def example_scores(self, columns: Columns) -> dict[str, Array]:
        """Return the loss of each example, whether its prediction is right, and the error of its probabilities."""
        losses, logits, labels = columns
        return {
            "eval_loss": losses,
            "accuracy": (logits.argmax(-1) == labels).astype(float),
            "brier": brier_terms(probabilities(logits), labels),
        }

    def temperature(self, columns: Columns) -> float | None:
        """Return the temperature at which the logits are calibrated."""
        _, logits, labels = columns
        return fit_temperature(logits, labels)

    def class_indices(self, columns: Columns) -> tuple[Array, Array] | None:
        """Return (predicted, true) class indices."""
        _, logits, labels = columns
        return logits.argmax(-1).astype(float), labels

    def answers(
        self, columns: Columns, examples: Sequence[Encoded], scoring: Scoring
    ) -> tuple[list[Any], list[Any]] | None:
        """Return the names of the predicted and of the true classes."""
        _, logits, labels = columns
        names = scoring.names or tuple(map(str, scoring.classes or range(logits.shape[1])))
        return [names[i] for i in logits.argmax(-1)], [names[int(i)] for i in labels]

    def constant_columns(
        self, train: Sequence[Encoded], examples: Sequence[Encoded], outputs: int
    ) -> Columns | None:
        """Return the columns of predicting the share of each class in train."""
        shares = np.bincount([example["labels"] for example in train], minlength=outputs) / len(train)
        labels = np.array([example["labels"] for example in examples])
        with np.errstate(divide="ignore"):
            logits = np.tile(np.log(shares), (len(labels), 1))
        return -logits[np.arange(len(labels)), labels], logits, labels
