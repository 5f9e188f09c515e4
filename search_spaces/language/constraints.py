"""Constraints in space files: `trainable_params <= 0.5%`, `lora.rank <= 16 if lora.dora = true`.

    NAME OP NUMBER[%] [if NAME OP VALUE [and NAME OP VALUE ...]]

NAME is a known cost (trainable_params, stored_bytes, train_flops, inference_flops) or a numeric parameter; OP is one
of <=, <, >=, >, =, !=. After `if`, names are parameters only, and VALUE may be a word. A percentage is relative to
full fine-tuning of the base model: its parameters, its bytes, its training FLOPs for as many epochs, or its FLOPs on
one sample. A constraint on an inactive parameter is satisfied; a condition on an inactive parameter is false.

Only these comparisons are evaluated, never code.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.costs.cost_model import KNOWN_COSTS
from search_spaces.errors import Problem, did_you_mean
from search_spaces.parameters.types import Categorical, Int, Parameter, Value
from search_spaces.percentages import format_percentage, parse_number, parse_percentage

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
"""The comparison operators by their notation."""
_COMPARISON = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|!=|==|<|>|=)\s*([^\s<>=!]+)\s*")
_SHAPE = "Write NAME OP NUMBER, such as trainable_params <= 0.5%, or lora.rank <= 16 if lora.dora = true."
_SLACK = 1e-9
"""Relative slack for rounding: a limit that equals a configuration's own cost must admit it."""


@dataclass(frozen=True)
class Comparison:
    """A comparison `name op value` of a parameter or a known cost with a constant.

    Args:
        name: name of the parameter or cost.
        op: a key of `OPERATORS`.
        value: the constant on the right-hand side.
    """

    name: str
    op: str
    value: Value

    def holds(self, config: Mapping[str, Value]) -> bool:
        """Return whether the comparison is true for a configuration; False if the parameter is inactive."""
        found = config.get(self.name)
        if found is None or isinstance(found, str) != isinstance(self.value, str):
            return False
        return OPERATORS[self.op](found, self.value)

    def __str__(self) -> str:
        value = str(self.value).lower() if isinstance(self.value, bool) else f"{self.value}"
        return f"{self.name} {self.op} {value}"


@dataclass(frozen=True)
class Constraint:
    """One constraint of a space.

    Args:
        limit: the comparison; its value is a number, and a share of 1 if `percent`.
        percent: whether the limit is a share of the same cost of full fine-tuning.
        conditions: conditions, all of which must hold for the constraint to apply.
    """

    limit: Comparison
    percent: bool = False
    conditions: tuple[Comparison, ...] = ()

    @property
    def name(self) -> str:
        """Name of the constrained parameter or cost."""
        return self.limit.name

    @property
    def on_cost(self) -> bool:
        """Whether the constraint limits a known cost and not a parameter."""
        return self.name in KNOWN_COSTS

    def applies(self, config: Mapping[str, Value]) -> bool:
        """Return whether the conditions hold and, for a constraint on a parameter, the parameter is active."""
        return all(condition.holds(config) for condition in self.conditions) and (
            self.on_cost or self.name in config
        )

    def excess(self, value: float) -> float:
        """Return by how much a value violates the limit, relative to the limit; at most 0 if it satisfies it.

        Args:
            value: the value, in the unit of the limit: a share of 1 if `percent`.
        """
        limit, op = float(self.limit.value), self.limit.op
        size = max(abs(limit), _SLACK)
        difference = (value - limit) / size
        if math.isnan(difference):
            return math.inf
        match op:
            case "<=":
                return difference if difference > _SLACK else min(difference, 0.0)
            case ">=":
                return -difference if difference < -_SLACK else min(-difference, 0.0)
            case "<":
                return difference + _SLACK if value >= limit else min(difference, 0.0)
            case ">":
                return _SLACK - difference if value <= limit else min(-difference, 0.0)
            case "!=":
                return 1.0 if value == limit else -1.0
            case _:
                return abs(difference) if abs(difference) > _SLACK else 0.0

    def __str__(self) -> str:
        limit = str(self.limit)
        if self.percent:
            limit = f"{self.name} {self.limit.op} {format_percentage(float(self.limit.value), digits=12)}"
        conditions = " and ".join(map(str, self.conditions))
        return f"{limit} if {conditions}" if conditions else limit


