"""Parameters of a search space in laws: the scale of each, and which of them set the amount of training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search_spaces.parameters.centered import Centered
from search_spaces.parameters.types import Categorical, Parameter
from surrogates.laws.search_laws import ValueScale

SETS_COST = ("train_samples", "epochs", "model")
"""Names of the parameters that set the amount of training of a run."""
_WIDE = 8.0
"""Ratio of the largest to the smallest value above which a scale that the space does not name is logarithmic."""


def value_scale(parameter: Parameter | None, values: NDArray[np.float64]) -> ValueScale:
    """Return the scale on which the best value of an ordered hyperparameter is linear in log cost.

    Args:
        parameter: the parameter; None where the space does not have it.
        values: its values, which decide where the parameter does not name a scale.
    """
    if isinstance(parameter, Centered):
        return parameter.kind
    if parameter is not None and not isinstance(parameter, Categorical) and hasattr(parameter, "log"):
        return "log" if parameter.log else "linear"
    return "log" if values.min() > 0 and values.max() >= _WIDE * values.min() else "linear"
