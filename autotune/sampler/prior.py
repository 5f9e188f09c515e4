"""Priors on good regions of a search space, which guide a search early and fade with evidence.

The method is πBO (Hvarfner et al. 2022, arXiv 2204.11051, eq. 6): proposal n after startup maximizes the acquisition
function times π(x)^(β/n), so that a wrong prior loses its influence as trials accumulate. Part of the startup design
and of the candidates is drawn from the prior as well.

The marginal of every parameter is relative to its mode, where its density is 1. So the prior on a parameter of one
family does not raise or lower that family against the others, for which the parameter is inactive; that on `family`
does. Far from a center the density is 0.01, not that of a normal distribution, so that tens of trials overcome a
wrong prior.

Shapes: c encoded rows of d columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from autotune.sampler.candidates import EncodedSpace
from search_spaces.parameters.centered import UNITS_PER_SCALE, Centered
from search_spaces.parameters.types import (
    Categorical,
    Float,
    Int,
    Parameter,
    Value,
    range_problem,
)
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]

STRENGTH = 3.0
"""Default β: the third proposal after startup multiplies the acquisition function by π itself.

On `benchmarks.priors`, 10 found no better fronts with a right prior and took longer to overcome a wrong one.
"""
_DOUBT = 0.01
"""Density far from a center, relative to the mode.

With the tails of a normal distribution, a narrow prior ten spreads from the optimum would keep the search away from
it for hundreds of trials.
"""
_TAIL = 1e-9
"""Quantiles are kept this far from 0 and 1, where those of a normal distribution are infinite."""


@dataclass(frozen=True, kw_only=True)
class Near:
    """A normal prior on an ordered parameter, truncated to its range.

    Args:
        center: the most likely value.
        spread: one standard deviation: a factor above 1 for a logarithmic parameter, such as 3; places in the list
            for ordered choices; otherwise a difference, such as 1 epoch.
    """

    center: Value
    spread: float


@dataclass(frozen=True)
class Weights:
    """A prior on choices.

    Args:
        of: relative weight by choice; every other choice has the weight 1.
    """

    of: Mapping[Value, float]


Marginal = Near | Weights


@dataclass(frozen=True)
class Prior:
    """A prior on the configurations of a space, as independent priors on its parameters.

    Args:
        marginals: the prior on each parameter, by name. Names that a space does not have are ignored.
        strength: β; the prior's influence on proposal n after startup is β/n.

    Raises:
        ValueError: The strength is not positive.

    Example:
        >>> prior = Prior({"lr": Near(center=3e-4, spread=3.0), "family": Weights({"lora": 3.0})})
    """

    marginals: Mapping[str, Marginal]
    strength: float = STRENGTH

    def __post_init__(self) -> None:
        if not 0 < self.strength < math.inf:
            raise ValueError(f"prior: the strength {self.strength} is not a number above 0")

    def check(self, space: SearchSpace) -> None:
        """Raise ValueError if a marginal does not fit its parameter of a space."""
        for name, marginal in self.marginals.items():
            if name in space and (problem := marginal_problem(space[name], marginal)):
                raise ValueError(f"prior: {name}: {problem}")

    def on(self, columns: EncodedSpace) -> EncodedPrior:
        """Return the prior on the encoded configurations of a space."""
        space = columns.space
        names = [name for name in space.names if name in self.marginals and name not in columns.fixed]
        return EncodedPrior(columns, {name: self.marginals[name] for name in names}, self.strength)


class EncodedPrior:
    """A prior on the encoded configurations of a space.

    Args:
        columns: the encoded space.
        marginals: the prior on each parameter, by name; all names are in the space.
        strength: see `Prior`.
    """

    def __init__(self, columns: EncodedSpace, marginals: Mapping[str, Marginal], strength: float) -> None:
        space = columns.space
        self._columns = columns
        self._strength = strength
        self._normal: dict[int, tuple[float, float]] = {}
        self._shares: dict[int, tuple[Array, Array]] = {}
        for name, marginal in marginals.items():
            parameter, j = space[name], space.names.index(name)
            if isinstance(marginal, Near):
                self._normal[j] = parameter.to_unit(marginal.center), _unit_spread(parameter, marginal.spread)
            else:
                assert isinstance(parameter, Categorical)
                units = np.array([parameter.to_unit(choice) for choice in parameter.choices])
                weights = np.array([float(marginal.of.get(choice, 1.0)) for choice in parameter.choices])
                self._shares[j] = units, weights

    def log_density(self, rows: Array) -> Array:
        """Return the log density of encoded rows [c, d] relative to the mode, at most 0, shape [c].

        Inactive parameters do not count.
        """
        total = np.zeros(len(rows))
        for j, (center, spread) in self._normal.items():
            distance = np.nan_to_num((rows[:, j] - center) / spread)
            total += np.log(_DOUBT + (1.0 - _DOUBT) * np.exp(-0.5 * distance**2))
        for j, (units, weights) in self._shares.items():
            active = np.flatnonzero(~np.isnan(rows[:, j]))
            nearest = np.abs(rows[active, j][:, None] - units).argmin(axis=1)
            total[active] += np.log(weights[nearest] / weights.max())
        return total

    def log_bonus(self, rows: Array, proposal: int) -> Array:
        """Return what is added to the log acquisition of encoded rows [c, d], shape [c].

        Args:
            rows: the encoded rows.
            proposal: number of the proposal after startup, counted from 1.
        """
        return self._strength / max(proposal, 1) * self.log_density(rows)

    def draw(self, units: Array, rng: np.random.Generator) -> Array:
        """Return encoded rows of the prior at points of the unit cube, shape [c, d].

        Parameters without a marginal are distributed as `EncodedSpace.random`.
        """
        raw = self._columns.from_unit_cube(units)
        for j, (center, spread) in self._normal.items():
            low, high = self._columns.space.parameters[j].unit_range
            inside = ndtr((np.array([low, high]) - center) / spread)
            quantiles = np.clip(inside[0] + units[:, j] * (inside[1] - inside[0]), _TAIL, 1.0 - _TAIL)
            raw[:, j] = np.clip(center + spread * ndtri(quantiles), low, high)
        for j, (choices, weights) in self._shares.items():
            ends = np.cumsum(weights) / weights.sum()
            place = np.searchsorted(ends, units[:, j], side="right")
            raw[:, j] = choices[np.minimum(place, len(choices) - 1)]
        return self._columns.resolve(raw, rng)

    def random(self, count: int, rng: np.random.Generator) -> Array:
        """Draw encoded rows of the prior, shape [count, d]."""
        return self.draw(rng.random((count, len(self._columns.space))), rng)

    def sobol(self, count: int, seed: int) -> Array:
        """Return points of a scrambled Sobol sequence in the prior's quantiles, encoded, shape [count, d]."""
        return self.draw(self._columns.sobol_units(0, count, seed), np.random.default_rng(seed))


