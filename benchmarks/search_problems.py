"""Problems for samplers with two minimized objectives, of which the second one follows from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.pareto import hypervolume
from search_spaces.parameters.types import Configuration, Value
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A search space with an uncertain and a known objective, both minimized and both in logarithms if that suits.

    Args:
        name: Unique name.
        space: The search space.
        error: Returns the noise-free uncertain objective of a configuration.
        observed: Returns what one trial measures of it; takes a configuration and the trial's source of randomness.
        cost: Returns the known objective of a configuration.
        reference: The reference point of the hypervolume, (error, cost).
        best: The hypervolume of the best known front: of all configurations where they can be enumerated.
    """

    name: str
    space: SearchSpace
    error: Callable[[Configuration], float]
    observed: Callable[[Configuration, np.random.Generator], float]
    cost: Callable[[Configuration], float]
    reference: tuple[float, float]
    best: float

    def measure(self, config: Configuration, seed: int, number: int) -> tuple[float, float]:
        """Return the two values that a trial reports; the noise depends on the seed and the trial's number only."""
        return self.observed(config, np.random.default_rng([seed, number])), self.cost(config)

    def gaps(self, configs: Sequence[Configuration]) -> list[float]:
        """Return 1 - HV / HV* of the first 1, 2, … configurations, of their noise-free values."""
        points = np.array([(self.error(config), self.cost(config)) for config in configs])
        volumes = (hypervolume(points[:n], self.reference) for n in range(1, len(points) + 1))
        return [1.0 - volume / self.best for volume in volumes]

    def row(self, config: Configuration) -> list[Value | None]:
        """Return the values in the order of the space, None where a parameter is inactive."""
        return [config.get(name) for name in self.space.names]
