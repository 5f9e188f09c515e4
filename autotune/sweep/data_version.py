"""A sweep with the data version of the folder that it continues."""

from __future__ import annotations

from autotune.objectives import Objective
from autotune.sweep.generated_scores import with_earlier_name
from autotune.sweep.schema import Sweep
from trials.kinds.generation import TEXT_METRICS
from trials.tasks.generation_spec import TEACHER_FORCED
from trials.tasks.specs import TEXTS_GENERATED


def at_data_version(sweep: Sweep, version: int) -> Sweep:
    """Return a sweep with another data version, and with the names that its scores have there.

    Args:
        sweep: The sweep, of the newest version.
        version: The data version.
    """
    task = sweep.task.model_copy(update={"data_version": version})
    if version >= TEXTS_GENERATED:
        return sweep.model_copy(update={"task": task})
    objectives = tuple(with_earlier_name(objective) for objective in sweep.objectives)
    if task.metric == "exact_match":
        task = task.model_copy(update={"metric": TEACHER_FORCED})
    names = {task.metric, *(o.name for o in objectives if isinstance(o, Objective))}
    if not names & set(TEXT_METRICS):  # the section was there for exact_match only
        task = task.model_copy(update={"generation": None})
    return sweep.model_copy(update={"task": task, "objectives": objectives})
