"""Scores per example, in a compact form that is stored with a run.

Two runs that are scored on the same examples can be compared example by example, which removes the difficulty of each
example from the difference. This needs a metric that is a mean over examples: each example's contribution is stored,
one bit where every contribution is 0 or 1, and otherwise as a 16-bit float (about three significant digits) of the
contribution divided by a common power of two, where the contributions are too large or too small for that format.

Shapes: n examples.
"""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PREDICTED_CLASS, TRUE_CLASS, GROUP = "class.predicted", "class.true", "group"
"""Indices that are stored with the scores of a classification: of the predicted and the true class of each example,
and of its group; 16-bit floats hold up to `MOST_INDICES` of them exactly."""
MOST_INDICES = 2048
_BITS, _HALVES = "bits", "float16"
_LARGEST = float(np.finfo(np.float16).max)
_SMALL = 0.01
"""Scores whose largest is below it would lose digits: 16-bit floats are precise above 0.00006."""


def encode_scores(scores: Array) -> str:
    """Return scores as text: the kind of number, the number of examples, and base64.

    Example:
        >>> encode_scores(np.array([1.0, 0.0, 1.0]))
        'bits:3:oA=='
    """
    if np.isin(scores, (0.0, 1.0)).all():
        kind, data = _BITS, np.packbits(scores.astype(bool)).tobytes()
    else:
        scale = _scale(scores)
        kind = _HALVES if scale == 1 else f"{_HALVES}*{scale!r}"
        data = np.clip(scores / scale, -_LARGEST, _LARGEST).astype("<f2").tobytes()
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
    kind, _, scale = kind.partition("*")
    if kind != _HALVES:
        raise ValueError(f"{kind!r} is no encoding of scores per example; known are {_BITS} and {_HALVES}")
    return np.frombuffer(raw, dtype="<f2", count=int(count)).astype(float) * float(scale or 1)


def _scale(scores: Array) -> float:
    """Return a power of two by which 16-bit floats hold the quotients, 1 where they hold the scores as they are."""
    finite = np.abs(scores[np.isfinite(scores)])
    top = float(finite.max()) if finite.size else 0.0
    if top == 0 or _SMALL <= top <= _LARGEST:
        return 1.0
    return float(2.0 ** np.ceil(np.log2(top / _LARGEST)))
