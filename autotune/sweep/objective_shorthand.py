"""Objectives as a sweep file writes them: `accuracy`, or `{name: trainable_params, max: 0.5%}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotune.objectives import KNOWN_COSTS, MEASURED_COSTS, OBJECTIVE_NAMES, objective_defaults
from search_spaces.errors import Problem, did_you_mean
from search_spaces.percentages import format_percentage, parse_percentage
from trials.tasks.metrics import METRICS, metrics_for


def expand_objectives(value: object, task_type: str | None) -> tuple[object, list[Problem]]:
    """The full form of a list of objectives, and what is wrong with it beyond the types of its fields.

    Args:
        value: whatever stands under `objectives`.
        task_type: decides which metrics there are; None allows those of every task.
    """
    if not isinstance(value, list | tuple):
        return value, []
    problems: list[Problem] = []
    expanded = [_expand(item, f"objectives[{i}]", task_type, problems) for i, item in enumerate(value)]
    names = [
        item["name"] for item in expanded if isinstance(item, dict) and isinstance(item.get("name"), str)
    ]
    for index, name in enumerate(names):
        if name in names[:index]:
            problems.append(Problem(f"objectives[{index}]", f"{name!r} is there twice", "Remove one."))
    if not 2 <= len(value) <= 4:
        fix = "Name two to four, such as accuracy and trainable_params."
        problems.append(Problem("objectives", f"there are {len(value)}", fix))
    elif len(names) == len(value) and all(name in KNOWN_COSTS for name in names):
        fix = "Add what training is for, such as accuracy or eval_loss."
        problems.append(Problem("objectives", f"{' and '.join(names)} are known without training", fix))
    return expanded, problems


def _expand(item: object, where: str, task_type: str | None, problems: list[Problem]) -> object:
    if hasattr(item, "model_dump"):
        item = item.model_dump(exclude_none=True)
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, Mapping):
        return item
    fields: dict[str, Any] = dict(item)
    name = fields.get("name")
    if not isinstance(name, str):
        return {"direction": "minimize", **fields}  # the model says what is wrong with the name
    problem = _name_problem(name, where, task_type)
    if problem is not None:
        problems.append(problem)
        return {**objective_defaults(name), **fields}
    defaults = objective_defaults(name)
    if fields.get("direction") in ("maximize", "minimize") and fields["direction"] != defaults["direction"]:
        better = "higher" if defaults["direction"] == "maximize" else "lower"
        fix = f"Remove direction: {name} is better the {better} it is."
        problems.append(Problem(f"{where}.direction", f"{name} is not to {fields['direction']}", fix))
    for side in ("max", "min"):
        if isinstance(fields.get(side), str):
            fields[side] = _percentage(fields[side], name, f"{where}.{side}", problems)
    _check_limits(name, fields, where, problems)
    return {**defaults, **fields}


def _name_problem(name: str, where: str, task_type: str | None) -> Problem | None:
    metrics = metrics_for(task_type) if task_type else [*METRICS, "eval_loss"]
    known = [*metrics, *KNOWN_COSTS, *MEASURED_COSTS]
    if name in known:
        return None
    if name in OBJECTIVE_NAMES:
        return Problem(where, f"{name!r} does not score {task_type}", f"Use one of: {', '.join(metrics)}.")
    return Problem(where, f"unknown objective {name!r}", did_you_mean(name, known))


def _percentage(text: str, name: str, where: str, problems: list[Problem]) -> float | str | None:
    """The value that a percentage stands for, where that is known before the model is."""
    share = parse_percentage(text)
    if share is None or share < 0:
        shares = " or a percentage such as 0.5%" if name == "trainable_params" or _is_share(name) else ""
        problems.append(Problem(where, f"{text!r} is not a number", f"Write a number{shares}."))
        return None
    if name == "trainable_params":
        return format_percentage(share, digits=12)
    if _is_share(name):
        return share
    fix = "Give a number. Percentages go with trainable_params (of the base's) and with scores up to 1."
    problems.append(Problem(where, f"{text} of {name} means nothing", fix))
    return None


def _is_share(name: str) -> bool:
    return name in METRICS and METRICS[name].best == 1.0 and METRICS[name].direction == "maximize"


def _check_limits(name: str, fields: Mapping[str, Any], where: str, problems: list[Problem]) -> None:
    low, high = (_number(fields.get(side)) for side in ("min", "max"))
    if low is not None and high is not None and low > high:
        problems.append(Problem(f"{where}.min", f"{low:g} is above max {high:g}", "Swap them."))
    metric = METRICS.get(name)
    if metric is None or metric.best is None:
        best, direction = 0.0, "minimize"  # losses and costs
    else:
        best, direction = metric.best, metric.direction
    if direction == "maximize" and low is not None and low > best:
        fix = f"Write {low / 100:g} or {low:g}%." if 1 < low <= 100 else f"It must be at most {best:g}."
        problems.append(Problem(f"{where}.min", f"{name} cannot reach {low:g}", fix))
    if direction == "minimize" and high is not None and high < best:
        problems.append(Problem(f"{where}.max", f"{name} cannot be {high:g} or less", "Raise it."))
    floor = _number(fields.get("floor"))
    if floor is not None and floor <= 0:
        problems.append(Problem(f"{where}.floor", f"{floor:g} has no logarithm", "Give a number above 0."))
    reference, ideal = (_number(fields.get(field)) for field in ("reference", "ideal"))
    if reference is not None and ideal is not None:
        worse = reference < ideal if direction == "maximize" else reference > ideal
        if not worse:
            fix = "The reference is the worst value that counts, the ideal the best."
            problems.append(
                Problem(f"{where}.reference", f"{reference:g} is no worse than ideal {ideal:g}", fix)
            )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
