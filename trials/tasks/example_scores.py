"""Scores per example, in a compact form that is stored with a run.

Two runs that are scored on the same examples can be compared example by example, which removes the difficulty of each
example from the difference. This needs a metric that is a mean over examples: each example's contribution is stored,
one bit where every contribution is 0 or 1, and otherwise as a 16-bit float (about three significant digits).

Shapes: n examples.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BITS, _HALVES = "bits", "float16"


def example_scores(task_type: str, columns: Sequence[Array]) -> dict[str, Array]:
    """Return the contribution of each example to every metric that is a mean over examples, shape [n] each.

    Args:
        task_type: The type of the task.
        columns: (loss, outputs, references) per example, or (tokens, loss, correct) for causal-lm, where the first
            and the last are numbers of target tokens and the loss is their sum in nats.
    """
    if task_type == "causal-lm":
        tokens, loss, correct = columns
        # The two scores are ratios of sums; the token counts are the same for every run on the same examples.
        return {
            "eval_loss": loss / tokens.mean(),
            "token_accuracy": correct / tokens.mean(),
            "exact_match": (correct == tokens).astype(float),
        }
    losses, outputs, references = columns
    if task_type == "regression":
        return {"eval_loss": losses, "mse": losses}
    return {"eval_loss": losses, "accuracy": (outputs.argmax(-1) == references).astype(float)}


def encode_scores(scores: Array) -> str:
    """Return scores as text: the kind of number, the number of examples, and base64.

    Example:
        >>> encode_scores(np.array([1.0, 0.0, 1.0]))
        'bits:3:oA=='
    """
    if np.isin(scores, (0.0, 1.0)).all():
        kind, data = _BITS, np.packbits(scores.astype(bool)).tobytes()
    else:
        largest = np.finfo(np.float16).max
        kind, data = _HALVES, np.clip(scores, -largest, largest).astype("<f2").tobytes()
    return f"{kind}:{len(scores)}:{base64.b64encode(data).decode('ascii')}"


def decode_scores(text: str) -> Array:
    """Return the scores that `encode_scores` wrote, shape [n].

    Raises:
        ValueError: The text has another form.
    """
    kind, count, data = text.split(":")
    raw = base64.b64decode(data, validate=True)
    if kind == _BITS:
        return np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=int(count)).astype(float)
    if kind != _HALVES:
        raise ValueError(f"{kind!r} is no encoding of scores per example; known are {_BITS} and {_HALVES}")
    return np.frombuffer(raw, dtype="<f2", count=int(count)).astype(float)
