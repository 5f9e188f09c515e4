"""The parameters a search space is made of.

A parameter knows its range, its scale, its customary value and when it exists. Everything it does is on
plain Python values; arrays appear only in `space.py`. A parameter maps its value to the unit interval
(`to_unit`, after the logarithm where `log`) so that one distance serves all of them; a nominal choice has no
order, so its unit value is the index of the choice and `nominal` is True. `centered.py` has the parameter that
may leave the unit interval; `structures.py` those that become several once the model is known.
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
"""A configuration: the active parameters alone, by name."""

_ROUNDING = 1e-9
"""Slack, in units of the unit interval, for values that a float round trip moves past a bound."""


@dataclass(frozen=True, kw_only=True)
class Parameter(ABC):
    """One dimension of a search space.

    Args:
        name: unique in its space; a family's own knobs are called `family.knob`.
        when: the parameter exists only where every named parameter exists and has one of the given values.
        default: the customary value, which the first trials include.
    """

    name: str
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    default: Any = None

    nominal = False
    """True where the values have no order."""

    def active(self, config: Mapping[str, Value]) -> bool:
        """Whether the parameter exists, given the values of the parameters it depends on."""
        return all(config.get(parent) in values for parent, values in self.when.items())

    @property
    def unit_range(self) -> tuple[float, float]:
        """The least and the greatest number that `to_unit` gives for an ordered parameter."""
        return 0.0, 1.0

    def spread(self, quantile: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where first draws fall: numbers as `to_unit` gives them at quantiles in [0, 1], of any shape.

        Uniform over the range; of ordered parameters alone.
        """
        return quantile

    @abstractmethod
    def distribution(self) -> BaseDistribution:
        """The optuna distribution with the same range."""

    @abstractmethod
    def to_unit(self, value: Value) -> float:
        """The value as a number: in [0, 1] if ordered, the index of the choice if nominal."""

    @abstractmethod
    def from_unit(self, unit: float) -> Value:
        """The nearest valid value to a number as `to_unit` gives it; numbers outside [0, 1] are clipped."""

    @abstractmethod
    def problem(self, value: object) -> str | None:
        """What is wrong with a value, in words, or None."""


@dataclass(frozen=True, kw_only=True)
class Float(Parameter):
    """A real number in [low, high], uniform, or log-uniform where `log`, on a grid of `step` if given."""

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
        return outside(value, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Int(Parameter):
    """A whole number in [low, high], in steps of `step`, or log-uniform where `log` (then step is 1).

    `by_layer` says that the number may differ between layers: a space file may then ask for a profile.
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
        return outside(value, self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Categorical(Parameter):
    """One of the given choices; `ordered` where their order means something (batch sizes, say)."""

    choices: tuple[Value, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError(f"{self.name}: no choices; give at least one")
        if len(set(map(repr, self.choices))) < len(self.choices):
            raise ValueError(f"{self.name}: a choice appears twice in {list(self.choices)}")
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
    """A parameter that becomes concrete ones once the model is known. Until then it has no values.

    The concrete ones are called `name`, where there is one, or `name.part`.
    """

    switches: ClassVar[bool] = False
    """Whether the parts are switches, of which at least one is on in every configuration."""

    @abstractmethod
    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        """The concrete parameters for a model of `depth` layers whose matrices have these roles; the last
        `decoder_depth` of them are a decoder's above an encoder."""

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
    """How many layers, counted from the output, are adapted; becomes an `Int` once the depth is known.

    The default is all of them. Layers near the output come first because they usually deserve capacity
    most and because training stops going backwards at the lowest adapted layer.
    """

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        default = depth if self.default is None else min(int(self.default), depth)
        return (Int(name=self.name, when=self.when, low=1, high=depth, default=default),)


@dataclass(frozen=True, kw_only=True)
class LayerMask(TopLayers):
    """One switch a layer; becomes a boolean `Categorical` a layer, named `name.0`, `name.1`, …

    A mask with every switch off is not a configuration (`SearchSpace.problems` says so).
    """

    switches: ClassVar[bool] = True

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        return tuple(
            Categorical(name=switch, when=self.when, choices=(False, True), default=True)
            for switch in layer_switches(self.name, depth)
        )


@dataclass(frozen=True, kw_only=True)
class LayerRange(TopLayers):
    """Neighboring layers; becomes `name.count`, how many, and `name.start`, the lowest of them.

    A range that would stick out above the last layer is pushed down: costs depend on the count as it is
    written. The default is every layer, or `default` of them at the top.
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
    """The indices, ascending, that a bound `TopLayers`, `LayerMask` or `LayerRange` called `name` selects, or
    such a one for each side of an encoder-decoder (`structures.Sides`).

    Layer 0 is next to the input; the last `decoder_depth` layers are a decoder's above an encoder. Where the
    configuration says nothing, every layer is adapted.
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
    """Whether the configuration says for each side of an encoder-decoder apart what `name` is."""
    return any(f"{name}.encoder{form}" in config for form in ("", ".count", ".0", ".level"))


@lru_cache(maxsize=1024)
def layer_switches(name: str, depth: int) -> tuple[str, ...]:
    """What the switches of a bound `LayerMask` are called, by layer."""
    return tuple([f"{name}.{layer}" for layer in range(depth)])


def _check_range(name: str, low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name}: the range {low} to {high} is not finite")
    if low > high:
        raise ValueError(f"{name}: low {low} is above high {high}; swap them")
    if log and low <= 0:
        raise ValueError(f"{name}: a logarithmic range needs low above 0, not {low}; raise low or drop log")


def check_default(parameter: Parameter) -> None:
    problem = parameter.problem(parameter.default)
    if problem:
        raise ValueError(f"{parameter.name}: default {problem}")


def outside(value: float, low: float, high: float) -> str | None:
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
