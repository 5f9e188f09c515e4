"""The parameters of a search space.

A parameter has a range, a scale, a default and a condition under which it is active. Its methods work on plain
Python values; `space.py` has the array code. `to_unit` maps a value to the unit interval, after the logarithm where
`log` is set, so that one distance serves all parameters. A nominal choice has no order: its unit value is the index
of the choice, and `nominal` is True. `centered.py` has the parameter whose values may leave the unit interval, and
`structured.py` the parameters that expand to several once the model is known.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Value = bool | int | float | str
Configuration = dict[str, Value]
"""A configuration: the values of the active parameters, by name."""

_ROUNDING = 1e-9
"""Relative slack for values that the rounding of an encoding moves past a bound."""


@dataclass(frozen=True, kw_only=True)
class Parameter(ABC):
    """One dimension of a search space.

    Args:
        name: name, unique in the space; parameters of a family are called `family.name`.
        when: condition: allowed values by parent parameter. The parameter is active only if every parent is
            active and has one of these values.
        default: default value, which the startup trials include.
    """

    name: str
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    default: Any = None

    nominal = False
    """Whether the values have no order."""

    def active(self, config: Mapping[str, Value]) -> bool:
        """Return whether the parameter is active, given the values of its parents."""
        return all(config.get(parent) in values for parent, values in self.when.items())

    @property
    def unit_range(self) -> tuple[float, float]:
        """The smallest and the largest result of `to_unit` for an ordered parameter."""
        return 0.0, 1.0

    def spread(self, quantile: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the quantiles of the prior of an ordered parameter, in units of `to_unit`.

        Args:
            quantile: numbers in [0, 1] of any shape.

        Returns:
            Encoded values of the same shape. The prior is uniform unless a subclass overrides this method.
        """
        return quantile

    @abstractmethod
    def distribution(self) -> BaseDistribution:
        """Return the Optuna distribution with the same range."""

    @abstractmethod
    def to_unit(self, value: Value) -> float:
        """Encode a value as a number: in [0, 1] if ordered, the index of the choice if nominal."""

    @abstractmethod
    def from_unit(self, unit: float) -> Value:
        """Decode a number of `to_unit` to the nearest valid value; numbers outside the range are clipped."""

    @abstractmethod
    def problem(self, value: object) -> str | None:
        """Return why a value is invalid, or None if it is valid."""


