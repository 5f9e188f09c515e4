"""The short form of objectives in a sweep file: `accuracy`, or `{name: trainable_params, max: 0.5%}`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autotune.objectives import KNOWN_COSTS, MEASURED_COSTS, OBJECTIVE_NAMES, objective_defaults
from search_spaces.errors import Problem, did_you_mean
from search_spaces.percentages import format_percentage, parse_percentage
from trials.kinds.kind import Metric
from trials.tasks.metrics import METRICS, metric_of, metrics_for
from trials.tasks.own_code import as_reference
from trials.tasks.specs import TaskSpec


def expand_objectives(
    value: object, task_type: str | None, task: TaskSpec | None = None
) -> tuple[object, list[Problem]]:
    """Expand a list of objectives to its full form.

    Args:
        value: the value of `objectives` in the file.
        task_type: decides which metrics are valid; None allows those of every task.
        task: the task, which has further scores; None if it is not valid.

    Returns:
        The full form, and all problems except wrong types of fields, which the model reports.
    """
    if not isinstance(value, list | tuple):
        return value, []
    problems: list[Problem] = []
    scores = Scores.of(task_type, task)
    expanded = [_expand(item, f"objectives[{i}]", scores, problems) for i, item in enumerate(value)]
    names = [
        item["name"] for item in expanded if isinstance(item, dict) and isinstance(item.get("name"), str)
    ]
    for index, name in enumerate(names):
        if name in names[:index]:
            problems.append(Problem(f"objectives[{index}]", f"{name!r} appears twice", "Remove one."))
    if not 1 <= len(value) <= 4:
        fix = "Name one to four, such as accuracy and trainable_params."
        problems.append(Problem("objectives", f"a sweep cannot have {len(value)} of them", fix))
    elif len(names) == len(value) and _are_costs(names):
        fix = "Add a score, such as accuracy or eval_loss."
        verb = "is a cost" if len(names) == 1 else "are costs"
        what = f"{' and '.join(names)} {verb}, and a sweep needs a score that training improves"
        problems.append(Problem("objectives", what, fix))
    return expanded, problems


def _are_costs(names: list[str]) -> bool:
    """Return whether training improves none of the objectives: all are known, or the only one is a measured cost."""
    return all(name in KNOWN_COSTS for name in names) or (len(names) == 1 and names[0] in MEASURED_COSTS)


@dataclass(frozen=True)
class Scores:
    """The scores that a sweep may have as objectives.

    Args:
        metrics: those whose properties are known, by name.
        task_type: of the task; None if it is not valid.
        has_code: whether the task names code, which may return scores of any name.
    """

    metrics: Mapping[str, Metric]
    task_type: str | None
    has_code: bool

    @classmethod
    def of(cls, task_type: str | None, task: TaskSpec | None) -> Scores:
        """Return the scores of a task."""
        if task is not None:
            return cls(task.metrics, task.type, has_code=bool(task.own_metrics or task.evaluate))
        names = metrics_for(task_type) if task_type else [*METRICS, "eval_loss"]
        return cls({name: metric_of(name) for name in names}, task_type, has_code=False)

    def is_own(self, name: str) -> bool:
        """Return whether a name is that of a score of the user's own code, whose properties may not be known."""
        if name in self.metrics or name in OBJECTIVE_NAMES:
            return False
        return self.has_code or as_reference(name) is not None


def _expand(item: object, where: str, scores: Scores, problems: list[Problem]) -> object:
    if hasattr(item, "model_dump"):
        item = item.model_dump(exclude_none=True)
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, Mapping):
        return item
    fields: dict[str, Any] = dict(item)
    name = fields.get("name")
    if not isinstance(name, str):
        return {"direction": "minimize", **fields}  # the model reports the wrong name
    if scores.is_own(name):
        return _with_shares(fields, where, problems)
    problem = _name_problem(name, where, scores)
    if problem is not None:
        problems.append(problem)
        return {**objective_defaults(name), **fields}
    defaults = objective_defaults(name, scores.metrics)
    if fields.get("direction") in ("maximize", "minimize") and fields["direction"] != defaults["direction"]:
        what = f"{fields['direction']!r} is the wrong direction for {name}"
        fix = f"Write {defaults['direction']}, or remove direction."
        problems.append(Problem(f"{where}.direction", what, fix))
    metric = scores.metrics.get(name)
    for side in ("max", "min"):
        if isinstance(fields.get(side), str):
            fields[side] = _percentage(fields[side], name, metric, f"{where}.{side}", problems)
    _check_limits(name, metric, fields, where, problems)
    return {**defaults, **fields}


