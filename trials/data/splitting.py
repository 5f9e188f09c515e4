"""Carving of validation and test splits out of the training split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from search_spaces.errors import InvalidInputError, Problem
from trials.data.notes import Notes
from trials.reading.rows import Rows
from trials.tasks.specs import TaskSpec


def carve(
    raw: Mapping[str, Rows], sources: dict[str, dict[str, Any]], task: TaskSpec, notes: Notes
) -> dict[str, Rows]:
    """Carve missing validation and test splits out of the training split, and remove its entry from `sources`.

    Raises:
        InvalidInputError: The training split has too few rows.
    """
    splits = dict(raw)
    missing = [name for name in ("validation", "test") if name not in splits]
    if not missing:
        return splits
    rng = np.random.default_rng(task.split_seed)
    order = rng.permutation(len(splits["train"]))
    size = round(len(order) * task.carve)
    if size < 1 or len(order) - size * len(missing) < 1:
        raise InvalidInputError(
            Problem(
                "task.train",
                f"{len(order)} rows are too few to carve a {' and a '.join(missing)} split "
                f"of {task.carve:.0%} out of them",
                "Give more rows, or files for the other splits.",
            )
        )
    train = splits["train"]
    for name in missing:
        part, order = order[:size], order[size:]
        splits[name] = train.select(np.sort(part).tolist())
        notes.note(f"{name}: {size:,} rows carved out of train (seed {task.split_seed})")
    splits["train"] = train.select(np.sort(order).tolist())
    sources.pop("train", None)
    return splits
