"""Candidate configurations: startup points, random points, neighbors, and the enumeration of a small space.

`EncodedSpace` applies conditions, grids and masks to many encoded rows at once, as `SearchSpace` does to one
configuration. Encoded rows have shape [c, d] as `SearchSpace.encode` returns them, with NaN where a parameter is
inactive. Raw rows have a value in every column: conditions are not applied yet.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from search_spaces.parameters.centered import Centered
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Parameter, Value
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]

_MAX_GRID = 1024
"""Ranges with more values than this are treated as continuous; decoding rounds them."""


class EncodedSpace:
    """Vectorized sampling and perturbation of the encoded configurations of a space.

    Args:
        space: a search space that is bound to a model.
        fixed: values by parameter name that every configuration takes where the parameter is active; names
            and values that the space does not have are ignored.
    """

    def __init__(self, space: SearchSpace, fixed: Mapping[str, Value] | None = None) -> None:
        self.space = space
        names = space.names
        self.fixed = {
            name: value
            for name, value in (fixed or {}).items()
            if name in space and space[name].problem(value) is None
        }
        self._fixed = {names.index(name): space[name].to_unit(value) for name, value in self.fixed.items()}
        self._grids = [_grid(parameter) for parameter in space.parameters]
        self._values = [
            [] if grid is None else [parameter.from_unit(float(unit)) for unit in grid]
            for parameter, grid in zip(space.parameters, self._grids, strict=True)
        ]
        self._conditions = [
            [
                (names.index(parent), np.array([space[parent].to_unit(value) for value in values]))
                for parent, values in parameter.when.items()
            ]
            for parameter in space.parameters
        ]
        self._masks = [
            [j for j, name in enumerate(names) if name.startswith(f"{mask}.")] for mask in space.masks
        ]

    def random(self, count: int, rng: np.random.Generator) -> Array:
        """Draw encoded rows of shape [count, d], distributed as `SearchSpace.sample`."""
        return self.resolve(self.from_unit_cube(rng.random((count, len(self.space)))), rng)

    def sobol(self, start: int, count: int, seed: int) -> Array:
        """Return points `start` to `start + count` of a scrambled Sobol sequence, encoded, shape [count, d]."""
        units = self.sobol_units(start, count, seed)
        return self.resolve(self.from_unit_cube(units), np.random.default_rng(seed))

    def sobol_units(self, start: int, count: int, seed: int) -> Array:
        """Return points `start` to `start + count` of a scrambled Sobol sequence, shape [count, d], in [0, 1]."""
        from scipy.stats.qmc import Sobol  # slow to import; reading a sweep does not need it

        sobol = Sobol(max(len(self.space), 1), scramble=True, rng=seed)
        with warnings.catch_warnings():
            # A count that is not a power of two loses the balance of the last few points; acceptable here.
            warnings.simplefilter("ignore", UserWarning)
            return np.asarray(sobol.random(start + count)[start:, : len(self.space)])

    def neighbors(self, base: Array, count: int, step: float, rng: np.random.Generator) -> Array:
        """Return random rows of `base`, each with one or two active parameters changed.

        Ordered values move by a normal step, at least to the next value of their grid. Nominal values change to
        another choice. Parameters that become active are drawn at random.

        Args:
            base: encoded rows, shape [k, d].
            count: number of neighbors.
            step: standard deviation of the step, in units of the encoded range.
            rng: source of randomness.

        Returns:
            Encoded rows of shape [count, d].
        """
        return self.perturb(base[rng.integers(len(base), size=count)], step, rng)

    def perturb(self, parents: Array, step: float, rng: np.random.Generator) -> Array:
        """Return one neighbor of each encoded row of `parents` [k, d], as in `neighbors`; shape [k, d]."""
        count = len(parents)
        raw = np.where(np.isnan(parents), self.from_unit_cube(rng.random(parents.shape)), parents)
        movable = ~np.isnan(parents) & np.array([self._movable(j) for j in range(len(self.space))])
        # The largest random key selects one column; in half of the rows the second largest selects another.
        keys = np.where(movable, rng.random(parents.shape), -1.0)
        picks = np.argsort(-keys, axis=1)[:, :2]
        twice = rng.random(count) < 0.5
        for place in range(picks.shape[1]):
            for j in range(len(self.space)):
                rows = np.flatnonzero((picks[:, place] == j) & movable[:, j] & (twice if place else True))
                if len(rows):
                    raw[rows, j] = self._perturb_column(j, raw[rows, j], step, rng)
        return self.resolve(raw, rng)

    def from_unit_cube(self, units: Array) -> Array:
        """Return raw rows at points of the unit cube, shape [c, d]; choices get equal shares of their axis."""
        raw = units.copy()
        for j, parameter in enumerate(self.space.parameters):
            if isinstance(parameter, Categorical):
                last = len(parameter.choices) - 1
                index = np.minimum(np.floor(units[:, j] * (last + 1)), last)
                raw[:, j] = index / max(last, 1) if parameter.ordered else index
            else:
                raw[:, j] = parameter.spread(units[:, j])
        return raw

    def configurations(self, rows: Array) -> list[Configuration]:
        """Decode encoded rows of shape [c, d], whose conditions are applied, to c configurations."""
        configs: list[Configuration] = [{} for _ in rows]
        for j, parameter in enumerate(self.space.parameters):
            active = np.flatnonzero(~np.isnan(rows[:, j]))
            grid, values = self._grids[j], self._values[j]
            units = rows[active, j]
            if grid is not None:
                column = [values[place] for place in _nearest(grid, units).tolist()]
            elif isinstance(parameter, Float) and parameter.step is None:
                column = _floats(parameter, units).tolist()
            elif isinstance(parameter, Centered) and not parameter.whole:
                column = parameter.from_units(units).tolist()
            else:
                column = [parameter.from_unit(unit) for unit in units.tolist()]
            for i, value in zip(active.tolist(), column, strict=True):
                configs[i][parameter.name] = value
        return configs

    def keys(self, rows: Array) -> list[bytes]:
        """Return one key per encoded row, equal for equal configurations; 10 decimals absorb rounding."""
        whole = np.where(np.isnan(rows), np.inf, np.round(rows, 10)) + 0.0
        return [row.tobytes() for row in whole]

    def _movable(self, j: int) -> bool:
        grid = self._grids[j]
        return j not in self._fixed and (grid is None or len(grid) > 1)

    def _perturb_column(self, j: int, values: Array, step: float, rng: np.random.Generator) -> Array:
        grid = self._grids[j]
        if self.space.parameters[j].nominal:
            assert grid is not None
            return (values + rng.integers(1, len(grid), size=len(values))) % len(grid)
        moved = values + step * rng.standard_normal(len(values))
        low, high = self.space.parameters[j].unit_range
        # Reflection at the bounds; clipping alone would accumulate probability there.
        moved = np.where(moved < low, 2 * low - moved, np.where(moved > high, 2 * high - moved, moved))
        moved = np.clip(moved, low, high)
        if grid is None:
            return moved
        old, new = _nearest(grid, values), _nearest(grid, moved)
        nudge = np.where(old == 0, 1, np.where(old == len(grid) - 1, -1, rng.choice([-1, 1], len(values))))
        return grid[np.where(new == old, old + nudge, new)]

    def resolve(self, raw: Array, rng: np.random.Generator) -> Array:
        """Apply fixed values, grids, conditions and masks to raw rows, which gives encoded rows."""
        rows = raw.copy()
        for j, value in self._fixed.items():
            rows[:, j] = value
        for j, grid in enumerate(self._grids):
            if grid is not None:
                rows[:, j] = grid[_nearest(grid, rows[:, j])]
            else:
                rows[:, j] = _rounded(self.space.parameters[j], rows[:, j])
        whole = rows.copy()
        self._apply_conditions(rows)
        for switches in self._masks:
            off = (rows[:, switches] == 0).any(axis=1) & ~(rows[:, switches] > 0).any(axis=1)
            for i in np.flatnonzero(off):
                whole[i, rng.choice(switches)] = 1.0
            rows[off] = whole[off]
        self._apply_conditions(rows)  # a switch that was turned on may have further parameters
        return rows

    def _apply_conditions(self, rows: Array) -> None:
        for j, conditions in enumerate(self._conditions):
            for parent, values in conditions:
                rows[~np.isin(rows[:, parent], values), j] = np.nan


def _grid(parameter: Parameter) -> Array | None:
    """Return the encoded values of a parameter in ascending order, or None if it is (nearly) continuous."""
    match parameter:
        case Categorical():
            return np.array([parameter.to_unit(choice) for choice in parameter.choices])
        case Int(low=low, high=high, step=step) if (high - low) // step < _MAX_GRID:
            return np.array([parameter.to_unit(value) for value in range(low, high + 1, step)])
        case Float(low=low, high=high) | Centered(low=low, high=high) if low == high:
            return np.array([parameter.to_unit(low)])
        case Centered(low=low, high=high, whole=True) if high - low < _MAX_GRID:
            return parameter.to_units(np.arange(low, high + 1))
        case Float(low=low, high=high, step=float() as step) if (high - low) / step < _MAX_GRID:
            count = round((high - low) / step)
            return np.array([parameter.to_unit(parameter.from_unit(k / count)) for k in range(count + 1)])
        case _:
            return None


def _rounded(parameter: Parameter, units: Array) -> Array:
    """Round encoded values to a grid that is too fine to enumerate; return other values unchanged."""
    match parameter:
        case Int(low=low, high=high, log=True):
            values = np.round(np.exp(np.log(low) + units * np.log(high / low)))
            return np.log(np.clip(values, low, high) / low) / np.log(high / low)
        case Int(low=low, high=high, step=step) | Float(low=low, high=high, step=float() as step):
            steps = np.round(units * (high - low) / step)
            return np.clip(steps * step / (high - low), 0.0, 1.0)
        case Centered():
            return parameter.to_units(parameter.from_units(units)) if parameter.whole else units
        case _:
            return units


def _floats(parameter: Float, units: Array) -> Array:
    """`parameter.from_unit` over an array, for a range without steps."""
    low, high = parameter.low, parameter.high
    values = low * np.exp(units * np.log(high / low)) if parameter.log else low + units * (high - low)
    return np.clip(values, low, high)


def _nearest(grid: Array, values: Array) -> NDArray[np.int_]:
    """Return the index of the grid value that is nearest to each value."""
    right = np.clip(np.searchsorted(grid, values), 1, max(len(grid) - 1, 1))
    if len(grid) == 1:
        return np.zeros(len(values), dtype=int)
    left_is_nearer = values - grid[right - 1] <= grid[right] - values
    return np.where(left_is_nearer, right - 1, right)


def enumerate_configurations(space: SearchSpace) -> Iterator[Configuration] | None:
    """Iterate over all configurations of a finite space; return None if a parameter is continuous."""
    choices: list[list[Value]] = []
    for parameter in space.parameters:
        match parameter:
            case Categorical():
                choices.append(list(parameter.choices))
            case Int(low=low, high=high, step=step):
                choices.append(list(range(low, high + 1, step)))
            case Float(low=low, high=high) if low == high:
                choices.append([low])
            case Float(low=low, high=high, step=float() as step):
                count = round((high - low) / step)
                choices.append([parameter.from_unit(k / count) for k in range(count + 1)])
            case _:
                return None
    return _enumerate(space, choices, 0, {})


def _enumerate(
    space: SearchSpace, choices: list[list[Value]], depth: int, config: Configuration
) -> Iterator[Configuration]:
    if depth == len(choices):
        if not space.problems(config):
            yield dict(config)
        return
    parameter = space.parameters[depth]
    if not parameter.active(config):
        yield from _enumerate(space, choices, depth + 1, config)
        return
    for value in choices[depth]:
        yield from _enumerate(space, choices, depth + 1, {**config, parameter.name: value})
