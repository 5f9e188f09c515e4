"""The rule by which a fidelity selects among the evaluations of a run."""

from __future__ import annotations

from trials.records import Fidelity
from trials.tasks.metrics import metric_direction
from trials.training.early_stopping import Selection


def selection_of(fidelity: Fidelity, metric: str) -> Selection:
    """Return the rule by which a fidelity selects among the evaluations of a run, which `metric` compares."""
    return Selection(metric, metric_direction(metric), fidelity.patience, fidelity.score)