@dataclass(frozen=True, kw_only=True)
class Float(Parameter):
    """A real number in [low, high].

    Args:
        low: lower bound, inclusive.
        high: upper bound, inclusive.
        log: whether the prior is uniform on a logarithmic scale.
        step: spacing of the grid of values, from `low` upwards; None for a continuous range.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, self.log)
        if self.default is None:
            object.__setattr__(self, "default", self.from_unit(0.5))
        check_default(self)

    def distribution(self) -> FloatDistribution:
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def to_unit(self, value: Value) -> float:
        return _to_unit(float(value), self.low, self.high, self.log)

    def from_unit(self, unit: float) -> float:
        value = _from_unit(unit, self.low, self.high, self.log)
        if self.step is not None:
            last = math.floor((self.high - self.low) / self.step + _ROUNDING)
            value = self.low + min(round((value - self.low) / self.step), last) * self.step
        return min(max(float(value), self.low), self.high)

    def problem(self, value: object) -> str | None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return f"{value!r} is not a number"
        return range_problem(value, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Int(Parameter):
    """A whole number in [low, high].

    Args:
        low: lower bound, inclusive.
        high: upper bound, inclusive.
        log: whether the prior is uniform on a logarithmic scale; requires `step` 1.
        step: spacing of the values, from `low` upwards.
        by_layer: whether the number may differ between layers, so that a space file may ask for a profile.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    by_layer: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, self.log)
        if self.default is None:
            object.__setattr__(self, "default", self.from_unit(0.5))
        check_default(self)

    def distribution(self) -> IntDistribution:
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def to_unit(self, value: Value) -> float:
        return _to_unit(float(value), self.low, self.high, self.log)

    def from_unit(self, unit: float) -> int:
        value = _from_unit(unit, self.low, self.high, self.log)
        steps = round((value - self.low) / self.step)
        last = (self.high - self.low) // self.step
        return self.low + self.step * min(max(steps, 0), last)

    def problem(self, value: object) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{value!r} is not a whole number"
        if (value - self.low) % self.step:
            return f"{value} is not {self.low} plus a multiple of {self.step}"
        return range_problem(value, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Categorical(Parameter):
    """One of several choices.

    Args:
        choices: the values, at least one and without repetitions.
        ordered: whether the order of the choices is meaningful, as for batch sizes.
    """

    choices: tuple[Value, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError(f"{self.name}: it has no choices; give at least one")
        if len(set(map(repr, self.choices))) < len(self.choices):
            raise ValueError(f"{self.name}: a choice appears twice in {list(self.choices)}; keep each once")
        if self.default is None:
            object.__setattr__(self, "default", self.choices[0])
        check_default(self)

    @property
    def nominal(self) -> bool:  # type: ignore[override]
        return not self.ordered

    def distribution(self) -> CategoricalDistribution:
        return CategoricalDistribution(self.choices)

    def to_unit(self, value: Value) -> float:
        index = self.choices.index(value)
        return index / max(len(self.choices) - 1, 1) if self.ordered else float(index)

    def from_unit(self, unit: float) -> Value:
        last = len(self.choices) - 1
        index = round(unit * last) if self.ordered else round(unit)
        return self.choices[min(max(index, 0), last)]

    def problem(self, value: object) -> str | None:
        if any(value == choice and type(value) is type(choice) for choice in self.choices):
            return None
        return f"{value!r} is not one of {list(self.choices)}"


@dataclass(frozen=True, kw_only=True)
class Structured(Parameter):
    """A parameter that expands to concrete parameters once the model is known; it has no values before.

    A single concrete parameter keeps the name; several are called `name.suffix`.
    """

    switches: ClassVar[bool] = False
    """Whether the concrete parameters are switches, at least one of which is on in every configuration."""

    @abstractmethod
    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        """Return the concrete parameters for a model.

        Args:
            depth: number of layers, of both stacks in an encoder-decoder.
            roles: roles of the matrices of a layer.
            decoder_depth: number of layers of a decoder above an encoder, which are the last ones; 0 otherwise.
        """

    def distribution(self) -> BaseDistribution:
        raise self._unbound()

    def to_unit(self, value: Value) -> float:
        raise self._unbound()

    def from_unit(self, unit: float) -> Value:
        raise self._unbound()

    def problem(self, value: object) -> str | None:
        raise self._unbound()

    def _unbound(self) -> ValueError:
        return ValueError(f"{self.name}: depends on the model's depth; call SearchSpace.bind(depth) first")


@dataclass(frozen=True, kw_only=True)
class TopLayers(Structured):
    """The number of adapted layers, counted from the output; it expands to an `Int`.

    The default is all layers. Counting starts at the output because backpropagation ends at the lowest adapted
    layer, so that few layers are cheap, and because upper layers usually benefit most from adaptation.
    """

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        default = depth if self.default is None else min(int(self.default), depth)
        return (Int(name=self.name, when=self.when, low=1, high=depth, default=default),)


@dataclass(frozen=True, kw_only=True)
class LayerMask(TopLayers):
    """One switch per layer; it expands to boolean `Categorical`s called `name.0`, `name.1`, ...

    A configuration in which every switch is off is invalid (see `SearchSpace.problems`).
    """

    switches: ClassVar[bool] = True

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        return tuple(
            Categorical(name=switch, when=self.when, choices=(False, True), default=True)
            for switch in layer_switches(self.name, depth)
        )


@dataclass(frozen=True, kw_only=True)
class LayerRange(TopLayers):
    """A contiguous range of layers; it expands to `name.count` and `name.start`, the lowest layer.

    A range that exceeds the last layer is shifted down, so that its count, and with it the cost, stays as given.
    The default is all layers, or the `default` uppermost ones.
    """

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        count = depth if self.default is None else min(int(self.default), depth)
        return (
            Int(name=f"{self.name}.count", when=self.when, low=1, high=depth, default=count),
            Int(name=f"{self.name}.start", when=self.when, low=0, high=depth - 1, default=depth - count),
        )


def adapted_layers(
    config: Mapping[str, Value], name: str, depth: int, decoder_depth: int = 0
) -> tuple[int, ...]:
    """Return the layers that a configuration adapts.

    Args:
        config: a configuration with the concrete parameters of a `TopLayers`, `LayerMask` or `LayerRange`, or
            of one for each side of an encoder-decoder (`structured.Sides`). Without any, all layers are adapted.
        name: name of that parameter.
        depth: number of layers, of both stacks in an encoder-decoder.
        decoder_depth: number of layers of a decoder above an encoder, which are the last ones; 0 otherwise.

    Returns:
        Ascending layer indices; layer 0 is next to the input.
    """
    if decoder_depth and has_sides(config, name):
        encoder = depth - decoder_depth
        below = adapted_layers(config, f"{name}.encoder", encoder)
        above = adapted_layers(config, f"{name}.decoder", decoder_depth)
        return (*below, *[encoder + layer for layer in above])
    if name in config:
        count = int(config[name])
        return tuple(range(depth - count, depth))
    if f"{name}.count" in config:
        count = min(int(config[f"{name}.count"]), depth)
        start = min(int(config.get(f"{name}.start", 0)), depth - count)
        return tuple(range(start, start + count))
    if f"{name}.0" in config:
        return tuple(
            [layer for layer, switch in enumerate(layer_switches(name, depth)) if config.get(switch)]
        )
    return tuple(range(depth))


def has_sides(config: Mapping[str, Value], name: str) -> bool:
    """Return whether the configuration has values of `name` for each side of an encoder-decoder."""
    return any(f"{name}.encoder{form}" in config for form in ("", ".count", ".0", ".level"))


@lru_cache(maxsize=1024)
def layer_switches(name: str, depth: int) -> tuple[str, ...]:
    """Return the names of the switches of a `LayerMask`, by layer."""
    return tuple([f"{name}.{layer}" for layer in range(depth)])


def _check_range(name: str, low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name}: the range {low} to {high} is not finite; give finite bounds")
    if low > high:
        raise ValueError(f"{name}: low {low} is above high {high}; swap them")
    if log and low <= 0:
        raise ValueError(f"{name}: a logarithmic range needs low above 0, not {low}; raise low or drop log")


def check_default(parameter: Parameter) -> None:
    """Raise ValueError if the parameter's default is not one of its values."""
    problem = parameter.problem(parameter.default)
    if problem:
        raise ValueError(f"{parameter.name}: default {problem}")


def range_problem(value: float, low: float, high: float) -> str | None:
    """Return an error text if a value is outside [low, high] by more than rounding, or None."""
    slack = _ROUNDING * max(abs(low), abs(high), high - low)
    if low - slack <= value <= high + slack:
        return None
    return f"{value} is outside {low} to {high}"


def _to_unit(value: float, low: float, high: float, log: bool) -> float:
    if high == low:
        return 0.5
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _from_unit(unit: float, low: float, high: float, log: bool) -> float:
    unit = min(max(unit, 0.0), 1.0)
    if log:
        return math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
    return low + unit * (high - low)
