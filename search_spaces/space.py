"""A search space: ordered parameters, the conditions between them, and the encoding for surrogates.

Encoded configurations are float arrays of shape [n, d], with one column per parameter in the order of
`SearchSpace.parameters`: ordered parameters in [0, 1], nominal ones as the index of their choice, and NaN where
the parameter is inactive. A centered parameter may lie outside [0, 1]; see `centered.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search_spaces.parameters.centered import Centered
from search_spaces.parameters.types import (
    Categorical,
    Configuration,
    Float,
    Int,
    Parameter,
    Structured,
    Value,
)


class SuggestingTrial(Protocol):
    """The part of `optuna.Trial` that a space needs."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a real number."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Suggest a whole number."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Suggest one of the choices."""
        ...


@dataclass(frozen=True)
class SearchSpace:
    """An ordered set of parameters, parents before children.

    Args:
        parameters: the parameters; the conditions of each name only parameters before it.
        masks: names of groups of switches `name.*`, in each of which one switch must be on; `bind` adds those
            of structured parameters.

    Raises:
        ValueError: A name appears twice, or a condition names an unknown or later parameter, or a value that
            its parent cannot take.

    Example:
        >>> space = SearchSpace((Int(name="rank", low=1, high=64, log=True),))
        >>> space.default()
        {'rank': 8}
    """

    parameters: tuple[Parameter, ...]
    masks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, Parameter] = {}
        for parameter in self.parameters:
            if parameter.name in seen:
                raise ValueError(f"{parameter.name}: the name appears twice in the space; rename one")
            for parent, values in parameter.when.items():
                if parent not in seen:
                    raise ValueError(
                        f"{parameter.name}: its condition names {parent!r}, which is not a parameter before it"
                    )
                for value in values:
                    problem = seen[parent].problem(value)
                    if problem:
                        raise ValueError(f"{parameter.name}: its condition on {parent}: {problem}")
            seen[parameter.name] = parameter

    @classmethod
    def from_distributions(cls, distributions: Mapping[str, BaseDistribution]) -> SearchSpace:
        """Build an unconditional space from Optuna distributions; categorical ones are nominal."""
        return cls(tuple(_from_distribution(name, d) for name, d in distributions.items()))

    def __getitem__(self, name: str) -> Parameter:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __len__(self) -> int:
        return len(self.parameters)

    @cached_property
    def _by_name(self) -> dict[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(self._by_name)

    @cached_property
    def nominal(self) -> NDArray[np.bool_]:
        """Which columns of an encoded configuration are nominal, shape [d]."""
        return np.array([parameter.nominal for parameter in self.parameters], dtype=bool)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the Optuna distribution of every parameter, by name."""
        return {parameter.name: parameter.distribution() for parameter in self.parameters}

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> SearchSpace:
        """Return the space for a model, with all structured parameters expanded.

        Args:
            depth: number of layers, of both stacks in an encoder-decoder.
            roles: roles of the matrices of a layer.
            decoder_depth: number of layers of a decoder above an encoder, which are the last ones; 0 otherwise.

        Raises:
            ValueError: The model has none of the roles that a parameter chooses from.
        """
        concrete: list[Parameter] = []
        masks = list(self.masks)
        for parameter in self.parameters:
            if isinstance(parameter, Structured):
                concrete.extend(parameter.bind(depth, roles, decoder_depth))
                if parameter.switches:
                    masks.append(parameter.name)
            else:
                concrete.append(parameter)
        return replace(self, parameters=tuple(concrete), masks=tuple(masks))

    def suggest(self, trial: SuggestingTrial) -> Configuration:
        """Suggest every active parameter through an Optuna trial, parents first."""
        config: Configuration = {}
        for parameter in self.parameters:
            if not parameter.active(config):
                continue
            match parameter:
                case Float():
                    value: Value = trial.suggest_float(
                        parameter.name, parameter.low, parameter.high, step=parameter.step, log=parameter.log
                    )
                case Int():
                    value = trial.suggest_int(
                        parameter.name, parameter.low, parameter.high, step=parameter.step, log=parameter.log
                    )
                case Categorical():
                    value = trial.suggest_categorical(parameter.name, list(parameter.choices))
                case Centered(whole=True):
                    value = trial.suggest_int(
                        parameter.name, int(parameter.low), int(parameter.high), log=parameter.kind == "log"
                    )
                case Centered():
                    value = trial.suggest_float(
                        parameter.name, parameter.low, parameter.high, log=parameter.kind == "log"
                    )
                case _:
                    raise ValueError(f"{parameter.name}: call SearchSpace.bind(depth) before suggesting")
            config[parameter.name] = value
        return config

    def problems(self, config: Mapping[str, Value]) -> list[str]:
        """Return the reasons why `config` is not a configuration of this space; empty if it is one."""
        found = []
        for parameter in self.parameters:
            name, active = parameter.name, parameter.active(config)
            if active and name not in config:
                found.append(f"{name}: missing")
            elif not active and name in config:
                found.append(f"{name}: is inactive in this configuration ({_condition(parameter)})")
            elif active:
                problem = parameter.problem(config[name])
                if problem:
                    found.append(f"{name}: {problem}")
        found.extend(f"{name}: not a parameter of this space" for name in config if name not in self)
        for mask in self.masks:
            switches = [on for name, on in config.items() if name.startswith(f"{mask}.")]
            if switches and not any(switches):
                found.append(f"{mask}: every switch is off; turn one on")
        return found

    def validate(self, config: Mapping[str, Value]) -> None:
        """Raise ValueError with all problems of `config` if it is not a configuration of this space."""
        problems = self.problems(config)
        if problems:
            raise ValueError("not a configuration of the space:\n  " + "\n  ".join(problems))

    def sample(self, rng: np.random.Generator) -> Configuration:
        """Draw a configuration from the prior: uniform in the encoded space, normal for centered parameters.

        Draws with a mask whose switches are all off are rejected.
        """
        while True:
            config: Configuration = {}
            for parameter in self.parameters:
                if parameter.active(config):
                    config[parameter.name] = _draw(parameter, rng)
            if not self.problems(config):
                return config

    def from_units(self, units: Sequence[float]) -> Configuration:
        """Return the configuration at a point of the unit cube, for low-discrepancy sequences.

        Args:
            units: one coordinate in [0, 1] per parameter. Choices of a categorical parameter have equal shares
                of their coordinate; coordinates of inactive parameters are ignored.
        """
        config: Configuration = {}
        for parameter, unit in zip(self.parameters, units, strict=True):
            if not parameter.active(config):
                continue
            if isinstance(parameter, Categorical):
                index = min(int(unit * len(parameter.choices)), len(parameter.choices) - 1)
                config[parameter.name] = parameter.choices[index]
            else:
                config[parameter.name] = parameter.from_unit(_spread(parameter, unit))
        return config

    def default(self, **fixed: Value) -> Configuration:
        """Return the default configuration.

        Args:
            fixed: values by parameter name that replace the defaults.
        """
        config: Configuration = {}
        for parameter in self.parameters:
            if parameter.active(config):
                config[parameter.name] = fixed.get(parameter.name, parameter.default)
        return config

    def defaults(self) -> list[Configuration]:
        """Return the default configuration of each family, or one default for a space without families."""
        family = self._by_name.get("family")
        if not isinstance(family, Categorical):
            return [self.default()]
        return [self.default(family=choice) for choice in family.choices]

    def encode(self, configs: Iterable[Mapping[str, Value]]) -> NDArray[np.float64]:
        """Encode n configurations to shape [n, d], as the module docstring says; values are not validated."""
        rows = [
            [
                parameter.to_unit(config[parameter.name]) if parameter.name in config else np.nan
                for parameter in self.parameters
            ]
            for config in configs
        ]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.parameters))

    def decode(self, encoded: NDArray[np.float64]) -> list[Configuration]:
        """Decode rows of shape [n, d] to the nearest configurations.

        Conditions determine which parameters are active; an active parameter whose column is NaN takes its default.
        """
        configs = []
        for row in np.atleast_2d(encoded):
            config: Configuration = {}
            for parameter, unit in zip(self.parameters, row, strict=True):
                if parameter.active(config):
                    known = not np.isnan(unit)
                    config[parameter.name] = parameter.from_unit(float(unit)) if known else parameter.default
            configs.append(config)
        return configs


def _draw(parameter: Parameter, rng: np.random.Generator) -> Value:
    if isinstance(parameter, Categorical):
        return parameter.choices[int(rng.integers(len(parameter.choices)))]
    return parameter.from_unit(_spread(parameter, float(rng.random())))


def _spread(parameter: Parameter, quantile: float) -> float:
    return float(parameter.spread(np.asarray(quantile)))


def _condition(parameter: Parameter) -> str:
    return "needs " + " and ".join(f"{p} in {list(values)}" for p, values in parameter.when.items())


def _from_distribution(name: str, distribution: BaseDistribution) -> Parameter:
    match distribution:
        case FloatDistribution():
            return Float(
                name=name,
                low=distribution.low,
                high=distribution.high,
                log=distribution.log,
                step=distribution.step,
            )
        case IntDistribution():
            return Int(
                name=name,
                low=distribution.low,
                high=distribution.high,
                log=distribution.log,
                step=distribution.step,
            )
        case CategoricalDistribution():
            return Categorical(name=name, choices=tuple(distribution.choices))  # type: ignore[arg-type]
        case _:
            raise ValueError(
                f"{name}: {distribution!r} is not a Float-, Int- or CategoricalDistribution of optuna.distributions"
            )
