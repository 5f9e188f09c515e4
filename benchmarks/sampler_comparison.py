"""Comparison of samplers on search problems: runs, tables and the command line that the benchmarks share."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.result_files import Table, store
from benchmarks.run_cache import (
    Run,
    Runs,
    append,
    environment,
    mean_and_error,
    ratio_and_interval,
    setup_of,
    versions_of,
)
from benchmarks.sampler_arms import ARMS
from benchmarks.search_problems import Problem

CHECKPOINTS = (10, 20, 30, 60, 100)
"""Numbers of trials after which the gap is reported."""
_SEEDS = 12


def search(
    problem: Problem,
    arm: str,
    seed: int,
    trials: int,
    label: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Run:
    """Run one arm on one problem with one seed.

    Args:
        problem: The problem.
        arm: Name of the arm.
        seed: Seed of the sampler and of the noise.
        trials: Number of trials.
        label: What the run calls the arm; by default its name.
        options: Keyword arguments of this project's sampler, which other arms ignore.
    """
    searcher = ARMS[arm](problem, seed, trials, options or {})
    configs, seconds = [], []
    for number in range(trials):
        start = time.process_time()
        config = searcher.ask()
        seconds.append(round(time.process_time() - start, 4))
        searcher.tell(problem.measure(config, seed, number))
        configs.append(config)
    fields: dict[str, Any] = dict(environment())
    return Run(
        arm=label or arm,
        problem=problem.name,
        seed=seed,
        gaps=[round(gap, 6) for gap in problem.gaps(configs)],
        seconds=seconds,
        configs=[problem.row(config) for config in configs],
        **fields,
    )


def run_all(
    problems: Sequence[Problem],
    arms: Mapping[str, str],
    seeds: Sequence[int],
    trials: int,
    cache: Path,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Run what the cache lacks, seed by seed, so that an interrupted benchmark has all arms and problems.

    Args:
        problems: The problems.
        arms: Names of arms by label.
        seeds: The seeds.
        trials: Trials per run.
        cache: The cache that runs are appended to.
        options: Keyword arguments of this project's sampler.
    """
    runs = Runs.load([cache])
    for seed in seeds:
        for problem in problems:
            for label, arm in arms.items():
                if runs.has(label, problem.name, seed, trials):
                    continue
                run = search(problem, arm, seed, trials, label, options)
                append(cache, run)
                print(
                    f"{label}, {problem.name}, seed {seed}: gap {run.gaps[-1]:.3f} after {trials} trials, "
                    f"{np.mean(run.seconds):.3f} CPU s per suggestion",
                    flush=True,
                )


def tables(runs: Runs, baseline: str = "gp", checkpoints: Sequence[int] = CHECKPOINTS) -> dict[str, Table]:
    """Return the tables `gaps`, `ratios` (where the baseline has runs) and `seconds`."""
    header = tuple(f"{n} trials" for n in checkpoints)
    seeds = {run.seed for run in runs}
    names = sorted({run.problem for run in runs})
    about = f"{', '.join(names)}, seeds {min(seeds)} to {max(seeds)}"
    found = {
        "gaps": Table(
            f"Mean gap to the hypervolume of the best front, as a share of it, over {about} ± its standard error "
            f"over the seeds; lower is better. {versions_of(runs)}.",
            ("arm", "runs", *header),
            tuple(
                (arm, str(_count(runs, arm)), *(_gap_cell(runs, arm, n) for n in checkpoints))
                for arm in runs.arms
            ),
        )
    }
    if baseline in runs.arms:
        found["ratios"] = Table(
            f"Mean gap divided by that of `{baseline}` over the same problems and seeds, with its 95 % bootstrap "
            f"interval; {about}; lower is better.",
            ("arm", "pairs", *header),
            tuple(_ratio_row(runs, arm, baseline, checkpoints) for arm in runs.arms if arm != baseline),
        )
    found["seconds"] = Table(
        "Mean CPU seconds per suggestion, on one thread.",
        ("arm", *(f"trials {low + 1} to {high}" for low, high in _spans(checkpoints))),
        tuple((arm, *(_seconds_cell(runs, arm, *span) for span in _spans(checkpoints))) for arm in runs.arms),
    )
    return found


def by_problem(runs: Runs, checkpoints: Sequence[int] = CHECKPOINTS) -> dict[str, Table]:
    """Return one table of gaps per problem."""
    return {
        name: tables(Runs(run for run in runs if run.problem == name), checkpoints=checkpoints)["gaps"]
        for name in sorted({run.problem for run in runs})
    }


