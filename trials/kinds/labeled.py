"""What tasks with one label per text share: texts are encoded alone or as a pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..reading.encoding import Encoding


def encode_texts(row: Mapping[str, Any], task: Mapping[str, Any], tokenizer: Any, labels: Any) -> Encoding:
    """Return the encoding of the text, or the pair of texts, of a row.

    Args:
        row: The values by column.
        task: The fields of the task's spec.
        tokenizer: The model's tokenizer.
        labels: What is predicted.
    """
    texts = [row[column] for column in task["text"]]
    encoded = dict(tokenizer(*texts, truncation=True, max_length=task["max_length"]))
    length = len(encoded["input_ids"])
    if length >= task["max_length"]:
        length = len(tokenizer(*texts, verbose=False)["input_ids"])
    encoded["labels"] = labels
    return Encoding(encoded, length)
