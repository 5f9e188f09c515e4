"""The limits of a search that need no evaluation, and how far a trial is trained in the steps of Optuna."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autotune.blackbox.objectives import Objective
from autotune.ladder.rungs import Ladder
from autotune.objectives import violations
from autotune.prepare.hard_limits import HardLimits
from search_spaces.parameters.types import Configuration

_STEPS = 1000
"""Steps of a run whose fidelity is no whole number: Optuna counts in whole steps."""


class KnownLimits:
    """The limits of known objectives, and the constraints of the space. Call it for the excess over each of them.

    Args:
        objectives: of the search.
        constraints: of the space; None where there are none.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: HardLimits | None = None) -> None:
        self._known = [o for o in objectives if o.known is not None and o.limits is not None]
        self._constraints = constraints

    def __bool__(self) -> bool:
        return bool(self._known) or self._constraints is not None

    def __call__(self, configs: Sequence[Configuration]) -> NDArray[np.float64]:
        """Return by how much c configurations exceed each of k limits, at most 0 where one is kept, shape [c, k]."""
        rows = [[excess for o in self._known for excess in _excess(o, config)] for config in configs]
        table = np.array(rows, dtype=float).reshape(len(configs), -1)
        return table if self._constraints is None else np.hstack([table, self._constraints(configs)])

    def broken(self, config: Configuration) -> list[str]:
        """Return why a configuration is not evaluated; empty where it keeps every limit."""
        if not self or (self([config]) <= 0).all():
            return []
        return ["it breaks a hard limit of an objective or a constraint of the space"]


def _excess(objective: Objective, config: Configuration) -> list[float]:
    assert objective.known is not None, "its value is known"
    return violations([objective.in_tables()], [float(objective.known(config))])


class FidelitySteps:
    """Translates fidelities into whole steps: the fidelity itself where rungs are whole, else per mille of the top.

    Args:
        ladder: of the search.

    Example:
        >>> FidelitySteps(Ladder(1, 9))(3.0), FidelitySteps(Ladder(0.1, 1.0))(0.5)
        (3, 500)
    """

    def __init__(self, ladder: Ladder) -> None:
        is_whole = ladder.top > 0 and all(float(rung).is_integer() for rung in ladder.rungs)
        self._scale = 1.0 if is_whole else _STEPS / ladder.max

    def __call__(self, fidelity: float) -> int:
        """Return the step of a fidelity."""
        return round(fidelity * self._scale)
