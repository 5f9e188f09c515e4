"""Trials that earlier studies save: a cold start, their fronts first, and their surrogates too; nothing is trained.

    python -m benchmarks.transfer_simulation --targets adapters --seeds 12 --cache transfer.jsonl
    python -m benchmarks.transfer_simulation --targets fcnet --seeds 6 --cache transfer.jsonl
    python -m benchmarks.transfer_simulation --report transfer.jsonl [--write]

`benchmarks.transfer_cases` has the targets and the sources. All arms have the same number of trials and the seed:

* `cold`: `ParetoSampler` as a sweep uses it;
* `fronts`: half of its startup trials are `first_configurations` of the sources, and the rest is a cold start;
* `transfer`: these, and `ParetoSampler(sources=…)`;
* `reversed` and `unrelated` (`adapters` only): as `transfer`, from a source that misleads.

A run that the cache already has is not repeated. The report divides trials to 90 % of the reference hypervolume, and
the hypervolume at equal trials, by those of `cold` over the same targets and seeds. A search that does not reach a
hypervolume counts as all of its trials, which makes the ratios of better arms too large rather than too small.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from threadpoolctl import threadpool_limits

from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.sources import SourceTrials, first_configurations
from benchmarks import fcnet
from benchmarks.result_files import Table, store
from benchmarks.run_cache import Run, Runs, append, environment, ratio_and_interval, setup_of
from benchmarks.search_problems import Problem
from benchmarks.transfer_cases import ADAPTERS, adapters_source, fcnet_sources, target_problem
from search_spaces.parameters.types import Configuration

PAGE = "transfer-simulation"
COLD = "cold"
ARMS = {
    ADAPTERS: (COLD, "fronts", "transfer", "reversed", "unrelated"),
    "fcnet": (COLD, "fronts", "transfer"),
}
"""The arms of each group of targets, in the order in which they run."""
SHARE = 0.9
CHECKPOINTS = (10, 20, 30, 40)
_ROUNDING = 1e-9
_FIRST = 5
"""Number of trials of the sources' fronts: half of the ten startup trials."""


