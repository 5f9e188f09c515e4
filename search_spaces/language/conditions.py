"""Conditions that a space file adds to parameters: `lora.scale: {when: {lora.dora: true}}`.

Where a condition does not hold, the parameter is inactive and the family uses its default. So parameters that every
run needs (the learning rate and the training parameters) cannot have a condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces.errors import Problem, did_you_mean
from search_spaces.parameters.types import Categorical, Int, Parameter, Value


def add_conditions(
    parameters: Mapping[str, Parameter],
    entries: Mapping[str, object],
    needed: Sequence[str],
    problems: list[Problem],
) -> dict[str, Parameter]:
    """Add the conditions of a file to the parameters.

    Args:
        parameters: parameters by name, including `family`.
        entries: the file's entries by parameter name.
        needed: names of parameters that must always be active.
        problems: list to which problems are appended.
    """
    changed = dict(parameters)
    for name, entry in entries.items():
        if name not in parameters or not isinstance(entry, Mapping) or "when" not in entry:
            continue
        where, raw = f"parameters.{name}.when", entry["when"]
        if not isinstance(raw, Mapping) or not raw:
            problems.append(Problem(where, f"{raw!r} is not a condition", "Write when: {lora.dora: true}."))
        elif name in needed:
            fix = "Drop the condition; fix the value instead if there is nothing to search."
            problems.append(Problem(where, f"every run needs {name}", fix))
        else:
            conditions = _read(parameters[name], raw, parameters, where, problems)
            changed[name] = replace(parameters[name], when={**parameters[name].when, **conditions})
    return changed


def _read(
    child: Parameter,
    raw: Mapping[str, object],
    parameters: Mapping[str, Parameter],
    where: str,
    problems: list[Problem],
) -> dict[str, tuple[Value, ...]]:
    conditions: dict[str, tuple[Value, ...]] = {}
    for parent, wanted in raw.items():
        field = f"{where}.{parent}"
        values = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,)
        known = parameters.get(str(parent))
        if known is None:
            problems.append(Problem(field, "unknown parameter", did_you_mean(str(parent), parameters)))
        elif parent == child.name:
            problems.append(Problem(field, "depends on itself", "Name another parameter."))
        elif parent in child.when:
            already = ", ".join(map(str, child.when[parent]))
            fix = "Drop the line."
            problems.append(Problem(field, f"{child.name} already needs {parent} to be {already}", fix))
        elif not isinstance(known, Categorical | Int):
            fix = "Give the parent choices, such as [0.1, 0.5], or name one that has some."
            problems.append(Problem(field, "it has no single values to compare with", fix))
        elif not values:
            problems.append(Problem(field, "no value", "Give one value, or a list of them."))
        elif never := _never_together(child, known):
            problems.append(Problem(field, never, "Name a parameter that can be active at the same time."))
        else:
            for value in values:
                problem = known.problem(value)
                if problem is not None:
                    choices = known.choices if isinstance(known, Categorical) else (known.low, known.high)
                    problems.append(Problem(field, problem, did_you_mean(str(value), map(str, choices))))
            conditions[str(parent)] = values
    return conditions


def _never_together(child: Parameter, parent: Parameter) -> str | None:
    for name, values in parent.when.items():
        if name in child.when and not set(values) & set(child.when[name]):
            return f"it is never active where {child.name} is"
    return None


def sort_by_dependency(parameters: Sequence[Parameter], problems: list[Problem]) -> list[Parameter]:
    """Sort the parameters so that parents come before children, and keep the order otherwise."""
    waiting, placed = list(parameters), dict[str, Parameter]()
    while waiting:
        ready = next((p for p in waiting if all(name in placed for name in p.when)), None)
        if ready is None:
            names = ", ".join(p.name for p in waiting)
            fix = "Drop one of their conditions."
            problems.append(Problem("parameters", f"{names} depend on each other in a cycle", fix))
            return list(parameters)
        placed[ready.name] = ready
        waiting.remove(ready)
    return list(placed.values())


def drop_impossible(parameters: Sequence[Parameter], narrowed: dict[str, str]) -> list[Parameter]:
    """Restrict the conditions of ordered parameters to values that their parents can have.

    Parameters whose condition can never hold are left out.

    Args:
        parameters: parameters, parents before children.
        narrowed: mapping to which a note per left-out parameter is added.
    """
    kept: dict[str, Parameter] = {}
    for parameter in parameters:
        when = {}
        for parent, values in parameter.when.items():
            possible = kept.get(parent)
            when[parent] = tuple(v for v in values if possible is not None and possible.problem(v) is None)
        lost = [parent for parent, values in when.items() if not values]
        if lost:
            narrowed[parameter.name] = f"left out, because {lost[0]} cannot have the value of its condition"
        else:
            kept[parameter.name] = replace(parameter, when=when)
    return list(kept.values())
