"""A configuration as a user writes it, checked and completed in the bound space of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotune.transfer.written_forms import FormError, WrittenForms, flattened
from search_spaces.errors import Problem, did_you_mean
from search_spaces.language.loader import load_space
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.centered import Centered
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Parameter, Value
from search_spaces.space import SearchSpace

_ROUNDING = 1e-9
_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Written:
    """A configuration that was read.

    Args:
        config: complete in the bound space.
        filled: the part of it that was not written: defaults of the space.
    """

    config: Configuration
    filled: Configuration


class ConfigurationReader:
    """Reads configurations of a sweep's space.

    Args:
        spec: the space as the sweep file has it.
        space: the same, bound to the model.
        shape: of the model.
        broken_limits: returns a sentence with the hard limits that a configuration breaks, or None.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        shape: ModelShape,
        broken_limits: Callable[[Configuration], str | None] = lambda config: None,
    ) -> None:
        self._space, self._broken_limits = space, broken_limits
        unbound = load_space(spec).space
        self._forms = WrittenForms(unbound.parameters, shape)
        self._stems = unbound.names
        self._left_out = {family for family in spec.get("families", ()) if family not in self._families()}

    def read(self, raw: Mapping[str, object], where: str, problems: list[Problem]) -> Written | None:
        """Return a configuration with the defaults of the space where it says nothing.

        Args:
            raw: as written: parameters by full name, or nested by family.
            where: its path in the sweep file.
            problems: list to which every problem is appended.

        Returns:
            The configuration, or None if it has a problem.
        """
        found: list[Problem] = []
        given = self._concrete(raw, where, found)
        given = {name: self._checked(name, value, where, found) for name, value in given.items()}
        if not found:  # an invalid family or parent would make its children look inactive
            config, inactive = self._completed(given)
            found += [self._inactive(name, config, where) for name in inactive]
            if not found:
                found += self._remaining(config, where)
        problems += found
        if found:
            return None
        written = {*given, *self._other_switches(given)}
        return Written(config, {name: value for name, value in config.items() if name not in written})

    def _concrete(self, raw: Mapping[str, object], where: str, problems: list[Problem]) -> dict[str, Any]:
        """Return the concrete parameters that are given, with the family that their names imply."""
        given: dict[str, Any] = {}
        for name, value in flattened(raw):
            try:
                parts = self._forms.concrete(name, value)
            except FormError as error:
                problems.append(Problem(f"{where}.{name}", error.what, error.fix))
                continue
            if twice := next((part for part in parts if part in given), None):
                fix = "Keep one of its forms."
                problems.append(Problem(f"{where}.{name}", f"{twice} is given twice", fix))
            given |= parts
        if "family" in self._space and "family" not in given:
            families = self._families()
            named = {name.partition(".")[0] for name, _ in flattened(raw)} & set(families)
            if len(named) == 1:
                return {"family": named.pop(), **given}
            if len(families) > 1:
                fix = f"Write family: {families[0]}, or another of {', '.join(families)}."
                problems.append(Problem(f"{where}.family", "missing", fix))
        return given

    def _families(self) -> Sequence[str]:
        if "family" not in self._space:
            return []
        family = self._space["family"]
        return [str(choice) for choice in family.choices] if isinstance(family, Categorical) else []

    def _checked(self, name: str, value: object, where: str, problems: list[Problem]) -> Value:
        """Return a value in the type of its parameter; report a problem where it has none."""
        path = f"{where}.{name}"
        if name not in self._space:
            problems.append(self._unknown(name, path))
            return str(value)
        parameter = self._space[name]
        if name == "family" and isinstance(value, str) and value in self._left_out:
            problems.append(self._unknown(str(value), path))
            return str(value)
        if isinstance(value, int) and abs(value) > _LARGEST:
            problems.append(Problem(path, "is too large a number", self._fix(parameter, value)))
            return str(name)
        found = as_value(parameter, value)
        problem = parameter.problem(found) or _off_grid(parameter, found)
        if problem is not None:
            problems.append(Problem(path, problem, self._fix(parameter, value)))
        return found

    def _unknown(self, name: str, path: str) -> Problem:
        family = name.partition(".")[0]
        if family in self._left_out:
            fix = f"Use another family: {', '.join(self._families())}."
            return Problem(path, f"{family} does not work on this model and task", fix)
        known = [*self._space.names, *sorted(self._stems)]
        same = [each for each in known if each.startswith(f"{family}.")] if "." in name else []
        return Problem(path, "is not a parameter of the space", did_you_mean(name, same or known))

    def _fix(self, parameter: Parameter, value: Any) -> str:
        name = parameter.name
        if isinstance(parameter, Categorical):
            return did_you_mean(str(value), map(str, parameter.choices))
        if isinstance(parameter, Int | Float):
            if isinstance(parameter, Float) and parameter.step is not None and _is_number(value):
                return f"Write {parameter.from_unit(parameter.to_unit(float(value))):g}."
            if isinstance(parameter, Int) and _is_number(value) and parameter.low <= value <= parameter.high:
                return f"Write {parameter.from_unit(parameter.to_unit(float(value)))}."
            return f"Write {parameter.low:g} to {parameter.high:g}, or widen space.parameters.{name}."
        if isinstance(parameter, Centered):
            return f"Write {parameter.low:g} to {parameter.high:g}."
        return f"See space.parameters.{name}."

    def _completed(self, given: Mapping[str, Value]) -> tuple[Configuration, list[str]]:
        """Return the configuration with defaults, and the given names that are inactive in it."""
        config = self._space.default(**self._other_switches(given), **given)
        return config, [name for name in given if name not in config]

    def _other_switches(self, given: Mapping[str, Value]) -> Configuration:
        """Return the switches beside those that are given on: they are off, whatever their defaults."""
        found: Configuration = {}
        for mask in self._space.masks:
            switches = [name for name in self._space.names if name.startswith(f"{mask}.")]
            if any(given.get(name) is True for name in switches):
                found |= {name: False for name in switches if name not in given}
        return found

    def _inactive(self, name: str, config: Configuration, where: str) -> Problem:
        parameter = self._space[name]
        broken = {p: values for p, values in parameter.when.items() if config.get(p) not in values}
        needs = " and ".join(f"{p}: {' or '.join(map(str, values))}" for p, values in broken.items())
        has = ", ".join(f"{p} is {config[p]}" for p in broken if p in config)
        what = f"is inactive in this configuration{f', where {has}' if has else ''}"
        return Problem(f"{where}.{name}", what, f"It needs {needs}; change that, or remove this parameter.")

    def _remaining(self, config: Configuration, where: str) -> list[Problem]:
        """Return what is wrong with a complete configuration as a whole."""
        problems = [
            Problem(f"{where}.{text.partition(': ')[0]}", text.partition(": ")[2], "Correct the value.")
            for text in self._space.problems(config)
        ]
        if not problems and (broken := self._broken_limits(config)):
            problems = [Problem(where, broken, "Change the configuration, or relax the limit.")]
        return problems


def as_value(parameter: Parameter, value: Any) -> Value:
    """Return a value in the type that its parameter uses, where it is the same number or text; else unchanged."""
    if isinstance(parameter, Categorical):
        same = [c for c in parameter.choices if c == value and isinstance(c, bool) == isinstance(value, bool)]
        return same[0] if same else value
    if not _is_number(value):
        return value
    if isinstance(parameter, Float) or (isinstance(parameter, Centered) and not parameter.whole):
        return float(value)
    return int(value) if float(value).is_integer() else value


def _off_grid(parameter: Parameter, value: Any) -> str | None:
    """Return why a number is not on the grid of its parameter, or None."""
    if not isinstance(parameter, Float) or parameter.step is None or not _is_number(value):
        return None
    steps = (float(value) - parameter.low) / parameter.step
    if abs(steps - round(steps)) <= _ROUNDING * max(1.0, abs(steps)):
        return None
    return f"{value} is not {parameter.low:g} plus a multiple of {parameter.step:g}"


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST  # an int may exceed every float; NaN is not below it