def marginal_problem(parameter: Parameter, marginal: Marginal) -> str | None:
    """Return why a marginal does not fit a parameter, or None."""
    if isinstance(marginal, Weights):
        return _weights_problem(parameter, marginal)
    if parameter.nominal:
        return "its values have no order; give weights of choices"
    if problem := _center_problem(parameter, marginal.center):
        return f"the center {problem}"
    is_factor = _is_log(parameter)
    if not (0 < marginal.spread < math.inf) or (is_factor and marginal.spread <= 1):
        least = "1; on a logarithmic scale it is a factor, such as 3" if is_factor else "0"
        return f"the spread {marginal.spread:g} is not a number above {least}"
    return None


def _center_problem(parameter: Parameter, center: Value) -> str | None:
    """Return why a center is invalid; that of a whole number may lie between two of them."""
    if isinstance(parameter, Categorical):
        return parameter.problem(center)
    if not isinstance(center, int | float) or isinstance(center, bool) or not math.isfinite(center):
        return f"{center!r} is not a number"
    assert isinstance(parameter, Float | Int | Centered)
    return range_problem(center, parameter.low, parameter.high)


def _weights_problem(parameter: Parameter, marginal: Weights) -> str | None:
    if not isinstance(parameter, Categorical):
        return "it is a number; give a center and a spread"
    for choice, weight in marginal.of.items():
        if problem := parameter.problem(choice):
            return problem
        if not 0 < weight < math.inf:
            return f"the weight {weight:g} of {choice!r} is not a number above 0"
    return None


def _is_log(parameter: Parameter) -> bool:
    match parameter:
        case Centered(kind=kind):
            return kind != "linear"
        case Float(log=log) | Int(log=log):
            return log
        case _:
            return False


def _unit_spread(parameter: Parameter, spread: float) -> float:
    """Return a spread in units of `Parameter.to_unit`."""
    match parameter:
        case Centered():
            own = math.log10(spread) if _is_log(parameter) else spread
            return own / parameter.scale * UNITS_PER_SCALE
        case Categorical(choices=choices):
            return spread / max(len(choices) - 1, 1)
        case Float(low=low, high=high) | Int(low=low, high=high):
            if low == high:
                return 1.0
            return math.log(spread) / math.log(high / low) if _is_log(parameter) else spread / (high - low)
    raise TypeError(f"{parameter.name}: {type(parameter).__name__} takes no center")