def _with_shares(fields: dict[str, Any], where: str, problems: list[Problem]) -> dict[str, Any]:
    """Return the fields of an own score with its limits as numbers; a percentage is a share."""
    for side in ("max", "min"):
        if isinstance(fields.get(side), str):
            share = Metric("maximize", 1.0)
            fields[side] = _percentage(fields[side], str(fields["name"]), share, f"{where}.{side}", problems)
    return fields


def _name_problem(name: str, where: str, scores: Scores) -> Problem | None:
    metrics, task_type = list(scores.metrics), scores.task_type
    known = [*metrics, *KNOWN_COSTS, *MEASURED_COSTS]
    if name in known:
        return None
    if name in OBJECTIVE_NAMES:
        return Problem(
            where, f"{name!r} is not a metric of {task_type}", f"Use one of: {', '.join(metrics)}."
        )
    return Problem(where, f"unknown objective {name!r}", did_you_mean(name, known))


def _percentage(
    text: str, name: str, metric: Metric | None, where: str, problems: list[Problem]
) -> float | str | None:
    """Return the value of a percentage; one of the base model's parameters remains a percentage until it is read."""
    share = parse_percentage(text)
    if share is None or share < 0:
        shares = " or a percentage such as 0.5%" if name == "trainable_params" or _is_share(metric) else ""
        problems.append(Problem(where, f"{text!r} is not a number", f"Write a number{shares}."))
        return None
    if name == "trainable_params":
        return format_percentage(share, digits=12)
    if _is_share(metric):
        return share
    fix = "Write a number. Percentages are for trainable_params (of the base model's) and for scores up to 1."
    problems.append(Problem(where, f"{text!r} is a percentage, which {name} does not accept", fix))
    return None


def _is_share(metric: Metric | None) -> bool:
    return metric is not None and metric.best == 1.0 and metric.direction == "maximize"


def _check_limits(
    name: str, metric: Metric | None, fields: Mapping[str, Any], where: str, problems: list[Problem]
) -> None:
    low, high = (_number(fields.get(side)) for side in ("min", "max"))
    if low is not None and high is not None and low > high:
        problems.append(Problem(f"{where}.min", f"{low:g} is above max, {high:g}", "Swap them."))
    if metric is None:
        best, direction = 0.0, "minimize"  # costs
    elif metric.best is None:
        best, direction = (math.inf if metric.direction == "maximize" else -math.inf), metric.direction
    else:
        best, direction = metric.best, metric.direction
    if direction == "maximize" and low is not None and low > best:
        fix = f"Write {low / 100:g} or {low:g}%." if 1 < low <= 100 else f"It must be at most {best:g}."
        problems.append(Problem(f"{where}.min", f"{low:g} is above {best:g}, the best possible {name}", fix))
    if direction == "minimize" and high is not None and high < best:
        what = f"{high:g} is below {best:g}, the best possible {name}"
        problems.append(Problem(f"{where}.max", what, f"It must be at least {best:g}."))
    floor = _number(fields.get("floor"))
    if floor is not None and floor <= 0:
        problems.append(Problem(f"{where}.floor", f"{floor:g} is not above 0", "Write a number above 0."))
    reference, ideal = (_number(fields.get(field)) for field in ("reference", "ideal"))
    if reference is not None and ideal is not None:
        worse = reference < ideal if direction == "maximize" else reference > ideal
        if not worse:
            fix = "The reference is the worst value of interest, and the ideal the best."
            what = f"{reference:g} is not worse than the ideal, {ideal:g}"
            problems.append(Problem(f"{where}.reference", what, fix))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
