"""The rule by which a fidelity selects among the evaluations of a run."""

from __future__ import annotations

from trials.kinds.kind import Direction
from trials.records import Fidelity
from trials.training.early_stopping import Selection


def selection_of(fidelity: Fidelity, metric: str, direction: Direction) -> Selection:
    """Return the rule by which a fidelity selects among the evaluations of a run.

    Args:
        fidelity: The patience, and which evaluation is the score.
        metric: The name of the metric that evaluations are compared by.
        direction: Which values of the metric are better.
    """
    return Selection(metric, direction, fidelity.patience, fidelity.score)
