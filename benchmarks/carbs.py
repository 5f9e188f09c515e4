"""Samplers on the two functions of CARBS' notebooks: an optimum far from the default, better at a higher cost.

    python -m benchmarks.carbs --arms carbs pareto gp random --seeds 12 --trials 30 --cache carbs.jsonl
    python -m benchmarks.carbs --report carbs.jsonl [--write]

`hidden` is ((log10 lr + 3)^2 + 0.2) * 512 / hidden + U / 10, from a rate of 1e-5 and a width of 32, and `epochs` is
(log10 lr + 3)^2 * 512 / epochs + U / 10, from a rate of 1e-4, a momentum of 0.9 without influence and 10 epochs; U is
uniform in [0, 1] (imbue-ai/carbs, `carbs_simple_2d` and `carbs_demo`). The cost is the width or the number of epochs.
The hypervolume is of the logarithms of the expected value and of the cost, and its unit is that of the true front.

`error` is the smallest expected value of a trial at any cost, which is what CARBS is for: its search leaves the
cheap end of the front. That the acquisition function is the published one is a matter of
`tests/unit/autotune/sampler/test_carbs_acquisition.py`. Options are those of `benchmarks.sample_efficiency`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from autotune.pareto import hypervolume
from benchmarks.result_files import Table
from benchmarks.run_cache import Run, Runs
from benchmarks.sampler_comparison import main
from benchmarks.search_problems import Problem
from search_spaces.parameters.centered import Centered
from search_spaces.parameters.types import Configuration, Float, Int
from search_spaces.space import SearchSpace

PAGE = "sampler-carbs"
CHECKPOINTS = (10, 20, 30)
_NOISE = 0.1
_LOWEST, _HIGHEST = 2, 512
_REFERENCE = (math.log10(1000.0), math.log10(2.0 * _HIGHEST))


@dataclass(frozen=True, kw_only=True)
class ScalingProblem(Problem):
    """A problem whose samplers see error and cost, and whose hypervolume is of their logarithms."""

    def gaps(self, configs: Sequence[Configuration]) -> list[float]:
        """Return 1 - HV / HV* of the first 1, 2, … configurations, in decades of expected error and cost."""
        points = np.log10([(self.error(config), self.cost(config)) for config in configs])
        volumes = (hypervolume(points[:n], self.reference) for n in range(1, len(points) + 1))
        return [1.0 - volume / self.best for volume in volumes]


def _problem(
    name: str, space: SearchSpace, cost: str, value: Callable[[float], float], offset: float
) -> ScalingProblem:
    """Return the problem whose value at rate lr and cost c is (`value`(log10 lr) + `offset`) 512 / c."""

    def error(config: Configuration) -> float:
        scaled = (value(math.log10(float(config["lr"]))) + offset) * _HIGHEST / float(config[cost])
        return scaled + 0.5 * _NOISE  # the mean of the noise

    front = [
        (math.log10(offset * _HIGHEST / c + 0.5 * _NOISE), math.log10(c))
        for c in range(_LOWEST, _HIGHEST + 1)
    ]
    return ScalingProblem(
        name=name,
        space=space,
        error=error,
        observed=lambda config, source: error(config) + _NOISE * (float(source.random()) - 0.5),
        cost=lambda config: float(config[cost]),
        reference=_REFERENCE,
        best=hypervolume(front, _REFERENCE),
    )


def _hidden() -> Problem:
    space = SearchSpace(
        (
            Float(name="lr", low=1e-7, high=1.0, log=True, default=1e-5),
            Int(name="hidden", low=_LOWEST, high=_HIGHEST, log=True, default=32),
        )
    )
    return _problem("hidden", space, "hidden", lambda rate: (rate + 3.0) ** 2, 0.2)


def _epochs() -> Problem:
    space = SearchSpace(
        (
            Centered(name="lr", center=1e-4, scale=0.5, kind="log"),
            Centered(name="momentum", center=0.9, scale=1.0, kind="logit"),
            Int(name="epochs", low=_LOWEST, high=_HIGHEST, log=True, default=10),
        )
    )
    return _problem("epochs", space, "epochs", lambda rate: (rate + 3.0) ** 2, 0.0)


PROBLEMS: dict[str, Callable[[], Problem]] = {"hidden": _hidden, "epochs": _epochs}


def error_table(runs: Runs) -> Table:
    """Return the geometric mean over the seeds of the smallest expected error after each checkpoint."""
    problems = {name: build() for name, build in PROBLEMS.items()}
    present = [(arm, name) for arm in runs.arms for name in sorted({run.problem for run in runs})]
    return Table(
        "Smallest expected value of a trial, the geometric mean over the seeds, with a factor of one standard error; "
        "the optimum is 0.25 for `hidden` and 0.05 for `epochs`; lower is better.",
        ("arm", "function", *(f"{n} trials" for n in CHECKPOINTS)),
        tuple(
            (arm, name, *(_error_cell(problems[name], _of(runs, arm, name), n) for n in CHECKPOINTS))
            for arm, name in present
        ),
    )


def _of(runs: Runs, arm: str, problem: str) -> list[Run]:
    return [run for run in runs if (run.arm, run.problem) == (arm, problem)]


def _error_cell(problem: Problem, runs: Sequence[Run], trials: int) -> str:
    names = problem.space.names
    smallest = [
        math.log(
            min(
                problem.error({n: v for n, v in zip(names, row, strict=True) if v is not None})
                for row in run.configs[:trials]
            )
        )
        for run in runs
        if len(run.configs) >= trials
    ]
    if len(smallest) < 2:
        return "–"
    error = np.std(smallest, ddof=1) / math.sqrt(len(smallest))
    return f"{math.exp(np.mean(smallest)):.2f} ×/÷ {math.exp(error):.2f}"


if __name__ == "__main__":
    assert __doc__ is not None
    main(
        __doc__.splitlines()[0],
        PROBLEMS,
        PAGE,
        trials=30,
        checkpoints=CHECKPOINTS,
        extra={"errors": error_table},
    )
