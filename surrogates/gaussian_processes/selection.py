"""The choice of a surrogate by how well it predicts each observation from the others.

Each surrogate is fitted to all observations; the score of an observation is its log density under the prediction
from the others, with the hyperparameters unchanged (leave-one-out predictive likelihood; Rasmussen and Williams 2006,
section 5.4.2). The sum over the observations estimates how well a surrogate predicts new configurations, noise
included, and unlike the marginal likelihood it does not depend on the widths of priors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ERRORS = 2.0
"""Standard errors by which another surrogate must be better than the first one."""


@dataclass(frozen=True)
class Choice:
    """The surrogate that was chosen for one objective.

    Args:
        name: its name.
        scores: mean leave-one-out log density per observation of each surrogate, in nats; larger is better.
        n: number of observations.
    """

    name: str
    scores: dict[str, float]
    n: int


def choose(densities: Mapping[str, Array]) -> Choice:
    """Choose a surrogate: the first one, unless another is better by two standard errors.

    The standard error is that of the mean difference over the same observations, so that what is difficult for both
    does not count. A choice by the better mean alone would change with every few trials, and the first surrogate is
    the one whose fit takes least time.

    Args:
        densities: leave-one-out log densities of the same n observations, shape [n], by surrogate; the first one is
            the default.

    Example:
        >>> choose({"a": np.array([0.0, 0.1, 0.2]), "b": np.array([1.0, 1.2, 1.1])}).name
        'b'
    """
    first = next(iter(densities))
    n = len(densities[first])
    scores = {name: float(values.mean()) for name, values in densities.items()}
    chosen = first
    for name, values in densities.items():
        gain = values - densities[first]
        error = float(gain.std(ddof=1)) / np.sqrt(n) if n > 1 else np.inf
        if gain.mean() > _ERRORS * error and scores[name] > scores[chosen]:
            chosen = name
    return Choice(chosen, scores, n)