def read_constraints(
    raw: object, parameters: Mapping[str, Parameter], problems: list[Problem]
) -> tuple[Constraint, ...]:
    """Parse the constraints of a space file.

    Args:
        raw: the entry `constraints` of the file: a list of constraints, or a single one.
        parameters: the concrete parameters of the space, by name.
        problems: list to which problems are appended, each with its place in the list.

    Returns:
        The valid constraints without repetitions.
    """
    if raw is None:
        return ()
    lines = [raw] if isinstance(raw, str) else raw
    if not isinstance(lines, list | tuple):
        problems.append(Problem("constraints", f"{raw!r} is not a list", _SHAPE))
        return ()
    found = []
    for index, line in enumerate(lines):
        before = len(problems)
        constraint = _read(line, f"constraints[{index}]", parameters, problems)
        if constraint is not None and len(problems) == before:
            found.append(constraint)
    return tuple(dict.fromkeys(found))


def _read(
    line: object, where: str, parameters: Mapping[str, Parameter], problems: list[Problem]
) -> Constraint | None:
    if not isinstance(line, str):
        problems.append(Problem(where, f"{line!r} is not a line of text", f"{_SHAPE} Put it in quotes."))
        return None
    main, word, rest = line.partition(" if ")
    match = _COMPARISON.fullmatch(main)
    if match is None:
        problems.append(Problem(where, f"{line!r} is not a constraint", _SHAPE))
        return None
    name, op, text = match.groups()
    op = "=" if op == "==" else op
    share = parse_percentage(text)
    percent = share is not None
    number = parse_number(text) if share is None else share
    _check_name(name, where, parameters, problems)
    if number is None:
        problems.append(Problem(where, f"{text!r} is not a number", "Write one such as 16, 1e9 or 0.5%."))
        return None
    if percent and name not in KNOWN_COSTS:
        fix = f"Write a number; percentages go with {', '.join(KNOWN_COSTS)}."
        problems.append(Problem(where, f"{text} of {name} is not defined", fix))
    if name in KNOWN_COSTS and number < 0:
        problems.append(Problem(where, f"{name} is never {text}", "Write a number of 0 or more."))
    conditions = (
        [_condition(part, where, parameters, problems) for part in rest.split(" and ")] if word else []
    )
    value = number if percent else _value(text)
    return Constraint(Comparison(name, op, value), percent, tuple(c for c in conditions if c is not None))


def _check_name(name: str, where: str, parameters: Mapping[str, Parameter], problems: list[Problem]) -> None:
    """Report a problem unless `name` is a known cost or a parameter whose values are numbers."""
    if name in KNOWN_COSTS:
        return
    numbers = [key for key, parameter in parameters.items() if _has_numbers(parameter)]
    if name not in parameters:
        problems.append(
            Problem(where, f"unknown name {name!r}", did_you_mean(name, [*KNOWN_COSTS, *numbers]))
        )
    elif not _has_numbers(parameters[name]):
        fix = f"Drop choices of {name} instead, or put it after if."
        problems.append(Problem(where, f"the values of {name} are not numbers", fix))


def _has_numbers(parameter: Parameter) -> bool:
    if isinstance(parameter, Categorical):
        return all(isinstance(c, int | float) and not isinstance(c, bool) for c in parameter.choices)
    return True


def _condition(
    text: str, where: str, parameters: Mapping[str, Parameter], problems: list[Problem]
) -> Comparison | None:
    match = _COMPARISON.fullmatch(text)
    if match is None:
        fix = "Write if NAME = VALUE, such as if lora.dora = true, joined by and."
        problems.append(Problem(where, f"{text.strip()!r} is not a comparison", fix))
        return None
    name, op, written = match.groups()
    op = "=" if op == "==" else op
    if name not in parameters:
        what = f"{name!r} is a cost" if name in KNOWN_COSTS else f"unknown parameter {name!r}"
        problems.append(Problem(where, f"{what}, after if", did_you_mean(name, parameters)))
        return None
    parameter = parameters[name]
    value = _value(written)
    if isinstance(parameter, Categorical) and not _has_numbers(parameter):
        if op not in ("=", "!="):
            problems.append(Problem(where, f"the values of {name} have no order", "Compare with = or !=."))
        elif parameter.problem(value) is not None:
            fix = did_you_mean(written, map(_word, parameter.choices))
            problems.append(Problem(where, f"{name} is never {written!r}", fix))
    elif parse_number(written) is None:
        what = f"{written!r} is not a number, as {name} is"
        problems.append(
            Problem(where, what, f"Write one such as {'8' if isinstance(parameter, Int) else '0.1'}.")
        )
    return Comparison(name, op, value)


def _value(written: str) -> Value:
    """Parse the text after an operator as YAML parses a scalar."""
    if written in ("true", "false"):
        return written == "true"
    number = parse_number(written)
    if number is None:
        return written
    return int(number) if number == int(number) else number


def _word(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
