"""Whether trials in a lower precision learn the same as in fp32, up to what a seed changes anyway.

The same few short trials (the same seeds, adapters, batches and learning rates) take a few steps in fp32 and in the
other precision. Two ratios are formed:

    loss      = rms over trials and steps of (its loss - loss in fp32) / standard deviation over seeds of the latter
    gradient  = rms norm of (its gradient - gradient in fp32) / rms norm of that of two batches' difference / √2

The denominators are what another seed, or another batch, changes. Errors of rounding and noise of sampling are
independent, so their variances add up: a ratio of 1/2 makes the noise of a step 12 % larger. Both ratios must stay
below it. `python -m benchmarks.precision` compares whole trials over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 0.5
"""The largest ratio of rounding to noise; see the top of this file."""
SEEDS, STEPS = 3, 3
"""The trials that are compared, and the steps of each."""


@dataclass(frozen=True)
class Trace:
    """The steps of a short trial.

    Args:
        losses: of each step, before it; shape [steps].
        gradients: of the adapter and the head before the first two steps, shape [2, parameters].
    """

    losses: NDArray[np.float64]
    gradients: NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How far a precision differs from fp32, as shares of the noise of seeds and of batches.

    Args:
        loss: the ratio of the losses.
        gradient: the ratio of the gradients.
    """

    loss: float
    gradient: float

    @property
    def is_close(self) -> bool:
        """Whether trials learn the same up to the noise; a ratio that is not a number means that they do not."""
        return self.loss <= MOST and self.gradient <= MOST

    def __str__(self) -> str:
        loss, gradient = _percent(self.loss), _percent(self.gradient)
        return f"loss within {loss}, gradient within {gradient} of the noise of seeds"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %" if math.isfinite(ratio) else "no share"


def compare(wanted: Sequence[Trace], found: Sequence[Trace]) -> Agreement:
    """Compare short trials in fp32 with the same ones in another precision.

    Args:
        wanted: at least two trials of different seeds in fp32.
        found: the same trials in the other precision.
    """
    losses = np.stack([trace.losses for trace in wanted])
    differences = np.stack([trace.losses for trace in found]) - losses
    noise = [(trace.gradients[0] - trace.gradients[1]) / math.sqrt(2) for trace in wanted]
    errors = [(one.gradients[0] - other.gradients[0]) for one, other in zip(found, wanted, strict=True)]
    return Agreement(
        loss=_ratio(_rms(differences.ravel()), math.sqrt(float(losses.var(axis=0, ddof=1).mean()))),
        gradient=_ratio(_rms_norm(errors), _rms_norm(noise)),
    )


def _rms(numbers: NDArray[np.float64]) -> float:
    return math.sqrt(float((numbers**2).mean()))


def _rms_norm(vectors: Sequence[NDArray[np.float64]]) -> float:
    return math.sqrt(float(np.mean([(vector**2).sum() for vector in vectors])))


def _ratio(error: float, noise: float) -> float:
    """Return the error as a share of the noise; without noise, only an exact result agrees."""
    if noise > 0:
        return error / noise
    return 0.0 if error == 0 else math.inf
