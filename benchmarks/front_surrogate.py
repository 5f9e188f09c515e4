"""What a search of adapters costs, over many seeds: samplers on a model of recorded trials, nothing is trained.

    python -m benchmarks.front_surrogate [--seeds 12] [--flops 80] [--arms pareto tpe …] [--processes 2]

`sst2_trials.csv` has trials in the space of `benchmarks.time_to_front` (MiniLM on SST-2, 1,000 + 400 sentences, one
seed each): 104 random ones, and 91 of two searches of this project. Extremely randomized trees learn accuracy from
the configuration and its costs. A simulated trial brings what they say, plus noise: one of their residuals under
cross-validation, from trials of which they say about the same, times 0.7, as half of the residuals' variance is
taken for what the trees have not learned. Costs are the cost model's. What is compared is therefore how well a
sampler learns from trials as noisy as these, in a space as large as this one, and not what is found on SST-2.

Hypervolume is of (1 - accuracy, log10 parameters) against the corner (0.5, 6), without noise, of all that an arm has
tried. The reference is the front of everything that any arm has tried. Trials at a time train at the same pace.
`--record DIR …` regenerates the table from the folders of sweeps.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import cross_val_predict

from autotune.engine.samplers import make_sampler
from autotune.pareto import hypervolume
from autotune.prepare.prepared_sweep import PreparedSweep, prepare
from autotune.results.sweep_tables import read_tables
from autotune.sweep.sampler_spec import read_sampler
from benchmarks import time_to_front
from benchmarks.front_records import SMALLEST
from search_spaces.parameters.types import Configuration

Array = NDArray[np.float64]

TABLE = Path(__file__).parent / "sst2_trials.csv"
ARMS = {
    "pareto": ("pareto", 1),
    "pareto-2": ("pareto", 2),
    "pareto-8": ("pareto", 8),
    "tpe": ("tpe", 1),
    "gp": ("gp", 1),
    "random": ("random", 1),
}
"""A sampler and how many trials it has at a time."""
SHARES = (0.75, 0.9)
CORNER = (0.5, 6.0)
TERA = 1e12
_TREES = 300
_LIKE = 60
_NOISE = 0.7


@dataclass(frozen=True)
class Running:
    """A simulated trial that has `left` FLOPs to go."""

    left: float
    trial: optuna.Trial
    config: Configuration


@dataclass(frozen=True)
class Tried:
    """One simulated trial: FLOPs of its arm when it ended, accuracy without noise, log10 parameters."""

    flops: float
    accuracy: float
    parameters: float


class Surrogate:
    """Accuracy of any configuration of the space, learned from recorded trials."""

    def __init__(self, prepared: PreparedSweep, configs: Sequence[Configuration], accuracy: Array) -> None:
        self.prepared = prepared
        X = self._features(configs)
        self._trees = _trees().fit(X, accuracy)
        self._said = cross_val_predict(_trees(), X, accuracy, cv=10)
        self._residuals = accuracy - self._said

    def accuracy(self, config: Configuration) -> float:
        """Without noise."""
        return float(self._trees.predict(self._features([config]))[0])

    def accuracies(self, configs: Sequence[Configuration]) -> Array:
        """Return the accuracies of many configurations without noise, shape [n]."""
        return np.asarray(self._trees.predict(self._features(configs)))

    def noise(self, accuracy: float, rng: np.random.Generator) -> float:
        """Of one training run."""
        like = np.argsort(np.abs(self._said - accuracy))[:_LIKE]
        return _NOISE * float(self._residuals[rng.choice(like)])

    def _features(self, configs: Sequence[Configuration]) -> Array:
        """Encoded values, -1 where inactive; learning rate, parameters, FLOPs, and epochs a sentence of a batch."""
        encoded = np.nan_to_num(self.prepared.space.encode(configs), nan=-1.0)
        costs = [self.prepared.costs(config) for config in configs]
        derived = [
            (
                math.log10(next(float(v) for k, v in config.items() if k.endswith("learning_rate"))),
                math.log10(max(cost.trainable_params, SMALLEST)),
                cost.train_flops / TERA,
                float(config["epochs"]) / float(config["batch_size"]),
            )
            for config, cost in zip(configs, costs, strict=True)
        ]
        return np.hstack([encoded, np.array(derived)])


def _trees() -> ExtraTreesRegressor:
    return ExtraTreesRegressor(_TREES, min_samples_leaf=2, max_features=0.5, random_state=0)


@cache
def surrogate() -> Surrogate:
    """Of the table."""
    given = time_to_front.parser().parse_args(["--out=", "--samples=1000", "--eval-samples=400"])
    prepared = prepare(time_to_front.sweep_of("plain", 0, time_to_front.setting(given)))
    table = pd.read_csv(TABLE)
    return Surrogate(prepared, [json.loads(text) for text in table["config"]], table["accuracy"].to_numpy())


def search(arm: str, seed: int, flops: float) -> list[Tried]:
    """One arm with one seed, until it has spent so many FLOPs."""
    model, rng = surrogate(), np.random.default_rng(seed)
    prepared, (name, at_a_time) = model.prepared, ARMS[arm]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    # As in `benchmarks.time_to_front`, optuna's samplers are told the logarithm of the parameters.
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=_sampler(name, seed, prepared))
    running: list[Running] = []
    found: list[Tried] = []
    spent = 0.0
    while spent < flops:
        while len(running) < at_a_time:
            trial = study.ask()
            config = prepared.space.suggest(trial)
            running.append(Running(prepared.costs(config).train_flops, trial, config))
        more, ended, running = first_to_end(running)
        spent += more
        truth, size = model.accuracy(ended.config), float(prepared.costs(ended.config).trainable_params)
        logarithm = math.log10(max(size, SMALLEST))
        seen = min(1.0, truth + model.noise(truth, rng))
        study.tell(ended.trial, [seen, size if name == "pareto" else logarithm])
        found.append(Tried(spent, truth, logarithm))
    return found


def first_to_end(running: Sequence[Running]) -> tuple[float, Running, list[Running]]:
    """What all spend together until one ends, which one that is, and the others as they are then."""
    ended = min(running, key=lambda one: one.left)
    others = [replace(one, left=one.left - ended.left) for one in running if one is not ended]
    return ended.left * len(running), ended, others


def _sampler(name: str, seed: int, prepared: PreparedSweep) -> optuna.samplers.BaseSampler:
    """Return the sampler that a sweep calls so."""
    sweep = prepared.sweep.model_copy(update={"sampler": read_sampler(name), "seed": seed})
    return make_sampler(replace(prepared, sweep=sweep))


def volume(tried: Sequence[Tried]) -> float:
    """Hypervolume of some trials."""
    return hypervolume([(1.0 - trial.accuracy, trial.parameters) for trial in tried], CORNER)


def table(runs: dict[str, list[list[Tried]]], flops: float) -> str:
    """Return one row per arm, in Markdown: medians over the seeds, and the mean share over all of the FLOPs."""
    reference = volume([trial for searches in runs.values() for tried in searches for trial in tried])
    titles = [f"{name} to {share:.0%}" for share in SHARES for name in ("10¹² FLOPs", "trials")]
    lines = [f"| arm | {' | '.join(titles)} | mean share |", "| --- " * (len(titles) + 2) + "|"]
    grid = np.linspace(0, flops, 65)[1:]
    for arm, searches in runs.items():
        cells: list[str] = []
        paths = [
            np.array([volume(tried[:n]) / reference for n in range(1, len(tried) + 1)]) for tried in searches
        ]
        for share in SHARES:
            first = [int(np.argmax(path >= share)) if path[-1] >= share else None for path in paths]
            spent = [
                math.inf if place is None else tried[place].flops / TERA
                for tried, place in zip(searches, first, strict=True)
            ]
            counts = [math.inf if place is None else place + 1.0 for place in first]
            cells += [_median(spent), _median(counts)]
        shares = [
            np.concatenate([[0.0], path])[
                np.searchsorted([trial.flops for trial in tried], grid, side="right")
            ].mean()
            for tried, path in zip(searches, paths, strict=True)
        ]
        error = np.std(shares, ddof=1) / math.sqrt(len(shares)) if len(shares) > 1 else math.nan
        lines.append(f"| `{arm}` | {' | '.join(cells)} | {np.mean(shares):.3f} ± {error:.3f} |")
    return "\n".join(lines)


def _median(values: Sequence[float]) -> str:
    """With how many there are, where not all are."""
    middle, there = float(np.median(values)), sum(map(math.isfinite, values))
    text = f"{middle:.3g}" if math.isfinite(middle) else "–"
    return text if there == len(values) else f"{text} ({there} of {len(values)})"


def record(folders: Sequence[Path], path: Path = TABLE) -> None:
    """The complete trials of some sweeps, as a table."""
    trials = pd.concat([read_tables(folder).trials for folder in folders])
    trials = trials[trials["status"] == "complete"]
    rows: list[dict[str, Any]] = [
        {"config": json.dumps(config), "accuracy": accuracy}
        for config, accuracy in zip(trials["config"], trials["accuracy"], strict=True)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--flops", type=float, default=80.0, help="10¹² training FLOPs of a search")
    parser.add_argument("--arms", choices=ARMS, nargs="+", default=list(ARMS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--record", type=Path, nargs="+", metavar="DIR", help="sweeps to make the table of")
    arguments = parser.parse_args()
    if arguments.record:
        record(arguments.record)
        return
    os.environ.update(TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
    fresh = multiprocessing.get_context("spawn")  # numpy has read the number of threads when it is imported
    with ProcessPoolExecutor(arguments.processes, fresh) as pool:
        jobs = {
            arm: [pool.submit(search, arm, seed, arguments.flops * TERA) for seed in range(arguments.seeds)]
            for arm in arguments.arms
        }
        runs = {arm: [job.result() for job in searches] for arm, searches in jobs.items()}
    print(
        f"{arguments.seeds} seeds, {arguments.flops:g} · 10¹² FLOPs each; share of the best front, without noise"
    )
    print(table(runs, arguments.flops * TERA))


if __name__ == "__main__":
    main()
