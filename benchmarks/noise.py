"""Searched against true scores: how wrong the score of the picked point is when trials are noisy.

    python -m benchmarks.noise --run NAME --cache runs.jsonl [--resample 20]
    python -m benchmarks.noise --report runs.jsonl --arms NAME [NAME …] [--write]

The tables have their own noise: each configuration of FCNet was trained four times, and a trial observes one of the
runs (`benchmarks.fcnet`). The synthetic problem has normal noise with a standard deviation of a tenth of the range of
its front. Every search spends the same training cost: that of 20 average configurations, and at most 60 trials.

The picked point is the one with the best searched score on the searched front. The searched score is the posterior
mean where the sampler says that the noise is worth it, and else the mean of the configuration's trials; a sampler of
an earlier version knows only the value of each trial. The error is |searched - true|; hypervolume gaps are of true
values, of the searched front and of everything tried. `--run` also works in the checkout of an earlier commit, with
this file, `fcnet.py` and `search_problems.py` copied there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from autotune.pareto import hypervolume, non_dominated
from autotune.sampler.pareto_sampler import ParetoSampler
from benchmarks import fcnet
from benchmarks.search_problems import Problem
from search_spaces.parameters.types import Configuration, Float, Int
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]

_TRIALS = 20
"""Average configurations whose cost a search may spend."""
_MOST = 60
_SEEDS = 12
_DEVIATION = 0.04
_TABLES = ("parkinsons_telemonitoring", "protein_structure")


def synthetic() -> Problem:
    """Return a problem of one width and two further parameters with known noise."""
    space = SearchSpace(
        (
            Int(name="width", low=1, high=256, log=True),
            Float(name="rate", low=1e-4, high=1e-1, log=True),
            Float(name="dropout", low=0.0, high=0.5),
        )
    )

    def error(config: Configuration) -> float:
        width, rate, dropout = (float(config[name]) for name in ("width", "rate", "dropout"))
        miss = np.log10(rate / 3e-3) ** 2
        return float(0.5 / (1 + 0.5 * np.log2(width)) + 0.1 * miss + 0.3 * (dropout - 0.1) ** 2)

    front = np.array(
        [(error({"width": w, "rate": 3e-3, "dropout": 0.1}), np.log10(w)) for w in range(1, 257)]
    )
    reference = (0.7, float(np.log10(256) * 1.1))
    return Problem(
        name="synthetic",
        space=space,
        error=error,
        observed=lambda config, rng: error(config) + _DEVIATION * float(rng.normal()),
        cost=lambda config: float(np.log10(float(config["width"]))),
        reference=reference,
        best=hypervolume(front, reference),
    )


def problems() -> dict[str, Problem]:
    """Return the problems by name."""
    return {"synthetic": synthetic(), **{name: fcnet.problem(name) for name in _TABLES}}


def search(problem: Problem, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Run one search, and return what it found."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = np.random.default_rng(1)
    budget = _TRIALS * float(np.mean([10 ** problem.cost(problem.space.sample(rng)) for _ in range(2000)]))
    sampler = ParetoSampler(space=problem.space, known_objectives={1: problem.cost}, seed=seed, **options)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    configs: list[Configuration] = []
    values: list[tuple[float, float]] = []
    while budget > 0 and len(configs) < _MOST:
        trial = study.ask()
        config = problem.space.suggest(trial)
        budget -= 10 ** problem.cost(config)
        configs.append(config)
        values.append(problem.measure(config, seed, trial.number))
        study.tell(trial, values[-1])
    observed, costs = np.array(values).T
    true = np.array([problem.error(config) for config in configs])
    searched, is_smooth = observed, False
    if hasattr(sampler, "study_view"):
        searched, is_smooth = _searched(sampler, study, configs, observed)
    keys = {tuple(sorted(config.items())) for config in configs}
    return {
        "trials": len(configs),
        "repeats": len(configs) - len(keys),
        "is_smooth": is_smooth,
        "gap": _gap(problem, true, costs),
        **_judged(problem, searched, true, costs),
        "observed": _judged(problem, observed, true, costs),
    }


def _searched(
    sampler: ParetoSampler, study: optuna.Study, configs: Sequence[Configuration], observed: Array
) -> tuple[Array, bool]:
    """Return what the search says of the error of each trial, and whether it is a posterior mean."""
    from autotune.sampler.pareto.strategy import (
        posterior_scores,  # here, since earlier versions do not have it
    )

    found = posterior_scores(sampler.study_view(study), is_noisy=True)
    searched = observed.copy()
    groups: dict[object, list[int]] = {}
    for i, config in enumerate(configs):
        groups.setdefault(tuple(sorted(config.items())), []).append(i)
    for members in groups.values():
        searched[members] = observed[members].mean()
    if found.is_worth_it:
        for number, mean in found.means[0].items():
            searched[number] = mean
    return searched, found.is_worth_it


def _judged(problem: Problem, searched: Array, true: Array, costs: Array) -> dict[str, float]:
    front = np.flatnonzero(non_dominated(np.column_stack([searched, costs])))
    best = front[searched[front].argmin()]
    return {
        "error": abs(float(searched[best] - true[best])),
        "bias": float(true[best] - searched[best]),
        "regret": float(true[best] - true.min()),
        "front_error": float(np.abs(searched - true)[front].mean()),
        "front_gap": _gap(problem, true[front], costs[front]),
    }


def _gap(problem: Problem, true: Array, costs: Array) -> float:
    return 1.0 - hypervolume(np.column_stack([true, costs]), problem.reference) / problem.best


def run(name: str, cache: Path, options: Mapping[str, Any]) -> None:
    """Run the searches of an arm that the cache does not have, seed by seed."""
    done = {(line["arm"], line["problem"], line["seed"]) for line in read(cache)}
    found = problems()
    for seed in range(_SEEDS):
        for problem in found.values():
            if (name, problem.name, seed) not in done:
                line = {"arm": name, "problem": problem.name, "seed": seed, **search(problem, seed, options)}
                with cache.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


def read(cache: Path) -> list[dict[str, Any]]:
    """Return the lines of a cache."""
    return [json.loads(line) for line in cache.read_text().splitlines()] if cache.exists() else []


COLUMNS = (
    "problem", "arm", "seeds", "error of the pick", "its ratio", "bias of the pick", "regret of the pick",
    "error on the front", "gap of the front", "gap of all tried", "repeats", "trials",
)  # fmt: skip


def rows(lines: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[tuple[str, ...]]:
    """Return mean ± standard error over the seeds, one row per problem and arm; ratios are to the first arm."""
    table = []
    for problem in dict.fromkeys(line["problem"] for line in lines):
        for arm in arms:
            those = [line for line in lines if (line["problem"], line["arm"]) == (problem, arm)]
            if not those:
                continue
            cells = [
                _cell([line[key] for line in those])
                for key in ("error", "bias", "regret", "front_error", "front_gap", "gap")
            ]
            first = [line["error"] for line in lines if (line["problem"], line["arm"]) == (problem, arms[0])]
            cells.insert(1, f"{np.mean([line['error'] for line in those]) / np.mean(first):.2f}")
            counts = [f"{np.mean([line[key] for line in those]):.1f}" for key in ("repeats", "trials")]
            table.append((problem, arm, str(len(those)), *cells, *counts))
    return table


def _cell(numbers: Sequence[float]) -> str:
    return f"{np.mean(numbers):.4f} ± {np.std(numbers, ddof=1) / np.sqrt(len(numbers)):.4f}"


def main() -> None:
    """Run searches, or report them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", metavar="NAME", help="run the arm of this name")
    parser.add_argument(
        "--resample", type=float, metavar="PERCENT", help="share of repeats; by default automatic"
    )
    parser.add_argument("--noisy", action="store_true", help="tell the sampler that the objective is noisy")
    parser.add_argument("--cache", type=Path, default=Path("noise.jsonl"))
    parser.add_argument("--report", type=Path, metavar="CACHE")
    parser.add_argument("--arms", nargs="+", default=[])
    parser.add_argument("--write", action="store_true", help="store the table among the results")
    parser.add_argument("--commit", help="the measured commits, for --write; by default the checked-out one")
    given = parser.parse_args()
    if given.run:
        options: dict[str, Any] = {"is_noisy": True} if given.noisy else {}
        if given.resample is not None:
            options["resample"] = given.resample / 100
        run(given.run, given.cache, options)
    if given.report:
        found = rows(read(given.report), given.arms)
        for row in (COLUMNS, *found):
            print(" | ".join(row))
        if given.write:
            _store(found, given.commit)


def _store(found: Sequence[tuple[str, ...]], commit: str | None) -> None:
    from benchmarks.result_files import Table, store, this_run

    caption = (
        f"Searches with the cost of {_TRIALS} average configurations and at most {_MOST} trials, {_SEEDS} seeds, "
        "mean ± standard error. Errors are in log10 of the loss for the tables, and in the unit of the error for the "
        f"synthetic problem, whose noise has a standard deviation of {_DEVIATION}. Gaps are 1 - HV / HV*."
    )
    command = "python -m benchmarks.noise --run NAME --noisy --cache FILE"
    setup = replace(this_run(), command=command, **({} if commit is None else {"commit": commit}))
    store("noise", {"search": Table(caption, COLUMNS, tuple(found))}, setup)


if __name__ == "__main__":
    main()
