"""Evaluation where memory does not suffice for a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trials.kinds.kind import Batch, Scoring
from trials.training.evaluation import Evaluation, evaluate

CPU = torch.device("cpu")
EXAMPLES = [{"input_ids": [n, n + 1], "labels": n % 3} for n in range(23)]


class PlainTokenizer:
    """A tokenizer that pads nothing: all examples have two tokens."""

    def pad(self, inputs: Sequence[Mapping[str, Any]], **_: object) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([each["input_ids"] for each in inputs])}


def scored(most: int | None, error: type[Exception] = torch.OutOfMemoryError) -> tuple[Evaluation, list[int]]:
    """The scores of a model that has memory for so many rows, and the rows of the batches that it scored."""
    rows: list[int] = []

    def forward(_: object, batch: Batch) -> Any:
        ids = batch.inputs["input_ids"]
        if most is not None and len(ids) > most:
            raise error("out of memory")
        rows.append(len(ids))
        right = torch.stack([ids[:, 0] % 3 == c for c in range(3)], 1).float()
        return SimpleNamespace(logits=right + ids.sum(1, keepdim=True) / 100)

    data: Any = SimpleNamespace(tokenizer=PlainTokenizer(), scoring=Scoring())
    task = "sequence-classification"
    found = evaluate(nn.Identity(), data, EXAMPLES, task_type=task, device=CPU, forward=forward)
    return found, rows


def test_batches_are_halved_until_they_fit() -> None:
    whole, rows = scored(None)
    assert rows == [23]
    halved, rows = scored(6)
    assert max(rows) <= 6
    assert sum(rows) == 23
    assert halved.metrics == pytest.approx(whole.metrics)
    for mine, theirs in zip(halved.columns, whole.columns, strict=True):
        np.testing.assert_allclose(mine, theirs)


def test_one_row_without_memory_and_other_errors_are_raised() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        scored(0)
    with pytest.raises(RuntimeError, match="out of memory"):  # of another library: it has no such type
        scored(6, RuntimeError)
