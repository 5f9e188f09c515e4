"""Targets and sources of transfer between studies: recorded trials and tasks that are related to them, and FCNet.

`adapters`: the source is what was measured on SST-2, 60 of the 195 recorded trials of `benchmarks.front_surrogate`,
drawn per seed. The target is another task for each seed: extremely randomized trees of the recorded trials with every
learning rate multiplied by 10^N(0, 0.4) and an offset N(0, 0.04) of each family's accuracy. So the best learning rate
and the order of the families differ from those of the source, and the source's noise is that of its single runs. A
`reversed` source has the errors of these trials in reverse, and an `unrelated` one has them permuted at random.

`fcnet`: the target is one of the four tables of `benchmarks.fcnet`, and the sources are searches of the other three
from a cold start with the same seed: the trials of their own runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.pareto import hypervolume
from autotune.sampler.sources import SourceTrials
from benchmarks import fcnet, front_surrogate
from benchmarks.front_records import SMALLEST
from benchmarks.search_problems import Problem
from search_spaces.parameters.types import Configuration, Float, Value
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]

ADAPTERS = "adapters"
_RECORDED = 60
_RATE_SHIFT, _FAMILY_OFFSET = 0.4, 0.04
_REFERENCE = (0.5, 6.0)
_DRAWS = 1500


@cache
def adapters_target(seed: int) -> Problem:
    """Return the target of a seed, a task related to the recorded one.

    Raises:
        SystemExit: The data that the recorded sweep names are missing.
    """
    model = front_surrogate.surrogate()
    space, prepared = model.prepared.space, model.prepared
    rng = np.random.default_rng([seed, 1])
    shift = 10.0 ** rng.normal(0.0, _RATE_SHIFT)
    families = sorted({str(config["family"]) for config in space.defaults()})
    offsets = dict(zip(families, rng.normal(0.0, _FAMILY_OFFSET, len(families)), strict=True))

    def accuracies(configs: Sequence[Configuration]) -> Array:
        moved = model.accuracies([_with_rate(space, config, shift) for config in configs])
        return np.clip(moved + [offsets[str(config["family"])] for config in configs], 0.0, 1.0)

    known: dict[str, float] = {}

    def accuracy(config: Configuration) -> float:
        key = json.dumps(config, sort_keys=True)
        if key not in known:
            known[key] = float(accuracies([config])[0])
        return known[key]

    def observed(config: Configuration, source: np.random.Generator) -> float:
        true = accuracy(config)
        return 1.0 - min(1.0, true + model.noise(true, source))

    def cost(config: Configuration) -> float:
        return math.log10(max(float(prepared.costs(config).trainable_params), SMALLEST))

    draws = [space.sample(rng) for _ in range(_DRAWS)]
    points = np.column_stack([1.0 - accuracies(draws), [cost(config) for config in draws]])
    return Problem(
        name=ADAPTERS,
        space=space,
        error=lambda config: 1.0 - accuracy(config),
        observed=observed,
        cost=cost,
        reference=_REFERENCE,
        best=hypervolume(points, _REFERENCE),
    )


def adapters_source(seed: int, kind: str) -> SourceTrials:
    """Return recorded trials as a source: `related` as they were measured, `reversed`, or `unrelated`."""
    recorded = pd.read_csv(front_surrogate.TABLE)
    rng = np.random.default_rng([seed, 2])
    rows = rng.choice(len(recorded), _RECORDED, replace=False)
    configs = [json.loads(recorded["config"].iloc[row]) for row in rows]
    errors = 1.0 - recorded["accuracy"].to_numpy(float)[rows]
    if kind == "reversed":
        errors = errors.max() + errors.min() - errors
    elif kind == "unrelated":
        errors = rng.permutation(errors)
    costs = [adapters_target(seed).cost(config) for config in configs]
    return SourceTrials(name=kind, configs=configs, values=np.column_stack([errors, costs]))


def fcnet_sources(
    target: str, seed: int, runs: Mapping[str, Sequence[Sequence[Value | None]]]
) -> list[SourceTrials]:
    """Return the trials of searches of the other tables as sources.

    Args:
        target: name of the table that is left out.
        seed: seed of the searches, which determines what each trial observed.
        runs: the configurations of a search by the name of its table, as `Problem.row` writes them.
    """
    sources = []
    for name, rows in runs.items():
        if name == target:
            continue
        problem = fcnet.problem(name)
        configs = [configuration(problem, row) for row in rows]
        values = [problem.measure(config, seed, number) for number, config in enumerate(configs)]
        sources.append(SourceTrials(name=name, configs=configs, values=np.array(values)))
    return sources


def configuration(problem: Problem, row: Sequence[Value | None]) -> Configuration:
    """Return the configuration that `Problem.row` wrote."""
    return {name: value for name, value in zip(problem.space.names, row, strict=True) if value is not None}


def _with_rate(space: SearchSpace, config: Configuration, factor: float) -> Configuration:
    """Return a configuration with its learning rates multiplied, within the range of the space."""
    moved = dict(config)
    for name, value in config.items():
        if name.endswith("learning_rate"):
            parameter = space[name]
            assert isinstance(parameter, Float)
            moved[name] = float(np.clip(float(value) * factor, parameter.low, parameter.high))
    return moved


def target_problem(name: str, seed: int) -> Problem:
    """Return the target `adapters` of a seed, or a table of FCNet."""
    return adapters_target(seed) if name == ADAPTERS else fcnet.problem(name)
