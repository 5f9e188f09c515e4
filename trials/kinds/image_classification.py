"""Classification of images into one of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..reading.encoding import Encoded, Encoding
from .kind import Batch
from .sequence_classification import SequenceClassification


class ImageClassification(SequenceClassification):
    """One class per image. Columns: (loss, logits, class index)."""

    name = "image-classification"
    auto_model = "AutoModelForImageClassification"
    shape_task = name
    reads = "images"

    def encode(
        self, row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, classes: Sequence[Any] | None
    ) -> Encoding:
        """Return the pixels of an image, with the index of its class; `max_length` cuts nothing.

        Args:
            row: The values by column.
            task: The fields of the task's spec.
            tokenizer: The `ImageReader` of the model.
            classes: The label values in order.
        """
        assert classes is not None, "a classification has classes"
        pixels, remarks = tokenizer.read(row[task["image"]])
        label = list(classes).index(row[task["label"]])
        example = {"pixel_values": pixels, "labels": label, "length": tokenizer.tokens}
        return Encoding(example, 0, remarks=remarks)

    def collate(self, examples: Sequence[Encoded], tokenizer: Any) -> Batch:
        """Return a batch of pixels, scaled and normalized."""
        import torch

        pixels = tokenizer.batch([example["pixel_values"] for example in examples])
        return Batch({"pixel_values": pixels}, {"labels": torch.tensor([e["labels"] for e in examples])})
