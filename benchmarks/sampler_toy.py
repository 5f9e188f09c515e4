"""Hypervolume on two toy problems with one known objective: ParetoSampler against optuna's samplers.

    python -m benchmarks.sampler_toy [--trials 40] [--seeds 5] [--startup N]

`adapters`: quality peaks at a learning rate that depends on the family and on the rank, capacity saturates,
families differ in what they cost; conditional, two objectives (error, parameters). `layers`: eight switches
and a rank; some layers matter more; the cost is the parameters switched on. Both errors carry noise; the
hypervolume is taken of the noise-free values, in (error, log10 parameters), as a share of the best known.
`--startup` is ParetoSampler's number of trials before its models.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import optuna

from autotune.pareto import hypervolume
from autotune.sampler.pareto_sampler import ParetoSampler
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Value
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Problem:
    """Its space, its true error, its known cost and a corner for the hypervolume (error, log10 cost)."""

    space: SearchSpace
    error: Callable[[Mapping[str, Value]], float]
    cost: Callable[[Mapping[str, Value]], float]
    corner: tuple[float, float]
    noise: float = 0.005


def _adapters() -> Problem:
    lora, ia3, prompt = ({"family": (name,)} for name in ("lora", "ia3", "prompt"))
    space = SearchSpace(
        (
            Categorical(name="family", choices=("lora", "ia3", "prompt")),
            Int(name="lora.rank", low=1, high=128, log=True, default=8, when=lora),
            Float(name="lora.lr", low=1e-5, high=1e-2, log=True, default=3e-4, when=lora),
            Float(name="lora.dropout", low=0.0, high=0.3, default=0.0, when=lora),
            Int(name="ia3.layers", low=1, high=12, default=12, when=ia3),
            Float(name="ia3.lr", low=1e-4, high=1e-1, log=True, default=3e-3, when=ia3),
            Int(name="prompt.tokens", low=1, high=100, log=True, default=20, when=prompt),
            Float(name="prompt.lr", low=1e-4, high=1e-1, log=True, default=3e-2, when=prompt),
            Categorical(name="batch", choices=(8, 16, 32, 64), ordered=True, default=16),
            Float(name="weight_decay", low=1e-4, high=1.0, log=True, default=1e-2),
            Float(name="warmup", low=0.0, high=0.3, default=0.1),
        )
    )

    def error(config: Mapping[str, Value]) -> float:
        batch = math.log2(float(config["batch"]) / 16)
        if config["family"] == "lora":
            size, floor, center = float(config["lora.rank"]), 0.08, -3.3
            best = center + 0.15 * batch - 0.2 * math.log10(size)
            capacity = 0.12 * size**-0.5 + 0.03 * (float(config["lora.dropout"]) - 0.05) ** 2
        elif config["family"] == "ia3":
            size, floor, best = float(config["ia3.layers"]), 0.13, -2.2 + 0.15 * batch
            capacity = 0.15 * size**-0.7
        else:
            size, floor, best = float(config["prompt.tokens"]), 0.16, -1.7 + 0.15 * batch
            capacity = 0.25 * size**-0.6
        off = math.log10(float(config[f"{config['family']}.lr"])) - best
        # Too high a learning rate diverges, too low a one merely learns little.
        rate = 0.08 * off**2 if off < 0 else 0.25 * off**2
        habit = 0.004 * (math.log10(float(config["weight_decay"])) + 1.5) ** 2
        return min(floor + capacity + rate + habit + 0.1 * (float(config["warmup"]) - 0.1) ** 2, 0.5)

    def cost(config: Mapping[str, Value]) -> float:
        if config["family"] == "lora":
            return 18432.0 * float(config["lora.rank"])
        return (
            4608.0 * float(config["ia3.layers"] if config["family"] == "ia3" else config["prompt.tokens"]) / 6
        )

    return Problem(space, error, cost, corner=(0.5, 6.5))


def _layers() -> Problem:
    depth = 8
    gains = np.array([0.01, 0.01, 0.02, 0.05, 0.05, 0.08, 0.10, 0.06])
    space = SearchSpace(
        (
            *(Categorical(name=f"layers.{i}", choices=(False, True), default=True) for i in range(depth)),
            Int(name="rank", low=1, high=64, log=True, default=8),
            Float(name="lr", low=1e-5, high=1e-2, log=True, default=3e-4),
        ),
        masks=("layers",),
    )

    def error(config: Mapping[str, Value]) -> float:
        on = np.array([bool(config[f"layers.{i}"]) for i in range(depth)])
        rank = float(config["rank"])
        off = math.log10(float(config["lr"])) + 3.3 + 0.3 * math.log10(rank) + 0.03 * int(on.sum())
        learned = float(gains[on].sum()) * (1 - 0.6 * rank**-0.5) * math.exp(-(off**2))
        return 0.5 - learned

    def cost(config: Mapping[str, Value]) -> float:
        return 1536.0 * float(config["rank"]) * sum(bool(config[f"layers.{i}"]) for i in range(depth))

    return Problem(space, error, cost, corner=(0.5, 6.0))


PROBLEMS: dict[str, Callable[[], Problem]] = {"adapters": _adapters, "layers": _layers}


def samplers(problem: Problem, seed: int, startup: int | None) -> dict[str, optuna.samplers.BaseSampler]:
    """What is compared, by name."""
    return {
        "ParetoSampler": ParetoSampler(
            space=problem.space,
            known_objectives={1: lambda config: math.log10(problem.cost(config))},
            n_startup=startup,
            seed=seed,
        ),
        "ParetoSampler, no space": ParetoSampler(n_startup=startup, seed=seed),
        "GPSampler": optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False),
        "TPESampler": optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
        "NSGAIISampler": optuna.samplers.NSGAIISampler(seed=seed, population_size=12),
        "RandomSampler": optuna.samplers.RandomSampler(seed=seed),
    }


def run(problem: Problem, sampler: optuna.samplers.BaseSampler, trials: int, seed: int) -> float:
    """The noise-free hypervolume after `trials` trials."""
    noise = np.random.default_rng([seed, 1])
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    points = []
    for _ in range(trials):
        trial = study.ask()
        config: Configuration = problem.space.suggest(trial)
        # An empty mask is no configuration; samplers that ask for one all the same learn the worst error.
        error, cost = problem.error(config), math.log10(max(problem.cost(config), 1.0))
        study.tell(trial, [error + problem.noise * noise.standard_normal(), cost])
        points.append((error, cost))
    return hypervolume(points, problem.corner)


def best_known(problem: Problem, draws: int = 40_000) -> float:
    """The hypervolume of a long random search: the unit of the table."""
    rng = np.random.default_rng(0)
    configs = [problem.space.sample(rng) for _ in range(draws)]
    points = [(problem.error(config), math.log10(problem.cost(config))) for config in configs]
    return hypervolume(points, problem.corner)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--startup", type=int)
    parser.add_argument("--only", default="", help="part of a sampler's name")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    for name, build in PROBLEMS.items():
        problem = build()
        unit = best_known(problem)
        print(
            f"{name}: hypervolume after {arguments.trials} trials, {arguments.seeds} seeds, "
            f"as a share of 40,000 random configurations"
        )
        for label in samplers(problem, 0, None):
            if arguments.only not in label:
                continue
            start = time.perf_counter()
            shares = [
                run(problem, samplers(problem, seed, arguments.startup)[label], arguments.trials, seed) / unit
                for seed in range(arguments.seeds)
            ]
            each = (time.perf_counter() - start) / arguments.trials / arguments.seeds
            print(
                f"  {label:26s} {np.mean(shares):.3f} ± {np.std(shares):.3f}  {1000 * each:6.0f} ms a trial",
                flush=True,
            )


if __name__ == "__main__":
    main()
