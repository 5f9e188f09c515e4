"""Classification of texts, or pairs of texts, with any number of labels per text.

A label is predicted where its logit is above 0, which is a probability above one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..reading.encoding import Encoded, Encoding
from .kind import Array, Columns, Metric, Scoring, TaskKind, Values
from .labeled import encode_texts
from .scoring.scores import multi_label_scores

if TYPE_CHECKING:
    import torch


class MultiLabelClassification(TaskKind):
    """A set of labels per text. Columns: (loss summed over the labels, logits, whether each label applies)."""

    name = "multi-label-classification"
    auto_model = "AutoModelForSequenceClassification"
    shape_task = "sequence-classification"
    metrics: ClassVar = {
        "f1_micro": Metric("maximize", 1.0, worst=0.0),
        "f1_macro": Metric("maximize", 1.0, worst=0.0),
        "mean_average_precision": Metric("maximize", 1.0, worst=0.0),
        "subset_accuracy": Metric("maximize", 1.0, worst=0.0),
        "hamming_loss": Metric("minimize", 0.0, worst=1.0),
    }
    default_metric = "f1_micro"
    constant_name = "share of each label"
    label_form = "set"

    def model_options(self, outputs: int) -> dict[str, Any]:
        """Return the number of labels."""
        return {"num_labels": outputs, "problem_type": "multi_label_classification"}

    def encode(
        self, row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
    ) -> Encoding:
        """Return the encoding of the texts, with 1 for each label that applies and 0 for the others."""
        assert classes is not None, "a classification has classes"
        present = set(row[task["label"]])
        return encode_texts(row, task, tokenizer, [float(label in present) for label in classes])

    def target_count(self, example: Encoded) -> int:
        """Return the number of labels, since each of them is one decision."""
        return len(example["labels"])

    def losses(
        self, output: Any, targets: Mapping[str, torch.Tensor], configs: Sequence[Values] | None = None
    ) -> torch.Tensor:
        """Return the binary cross entropy in nats, summed over the labels."""
        from torch.nn import functional

        logits, labels = output.logits.float(), targets["labels"]
        return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1)

    def columns(self, output: Any, targets: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return (summed loss, logits, whether each label applies)."""
        return self.losses(output, targets), output.logits.float(), targets["labels"]

    def scores(self, columns: Columns, scoring: Scoring) -> dict[str, float]:
        """Return the mean loss per label in nats, and the scores of the predicted sets."""
        losses, logits, labels = columns
        if not np.isfinite(logits).all():
            return {"eval_loss": float("nan")}
        return {"eval_loss": float(losses.sum() / labels.size), **multi_label_scores(logits, labels > 0.5)}

    def example_scores(self, columns: Columns) -> dict[str, Array]:
        """Return the loss of each example, whether its set is right, and the share of wrong labels."""
        losses, logits, labels = columns
        wrong = (logits > 0) != (labels > 0.5)
        return {
            "eval_loss": losses / labels.shape[1],
            "subset_accuracy": (~wrong.any(1)).astype(float),
            "hamming_loss": wrong.mean(1),
        }

    def constant_columns(
        self, train: Sequence[Encoded], examples: Sequence[Encoded], outputs: int
    ) -> Columns | None:
        """Return the columns of predicting the share of each label in train."""
        shares = np.mean([example["labels"] for example in train], axis=0)
        labels = np.array([example["labels"] for example in examples])
        with np.errstate(divide="ignore"):
            yes, no = np.log(shares), np.log1p(-shares)
        losses = -np.where(labels > 0.5, yes, no).sum(1)
        # A label that all or no rows of train have is as certain as a double can say.
        logits = np.clip(yes - no, -_CERTAIN, _CERTAIN)
        return losses, np.tile(logits, (len(labels), 1)), labels


_CERTAIN = 700.0
"""exp overflows above it."""
