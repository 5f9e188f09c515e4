"""How many configurations a search space holds, counted without listing them.

The parameters are walked once, parents first. What has been decided so far matters only through the
conditions still to come and through layer masks that still need a switch that is on; everything else is
multiplied and forgotten. A space of 10²⁰ configurations is counted in milliseconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Parameter, Value
from search_spaces.space import SearchSpace

_SLACK = 1e-9
"""In steps of a grid: a range that rounding leaves this much short of its last step still has it."""


@dataclass(frozen=True)
class SpaceSize:
    """How many configurations there are.

    Args:
        combinations: of the discrete parameters, a continuous one counted as a single value.
        continuous: the parameters without a grid that some configuration has, in the space's order.
    """

    combinations: int
    continuous: tuple[str, ...]

    @property
    def configurations(self) -> int | None:
        """The exact number, or None where a continuous parameter makes them innumerable."""
        return None if self.continuous else self.combinations


def count(
    space: SearchSpace, *, fixed: Mapping[str, Value] | None = None, ignore: Collection[str] = ()
) -> SpaceSize:
    """The number of different configurations of a bound space.

    A parameter counts only where its conditions hold, and a layer mask with n switches has 2ⁿ − 1 values,
    since all off is no configuration. Two configurations differ if any of their values does, whether or not
    that changes what is trained.

    Args:
        fixed: values that some parameters have; the others are counted given these.
        ignore: parameters that count as if the space did not have them, nor what depends on them.

    Raises:
        ValueError: a layer parameter is not bound, a fixed value is impossible, or a condition asks a
            continuous parameter for a single value.
    """
    fixed = fixed or {}
    parameters = [parameter for parameter in space.parameters if parameter.name not in ignore]
    asked: dict[str, list[tuple[Value, ...]]] = {}
    last: dict[str, int] = {}
    for index, parameter in enumerate(parameters):
        for parent, values in parameter.when.items():
            asked.setdefault(parent, []).append(values)
            last[parent] = index
        mask = _mask(space, parameter)
        if mask:
            last[mask] = index
    continuous: list[str] = []
    states: dict[tuple[tuple[str, Value], ...], int] = {(): 1}
    for index, parameter in enumerate(parameters):
        name, mask = parameter.name, _mask(space, parameter)
        options = _options(parameter, fixed.get(name), asked.get(name, []), mask is not None)
        reached: Counter[tuple[tuple[str, Value], ...]] = Counter()
        for state, ways in states.items():
            known = dict(state)
            if not parameter.active(known):
                reached[_rest(known, last, mask, index)] += ways
                continue
            if _is_continuous(parameter) and name not in fixed and name not in continuous:
                continuous.append(name)
            for value, multiplicity in options:
                decided: Configuration = {**known, name: value}
                if mask:
                    decided[mask] = bool(known.get(mask)) or bool(value)
                reached[_rest(decided, last, mask, index)] += ways * multiplicity
        reached.pop(_EMPTY_MASK, None)
        states = dict(reached)
    return SpaceSize(sum(states.values()), tuple(continuous))


def listed(space: SearchSpace, limit: int) -> list[Configuration] | None:
    """All configurations of a bound space, each continuous parameter at its default; None if above `limit`."""
    if count(space).combinations > limit:
        return None
    configs: list[Configuration] = [{}]
    for parameter in space.parameters:
        values = [parameter.default] if _is_continuous(parameter) else _every_value(parameter)
        configs = [
            {**config, parameter.name: value}
            for config in configs
            if parameter.active(config)
            for value in values
        ] + [config for config in configs if not parameter.active(config)]
    return [config for config in configs if not space.problems(config)] if space.masks else configs


_EMPTY_MASK = (("", False),)
"""The state of what has turned out to be no configuration: every switch of a mask is off."""


def _rest(
    known: Configuration, last: Mapping[str, int], mask: str | None, index: int
) -> tuple[tuple[str, Value], ...]:
    """What later parameters can still ask about."""
    if mask and last[mask] == index and known.get(mask) is False:
        return _EMPTY_MASK
    return tuple((name, value) for name, value in known.items() if last.get(name, -1) > index)


def _mask(space: SearchSpace, parameter: Parameter) -> str | None:
    """The layer mask that the parameter is a switch of, as `SearchSpace.problems` reads names."""
    return next((mask for mask in space.masks if parameter.name.startswith(f"{mask}.")), None)


def _options(
    parameter: Parameter, fixed: Value | None, asked: list[tuple[Value, ...]], switch: bool
) -> list[tuple[Value, int]]:
    """Values that later conditions tell apart, each standing for so many."""
    if fixed is not None:
        problem = parameter.problem(fixed)
        if problem:
            raise ValueError(f"fixed.{parameter.name}: {problem}; give a value of the space")
        return [(fixed, 1)]
    if not asked and not switch:
        return [(parameter.default, _values(parameter))]
    if _is_continuous(parameter):
        raise ValueError(
            f"{parameter.name}: a condition asks for single values of a continuous parameter; give it a step"
        )
    classes: dict[tuple[bool, ...], tuple[Value, int]] = {}
    for value in _every_value(parameter):
        kind = (*(value in values for values in asked), switch and bool(value))
        first, number = classes.get(kind, (value, 0))
        classes[kind] = (first, number + 1)
    return list(classes.values())


def _is_continuous(parameter: Parameter) -> bool:
    return isinstance(parameter, Float) and parameter.step is None and parameter.low < parameter.high


def _values(parameter: Parameter) -> int:
    """How many values a parameter has; 1 for a continuous one."""
    match parameter:
        case Categorical():
            return len(parameter.choices)
        case Int():
            return (parameter.high - parameter.low) // parameter.step + 1
        case Float(step=None):
            return 1
        case Float(step=float() | int() as step):
            return math.floor((parameter.high - parameter.low) / step + _SLACK) + 1
        case _:
            raise ValueError(f"{parameter.name}: call SearchSpace.bind(depth) before counting")


def _every_value(parameter: Parameter) -> list[Value]:
    match parameter:
        case Categorical():
            return list(parameter.choices)
        case Int():
            return list(range(parameter.low, parameter.high + 1, parameter.step))
        case _:
            last = max(_values(parameter) - 1, 1)
            return [parameter.from_unit(k / last) for k in range(_values(parameter))]