def _count(runs: Runs, arm: str) -> int:
    return sum(run.arm == arm for run in runs)


def _gap_cell(runs: Runs, arm: str, trials: int) -> str:
    gaps = runs.gaps(arm, trials)
    if not gaps:
        return "–"
    mean, error = mean_and_error(gaps)
    return f"{mean:.3f}" if np.isnan(error) else f"{mean:.3f} ± {error:.3f}"


def _ratio_row(runs: Runs, arm: str, baseline: str, checkpoints: Sequence[int]) -> tuple[str, ...]:
    cells, pairs = [], 0
    for n in checkpoints:
        gaps, theirs = runs.gaps(arm, n), runs.gaps(baseline, n)
        if not gaps.keys() & theirs.keys():
            cells.append("–")
            continue
        ratio, low, high, count = ratio_and_interval(gaps, theirs)
        cells.append(f"{ratio:.2f} ({low:.2f} to {high:.2f})")
        pairs = max(pairs, count)
    return arm, str(pairs), *cells


def _seconds_cell(runs: Runs, arm: str, low: int, high: int) -> str:
    seconds = [run.seconds[low:high] for run in runs if run.arm == arm and len(run.seconds) >= high]
    return f"{np.mean(seconds):.3f}" if seconds else "–"


def _spans(checkpoints: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip((0, *checkpoints), checkpoints, strict=False))


def parser(description: str, problems: Sequence[str], trials: int) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--arms", choices=ARMS, nargs="+", default=["pareto"], metavar="ARM", help=", ".join(ARMS)
    )
    parser.add_argument("--problems", choices=problems, nargs="+", default=list(problems))
    parser.add_argument("--seeds", type=int, help="number of seeds; by default 12, or all in a report")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=trials)
    parser.add_argument("--cache", type=Path, help="JSON-lines file that runs are appended to")
    parser.add_argument("--label", help="call the arms ARM@LABEL")
    parser.add_argument(
        "--options", type=json.loads, default={}, help="keyword arguments of this project's sampler, as JSON"
    )
    parser.add_argument(
        "--report", type=Path, nargs="+", metavar="FILE", help="caches to merge; runs nothing"
    )
    parser.add_argument("--only", nargs="+", metavar="LABEL", help="arms of the report, in this order")
    parser.add_argument("--baseline", default="gp", help="arm that gaps are divided by")
    parser.add_argument("--by-problem", action="store_true", help="print one table of gaps per problem, too")
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    return parser


def main(
    description: str,
    problems: Mapping[str, Callable[[], Problem]],
    page: str,
    trials: int,
    checkpoints: Sequence[int] = CHECKPOINTS,
    arguments: Sequence[str] | None = None,
    extra: Mapping[str, Callable[[Runs], Table]] | None = None,
) -> None:
    """Run or report a benchmark as its command line says.

    Args:
        description: First line of its help.
        problems: Builders of the problems by name.
        page: File of `benchmarks/results` that `--write` stores the tables in.
        trials: Default number of trials.
        checkpoints: Numbers of trials after which the gap is reported.
        arguments: The command line; by default that of the process.
        extra: Builders of more tables by name.
    """
    given = parser(description, list(problems), trials).parse_args(arguments)
    if given.report is None and given.cache is None:
        raise SystemExit("give --cache FILE to run arms, or --report FILE … to show tables")
    if given.report is None:
        labels = {f"{arm}@{given.label}" if given.label else arm: arm for arm in given.arms}
        seeds = range(given.first_seed, given.first_seed + (given.seeds or _SEEDS))
        with threadpool_limits(1):
            built = [problems[name]() for name in given.problems]
            run_all(built, labels, seeds, given.trials, given.cache, given.options)
    last = math.inf if given.seeds is None else given.first_seed + given.seeds - 1
    runs = Runs.load(given.report or [given.cache]).only(given.only, given.first_seed, last)
    if not runs.arms:
        raise SystemExit("no run in the caches has these arms and seeds")
    found = tables(runs, given.baseline, checkpoints)
    found |= {name: build(runs) for name, build in (extra or {}).items()}
    shown = [*found.values(), *(by_problem(runs, checkpoints).values() if given.by_problem else ())]
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in shown))
    if given.write:
        store(page, found, setup_of(runs, f"python -m {_module()} --cache FILE --arms …"))


def _module() -> str:
    """Return the name of the benchmark that is running."""
    return getattr(sys.modules["__main__"].__spec__, "name", "benchmarks")
