"""Hypervolume gap on two conditional synthetic problems with one known objective.

    python -m benchmarks.sampler_toy --arms pareto gp --seeds 12 --trials 30 --cache toys.jsonl [--label NAME]
    python -m benchmarks.sampler_toy --report toys.jsonl [--write]

`adapters`: quality peaks at a learning rate that depends on the family and on the rank, capacity saturates,
families differ in what they cost. `layers`: eight switches and a rank; some layers matter more; the cost is the
parameters switched on. Both errors carry noise; the hypervolume is of the noise-free (error, log10 parameters), and
its unit is the hypervolume of 40,000 random configurations. Options are those of `benchmarks.sample_efficiency`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from autotune.pareto import hypervolume
from benchmarks.sampler_comparison import main
from benchmarks.search_problems import Problem
from search_spaces.parameters.types import Categorical, Configuration, Float, Int
from search_spaces.space import SearchSpace

PAGE = "sampler-toys"
CHECKPOINTS = (10, 20, 30, 40)
_DRAWS = 40_000
_NOISE = 0.005


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

    def error(config: Configuration) -> float:
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

    def cost(config: Configuration) -> float:
        if config["family"] == "lora":
            return 18432.0 * float(config["lora.rank"])
        return (
            4608.0 * float(config["ia3.layers"] if config["family"] == "ia3" else config["prompt.tokens"]) / 6
        )

    return _problem("adapters", space, error, cost, reference=(0.5, 6.5))


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

    def error(config: Configuration) -> float:
        on = np.array([bool(config[f"layers.{i}"]) for i in range(depth)])
        rank = float(config["rank"])
        off = math.log10(float(config["lr"])) + 3.3 + 0.3 * math.log10(rank) + 0.03 * int(on.sum())
        learned = float(gains[on].sum()) * (1 - 0.6 * rank**-0.5) * math.exp(-(off**2))
        return 0.5 - learned

    def cost(config: Configuration) -> float:
        return 1536.0 * float(config["rank"]) * sum(bool(config[f"layers.{i}"]) for i in range(depth))

    return _problem("layers", space, error, cost, reference=(0.5, 6.0))


def _problem(
    name: str,
    space: SearchSpace,
    error: Callable[[Configuration], float],
    parameters: Callable[[Configuration], float],
    reference: tuple[float, float],
) -> Problem:
    def cost(config: Configuration) -> float:
        # Samplers that ignore masks may switch off every layer, which leaves the error at its worst.
        return math.log10(max(parameters(config), 1.0))

    rng = np.random.default_rng(0)
    draws = [space.sample(rng) for _ in range(_DRAWS)]
    return Problem(
        name=name,
        space=space,
        error=error,
        observed=lambda config, source: error(config) + _NOISE * float(source.standard_normal()),
        cost=cost,
        reference=reference,
        best=hypervolume([(error(config), cost(config)) for config in draws], reference),
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {"adapters": _adapters, "layers": _layers}


if __name__ == "__main__":
    assert __doc__ is not None
    main(__doc__.splitlines()[0], PROBLEMS, PAGE, trials=30, checkpoints=CHECKPOINTS)
