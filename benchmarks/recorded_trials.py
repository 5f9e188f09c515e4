"""Hypervolume gap on surrogates of recorded trials in the spaces `autopeft` and `composite`.

    python -m benchmarks.recorded_trials --record autopeft [--trials 60]
    python -m benchmarks.recorded_trials --arms pareto gp --seeds 12 --trials 60 --cache recorded.jsonl
    python -m benchmarks.recorded_trials --report recorded.jsonl [--write]

`--record` runs a random search of MiniLM on SST-2 (1,000 + 400 sentences, one or two epochs, one seed per trial) in
the space of `benchmarks.composite` for that family, and writes `benchmarks/SPACE_trials.csv`; a trial takes about 15
seconds of one core. As in `benchmarks.front_surrogate`, extremely randomized trees learn accuracy from it and replace
training; what samplers observe has the noise of the recorded trials. The hypervolume is of (1 - accuracy, log10
parameters) against (0.5, 6) without noise, and its unit is that of 4,000 random configurations. Other options are
those of `benchmarks.sample_efficiency`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from autotune.pareto import hypervolume
from autotune.prepare.prepared_sweep import prepare
from autotune.sweep.confirm_spec import Confirm
from autotune.sweep.executor_spec import ExecutorSpec
from autotune.sweep.sampler_spec import read_sampler
from autotune.sweep.schema import Sweep
from benchmarks import composite, front_surrogate
from benchmarks.front_records import SMALLEST
from benchmarks.sampler_comparison import main
from benchmarks.search_problems import Problem
from search_spaces.parameters.types import Configuration

PAGE = "recorded-trials"
SPACES = ("autopeft", "composite")
_REFERENCE = (0.5, 6.0)
_DRAWS = 4000


def table_of(space: str) -> Path:
    """Return the path of the recorded trials of a space."""
    return Path(__file__).parent / f"{space}_trials.csv"


def sweep_of(space: str, trials: int, folder: Path | None = None) -> Sweep:
    """Return the random search that is recorded.

    Args:
        space: Name of the family that is searched.
        trials: Number of trials.
        folder: Folder of SST-2; by default that of the shared data.
    """
    data = folder or Path(os.environ.get("AUTOTUNE_DATA", "../shared/data")) / "sst2"
    given = composite.sweep(space, composite.minilm(), data, trials=trials, seed=0)
    # With the 400 sentences of that benchmark most configurations stay at the accuracy of the majority class.
    fidelity = replace(given.fidelity, train_samples=1000, eval_samples=400)
    return given.model_copy(
        update={
            "sampler": read_sampler("random"),
            "fidelity": fidelity,
            "confirm": Confirm(seeds=0),
            "executor": ExecutorSpec(workers=1),
        }
    )


def record(space: str, trials: int) -> Path:
    """Train a random search and write its complete trials, accuracy by configuration."""
    from autotune.engine.sweep_run import run_sweep

    with tempfile.TemporaryDirectory() as folder:
        run_sweep(sweep_of(space, trials), Path(folder) / space)
        front_surrogate.record([Path(folder) / space], table_of(space))
    return table_of(space)


@cache
def problem(space: str) -> Problem:
    """Fit the surrogate of a space.

    Raises:
        SystemExit: No trials of the space were recorded.
    """
    if not table_of(space).exists():
        raise SystemExit(f"no {table_of(space)}; run python -m benchmarks.recorded_trials --record {space}")
    prepared = prepare(sweep_of(space, 1))
    recorded = pd.read_csv(table_of(space))
    configs = [json.loads(text) for text in recorded["config"]]
    model = front_surrogate.Surrogate(prepared, configs, recorded["accuracy"].to_numpy(float))
    known: dict[str, float] = {}

    def accuracy(config: Configuration) -> float:
        key = json.dumps(config, sort_keys=True)
        if key not in known:
            known[key] = model.accuracy(config)
        return known[key]

    def observed(config: Configuration, rng: np.random.Generator) -> float:
        true = accuracy(config)
        return 1.0 - min(1.0, true + model.noise(true, rng))

    def cost(config: Configuration) -> float:
        return math.log10(max(float(prepared.costs(config).trainable_params), SMALLEST))

    rng = np.random.default_rng(0)
    draws = [prepared.space.sample(rng) for _ in range(_DRAWS)]
    points = np.column_stack([1.0 - model.accuracies(draws), [cost(config) for config in draws]])
    return Problem(
        name=space,
        space=prepared.space,
        error=lambda config: 1.0 - accuracy(config),
        observed=observed,
        cost=cost,
        reference=_REFERENCE,
        best=hypervolume(points, _REFERENCE),
    )


if __name__ == "__main__":
    assert __doc__ is not None
    if "--record" in sys.argv:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--record", choices=SPACES, required=True)
        parser.add_argument("--trials", type=int, default=60)
        given = parser.parse_args()
        print(record(given.record, given.trials))
    else:
        builders = {space: partial(problem, space) for space in SPACES}
        main(__doc__.splitlines()[0], builders, PAGE, trials=60)
