"""Hypervolume gap against the number of trials on the FCNet tables: this project's samplers and others.

    python -m benchmarks.sample_efficiency --arms pareto gp --seeds 12 --trials 60 --cache runs.jsonl [--label NAME]
    python -m benchmarks.sample_efficiency --report runs.jsonl more.jsonl [--write]

The gap is 1 - HV / HV* of the noise-free values of the configurations tried; `benchmarks.fcnet` has the objectives
and the reference point, `benchmarks.sampler_arms` the samplers. Each (arm, data set, seed) is one line of the cache;
a run that the cache already has with as many trials is not repeated. With `--label`, arms are called ARM@NAME, to
compare several versions of a sampler. Ratios are over the (data set, seed) pairs that both arms have.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import fcnet
from benchmarks.result_files import Table, store
from benchmarks.run_cache import Run, Runs, append, environment, mean_and_error, ratio_and_interval
from benchmarks.sampler_arms import ARMS
from benchmarks.search_problems import Problem

CHECKPOINTS = (10, 20, 30, 60, 100)
"""Numbers of trials after which the gap is reported."""
PAGE = "sample-efficiency"


def search(problem: Problem, arm: str, seed: int, trials: int, label: str | None = None) -> Run:
    """Run one arm on one problem with one seed."""
    searcher = ARMS[arm](problem, seed, trials)
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
    problems: Sequence[Problem], arms: dict[str, str], seeds: Sequence[int], trials: int, cache: Path
) -> None:
    """Run what the cache lacks, seed by seed, so that an interrupted benchmark has all arms and problems.

    Args:
        problems: The problems.
        arms: Names of arms by label.
        seeds: The seeds.
        trials: Trials per run.
        cache: The cache that runs are appended to.
    """
    runs = Runs.load([cache])
    for seed in seeds:
        for problem in problems:
            for label, arm in arms.items():
                if runs.has(label, problem.name, seed, trials):
                    continue
                run = search(problem, arm, seed, trials, label)
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
            f"Mean gap 1 - HV / HV* over {about} ± its standard error over the seeds; lower is better.",
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


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--arms", choices=ARMS, nargs="+", default=["pareto"], metavar="ARM", help=", ".join(ARMS)
    )
    parser.add_argument("--data-sets", choices=fcnet.DATA_SETS, nargs="+", default=list(fcnet.DATA_SETS))
    parser.add_argument("--seeds", type=int, default=12, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--cache", type=Path, help="JSON-lines file that runs are appended to")
    parser.add_argument("--label", help="call the arms ARM@LABEL")
    parser.add_argument(
        "--report", type=Path, nargs="+", metavar="FILE", help="caches to merge; runs nothing"
    )
    parser.add_argument("--baseline", default="gp", help="arm that gaps are divided by")
    parser.add_argument(
        "--by-data-set", action="store_true", help="print one table of gaps per data set, too"
    )
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if arguments.report is None and arguments.cache is None:
        raise SystemExit("give --cache FILE to run arms, or --report FILE … to show tables")
    if arguments.report is None:
        labels = {f"{arm}@{arguments.label}" if arguments.label else arm: arm for arm in arguments.arms}
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        with threadpool_limits(1):
            run_all(
                [fcnet.problem(name) for name in arguments.data_sets],
                labels,
                seeds,
                arguments.trials,
                arguments.cache,
            )
    runs = Runs.load(arguments.report or [arguments.cache])
    found = tables(runs, arguments.baseline)
    shown = [*found.values(), *(by_problem(runs).values() if arguments.by_data_set else ())]
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in shown))
    if arguments.write:
        store(PAGE, found)


if __name__ == "__main__":
    main()
