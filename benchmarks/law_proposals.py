"""Candidates along laws of hyperparameters in the strategy `pareto`, on problems that search the amount of training.

    python -m benchmarks.law_proposals --cache laws.jsonl [--seeds 12] [--trials 40]

In `moving`, the best learning rate is proportional to cost^-0.3, the best batch size to cost^0.3, and the best weight
decay to cost^-0.2, over two decades of cost; in `fixed`, they do not depend on cost. The error also has a term that
falls with cost, and noise. The surrogate is `matern`. Gaps are of the noise-free (error, log10 cost), relative to the
known front. Runs that the cache has are not repeated.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from autotune.pareto import hypervolume
from benchmarks.result_files import store
from benchmarks.run_cache import Runs, append, setup_of
from benchmarks.sampler_comparison import by_problem, search, tables
from benchmarks.search_problems import Problem
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Value
from search_spaces.space import SearchSpace

PAGE = "law-proposals"
ARMS = {"without laws": {"laws": False}, "with laws": {"laws": True}}
"""Options of the strategy by arm."""
PROBLEMS: Mapping[str, tuple[float, float, float]] = {"moving": (-0.3, 0.3, -0.2), "fixed": (0.0, 0.0, 0.0)}
"""Exponents of the best learning rate, batch size and weight decay by problem."""
_CHECKPOINTS = (15, 20, 30, 40, 60)
_NOISE = 0.005
_REFERENCE = (0.6, 4.2)


def build(name: str) -> Problem:
    """Return a problem by its name."""
    rate, batch, decay = PROBLEMS[name]
    space = SearchSpace(
        (
            Int(name="train_samples", low=100, high=10_000, log=True, default=1_000),
            Float(name="lr", low=1e-5, high=1e-1, log=True, default=1e-4),
            Categorical(name="batch_size", choices=(4, 8, 16, 32, 64, 128, 256), ordered=True, default=16),
            Float(name="weight_decay", low=1e-4, high=1.0, log=True, default=1e-3),
            Float(name="dropout", low=0.0, high=0.3, default=0.0),
        )
    )

    def error(config: Configuration) -> float:
        decades = math.log10(float(config["train_samples"])) - 3.0
        best = {
            "lr": -3.0 + rate * decades,
            "batch_size": 1.5 + batch * decades,
            "weight_decay": -2.0 + decay * decades,
        }
        off = {key: math.log10(float(config[key])) - center for key, center in best.items()}
        bowl = 0.15 * off["lr"] ** 2 + 0.06 * off["batch_size"] ** 2 + 0.02 * off["weight_decay"] ** 2
        habit = 0.5 * (float(config["dropout"]) - 0.1) ** 2
        return min(_floor(decades) + bowl + habit, 0.6)

    front = [(_floor(decades), decades + 3.0) for decades in np.linspace(-1.0, 1.0, 400)]
    return Problem(
        name=name,
        space=space,
        error=error,
        observed=lambda config, source: error(config) + _NOISE * float(source.standard_normal()),
        cost=_cost,
        reference=_REFERENCE,
        best=hypervolume(front, _REFERENCE),
    )


def _floor(decades: float) -> float:
    """Return the smallest error at a number of decades from 1,000 examples."""
    return float(0.05 + 0.15 * 10.0 ** (-0.4 * decades))


def _cost(config: Mapping[str, Value]) -> float:
    return math.log10(float(config["train_samples"]))


def run_missing(cache: Path, problems: Sequence[str], seeds: Sequence[int], trials: int) -> None:
    """Run every problem and arm that the cache lacks, seed by seed."""
    runs = Runs.load([cache])
    built = [build(name) for name in problems]
    for seed in seeds:
        for problem in built:
            for label, strategy_options in ARMS.items():
                if runs.has(label, problem.name, seed, trials):
                    continue
                options = {
                    "strategy_options": strategy_options,
                    "surrogate": "matern",
                    "trial_cost": lambda config: float(config["train_samples"]),
                }
                run = search(problem, "pareto", seed, trials, label, options)
                append(cache, run)
                print(
                    f"{label}, {problem.name}, seed {seed}: gap {run.gaps[-1]:.3f}, {sum(run.seconds):.1f} CPU s",
                    flush=True,
                )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as its command line says."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="JSON-lines file that runs are appended to")
    parser.add_argument("--problems", choices=PROBLEMS, nargs="+", default=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    given = parser.parse_args(arguments)
    with threadpool_limits(1):
        run_missing(given.cache, given.problems, range(given.seeds), given.trials)
    runs = Runs.load([given.cache])
    checkpoints = [n for n in _CHECKPOINTS if n <= given.trials]
    found = tables(runs, next(iter(ARMS)), checkpoints)
    shown = [*found.values(), *by_problem(runs, checkpoints).values()]
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in shown))
    if given.write:
        store(PAGE, found, setup_of(runs, "python -m benchmarks.law_proposals --cache FILE"))


if __name__ == "__main__":
    main()