def search(
    problem: Problem,
    arm: str,
    seed: int,
    trials: int,
    sources: Sequence[SourceTrials],
    label: str | None = None,
) -> Run:
    """Run one arm on one target with one seed.

    Args:
        problem: the target.
        arm: the arm; what it takes from the sources.
        seed: seed of the sampler and of the noise.
        trials: number of trials.
        sources: the earlier studies.
        label: name of the target; by default that of the problem.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    used = () if arm in (COLD, "fronts") else sources
    sampler = ParetoSampler(space=problem.space, known_objectives={1: problem.cost}, seed=seed, sources=used)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for config in _first(problem, arm, sources):
        study.enqueue_trial(config)
    configs, seconds = [], []
    for number in range(trials):
        start = time.process_time()
        trial = study.ask()
        config = problem.space.suggest(trial)
        seconds.append(round(time.process_time() - start, 4))
        study.tell(trial, problem.measure(config, seed, number))
        configs.append(config)
    fields: dict[str, Any] = dict(environment())
    return Run(
        arm=arm,
        problem=label or problem.name,
        seed=seed,
        gaps=[round(gap, 6) for gap in problem.gaps(configs)],
        seconds=seconds,
        configs=[problem.row(config) for config in configs],
        **fields,
    )


def _first(problem: Problem, arm: str, sources: Sequence[SourceTrials]) -> list[Configuration]:
    if arm == COLD:
        return []
    return first_configurations(sources, _FIRST, directions=["minimize", "minimize"], cost=problem.cost)


def run_all(group: str, seeds: Sequence[int], trials: int, cache: Path) -> None:
    """Run what the cache lacks of a group of targets, seed by seed and arm by arm."""
    names = [ADAPTERS] if group == ADAPTERS else list(fcnet.DATA_SETS)
    runs = Runs.load([cache])
    for seed in seeds:
        for arm in ARMS[group]:
            for name in names:
                if runs.has(arm, name, seed, trials):
                    continue
                run = search(target_problem(name, seed), arm, seed, trials, _sources(name, arm, seed, runs))
                append(cache, run)
                runs.add(run)
                print(
                    f"{arm}, {name}, seed {seed}: {to_share(run)} trials, gap {run.gaps[-1]:.3f}", flush=True
                )


def _sources(name: str, arm: str, seed: int, runs: Runs) -> list[SourceTrials]:
    if arm == COLD:
        return []
    if name == ADAPTERS:
        return [adapters_source(seed, arm if arm in ("reversed", "unrelated") else "related")]
    cold = {run.problem: run.configs for run in runs if run.arm == COLD and run.seed == seed}
    return fcnet_sources(name, seed, {each: cold[each] for each in fcnet.DATA_SETS})


def to_share(run: Run, share: float = SHARE) -> int:
    """Return the number of trials to a share of the reference hypervolume; all trials if it is not reached."""
    reached = np.flatnonzero(np.array(run.gaps) <= 1.0 - share + _ROUNDING)
    return int(reached[0]) + 1 if len(reached) else len(run.gaps)


def tables(runs: Runs) -> dict[str, Table]:
    """Return the tables `adapters` and `fcnet` of the groups that have runs."""
    found = {}
    for group, names in ((ADAPTERS, (ADAPTERS,)), ("fcnet", fcnet.DATA_SETS)):
        part = Runs(run for run in runs if run.problem in names)
        if COLD in part.arms:
            found[group] = _table(part, ARMS[group])
    return found


def _table(runs: Runs, arms: Sequence[str]) -> Table:
    trials = min(len(run.gaps) for run in runs)
    checkpoints = [n for n in CHECKPOINTS if n <= trials]
    seeds = sorted({run.seed for run in runs})
    return Table(
        f"Trials to {SHARE:.0%} of the reference hypervolume, and the hypervolume after equal numbers of trials, as "
        f"ratios to `{COLD}` with their 95 % bootstrap intervals over the seeds; seeds {seeds[0]} to {seeds[-1]}, "
        f"{trials} trials per search. A search that did not reach a hypervolume counts as {trials} trials.",
        (
            "arm",
            "searches",
            f"reached {SHARE:.0%}",
            "median trials",
            "trials, ratio",
            f"trials to the last hypervolume of {COLD}",
            *(f"hypervolume at {n}, ratio" for n in checkpoints),
        ),
        tuple(_row(runs, arm, checkpoints) for arm in arms if arm in runs.arms),
    )


def _row(runs: Runs, arm: str, checkpoints: Sequence[int]) -> tuple[str, ...]:
    own = [run for run in runs if run.arm == arm]
    counts = {label: _counts(runs, label) for label in (arm, COLD)}
    reached = sum(min(run.gaps) <= 1.0 - SHARE for run in own)
    cells = [str(len(own)), f"{reached} of {len(own)}", f"{np.median(list(counts[arm].values())):g}"]
    if arm == COLD:
        return arm, *cells, "1", _to_last_of_cold(runs, arm), *("1" for _ in checkpoints)
    ratios = [_ratio(counts[arm], counts[COLD]), _to_last_of_cold(runs, arm)]
    ratios += [_ratio(_volumes(runs, arm, n), _volumes(runs, COLD, n), digits=3) for n in checkpoints]
    return arm, *cells, *ratios


def _to_last_of_cold(runs: Runs, arm: str) -> str:
    """Return the median number of trials to the hypervolume that the cold start has after all of its trials."""
    last = {(run.problem, run.seed): run.gaps[-1] for run in runs if run.arm == COLD}
    own = [run for run in runs if run.arm == arm and (run.problem, run.seed) in last]
    median = np.median([to_share(run, 1.0 - last[run.problem, run.seed]) for run in own])
    return f"{median:g}"


def _counts(runs: Runs, arm: str) -> dict[tuple[str, int], float]:
    return {(run.problem, run.seed): float(to_share(run)) for run in runs if run.arm == arm}


def _volumes(runs: Runs, arm: str, trials: int) -> dict[tuple[str, int], float]:
    return {pair: 1.0 - gap for pair, gap in runs.gaps(arm, trials).items()}


def _ratio(ours: dict[tuple[str, int], float], theirs: dict[tuple[str, int], float], digits: int = 2) -> str:
    ratio, low, high, _ = ratio_and_interval(ours, theirs)
    return f"{ratio:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run or report the benchmark as its command line says."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", choices=ARMS, nargs="+", default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=CHECKPOINTS[-1])
    parser.add_argument("--cache", type=Path, help="JSON-lines file that runs are appended to")
    parser.add_argument(
        "--report", type=Path, nargs="+", metavar="FILE", help="caches to merge; runs nothing"
    )
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    given = parser.parse_args(arguments)
    if given.report is None and given.cache is None:
        raise SystemExit("give --cache FILE to run arms, or --report FILE … to show tables")
    if given.report is None:
        with threadpool_limits(1):
            for group in given.targets:
                run_all(
                    group, range(given.first_seed, given.first_seed + given.seeds), given.trials, given.cache
                )
    runs = Runs.load(given.report or [given.cache])
    found = tables(runs)
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in found.values()))
    if given.write:
        command = "python -m benchmarks.transfer_simulation --targets … --cache FILE"
        store(PAGE, found, setup_of(runs, command))


if __name__ == "__main__":
    main()
