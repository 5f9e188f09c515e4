"""The number of configurations of a search space, counted without enumerating them.

One pass over the parameters, parents first. The values chosen so far matter only for later conditions and for layer
masks that still need a switch that is on; all other values are multiplied and dropped. A space of 10²⁰ configurations
is counted in milliseconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Parameter, Value
from search_spaces.space import SearchSpace

_SLACK = 1e-9
"""Slack for rounding, in steps of a grid: a range that is shorter by this much still contains its last step."""


@dataclass(frozen=True)
class SpaceSize:
    """The number of configurations of a space.

    Args:
        combinations: number of combinations, with each continuous parameter counted as a single value.
        continuous: names of the continuous parameters that are active in some configuration, in order.
    """

    combinations: int
    continuous: tuple[str, ...]

    @property
    def configurations(self) -> int | None:
        """The exact number of configurations, or None if a parameter is continuous."""
        return None if self.continuous else self.combinations


def count(
    space: SearchSpace, *, fixed: Mapping[str, Value] | None = None, ignore: Collection[str] = ()
) -> SpaceSize:
    """Count the different configurations of a space.

    A parameter counts only where it is active. A layer mask with n switches has 2ⁿ − 1 values, because one switch
    must be on. Two configurations differ if any of their values differ, whether or not this changes training.

    Args:
        space: a search space that is bound to a model.
        fixed: values by parameter name; the other parameters are counted given these.
        ignore: parameters to leave out of the space, with everything that depends on them.

    Raises:
        ValueError: A structured parameter is not bound, a fixed value is invalid, or a condition names single
            values of a continuous parameter.
    """
    fixed = fixed or {}
    parameters = [parameter for parameter in space.parameters if parameter.name not in ignore]
    needed: dict[str, list[tuple[Value, ...]]] = {}
    last: dict[str, int] = {}
    for index, parameter in enumerate(parameters):
        for parent, values in parameter.when.items():
            needed.setdefault(parent, []).append(values)
            last[parent] = index
        mask = _mask(space, parameter)
        if mask:
            last[mask] = index
    continuous: list[str] = []
    states: dict[tuple[tuple[str, Value], ...], int] = {(): 1}
    for index, parameter in enumerate(parameters):
        name, mask = parameter.name, _mask(space, parameter)
        options = _options(parameter, fixed.get(name), needed.get(name, []), mask is not None)
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


def list_configurations(space: SearchSpace, limit: int) -> list[Configuration] | None:
    """List all configurations of a bound space, or return None if there are more than `limit`.

    Continuous parameters take their default.
    """
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
"""The state of invalid combinations: every switch of a mask is off."""


def _rest(
    known: Configuration, last: Mapping[str, int], mask: str | None, index: int
) -> tuple[tuple[str, Value], ...]:
    """Return the known values that conditions of later parameters still need."""
    if mask and last[mask] == index and known.get(mask) is False:
        return _EMPTY_MASK
    return tuple((name, value) for name, value in known.items() if last.get(name, -1) > index)


def _mask(space: SearchSpace, parameter: Parameter) -> str | None:
    """Return the name of the mask that the parameter is a switch of, or None."""
    return next((mask for mask in space.masks if parameter.name.startswith(f"{mask}.")), None)


def _options(
    parameter: Parameter, fixed: Value | None, needed: list[tuple[Value, ...]], switch: bool
) -> list[tuple[Value, int]]:
    """Return one value for each class of values that later conditions distinguish, with the size of the class."""
    if fixed is not None:
        problem = parameter.problem(fixed)
        if problem:
            raise ValueError(f"fixed.{parameter.name}: {problem}; give a value of the space")
        return [(fixed, 1)]
    if not needed and not switch:
        return [(parameter.default, _values(parameter))]
    if _is_continuous(parameter):
        raise ValueError(
            f"{parameter.name}: a condition names single values of this continuous parameter; give it a step"
        )
    classes: dict[tuple[bool, ...], tuple[Value, int]] = {}
    for value in _every_value(parameter):
        kind = (*(value in values for values in needed), switch and bool(value))
        first, number = classes.get(kind, (value, 0))
        classes[kind] = (first, number + 1)
    return list(classes.values())


def _is_continuous(parameter: Parameter) -> bool:
    return isinstance(parameter, Float) and parameter.step is None and parameter.low < parameter.high


def _values(parameter: Parameter) -> int:
    """Return the number of values of a parameter, 1 for a continuous one."""
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
