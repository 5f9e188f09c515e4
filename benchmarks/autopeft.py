"""The strategy `autopeft` on test functions of BoTorch: DH1, Levy, BraninCurrin, DTLZ2 and ZDT1.

    python -m benchmarks.autopeft --cache autopeft.jsonl [--seeds 12] [--trials 32]
    python -m benchmarks.autopeft --report autopeft.jsonl [--write]

Every function is a study of numbers in their own ranges, without noise and without known objectives. All arms of this
project get the same startup trials, half of all as in AutoPEFT (Zhou et al. 2024), and the reference point, as the
paper's search has it. The gap is 1 - HV / HV* with BoTorch's reference point and largest hypervolume; for Levy,
which has one objective, it is the smallest value divided by the median value of random points, as the minimum is 0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from botorch.test_functions.base import BaseTestProblem
from botorch.test_functions.multi_objective import DH1, DTLZ2, ZDT1, BraninCurrin
from botorch.test_functions.synthetic import Levy
from threadpoolctl import threadpool_limits

from autotune.pareto import hypervolume
from autotune.sampler.pareto_sampler import ParetoSampler
from benchmarks.result_files import store
from benchmarks.run_cache import Run, Runs, append, environment, setup_of
from benchmarks.sampler_comparison import by_problem, tables

PAGE = "sampler-autopeft"
CHECKPOINTS = (16, 24, 32)
_STARTUP = 16

FUNCTIONS: dict[str, Callable[[], BaseTestProblem]] = {
    "branin-currin": BraninCurrin,
    "dh1": lambda: DH1(dim=2),
    "dtlz2": lambda: DTLZ2(dim=6, num_objectives=2),
    "levy": lambda: Levy(dim=6),
    "zdt1": lambda: ZDT1(dim=6),
}

ARMS: dict[str, Callable[[int, list[float] | None], optuna.samplers.BaseSampler]] = {
    "autopeft": lambda seed, reference: _ours(seed, reference, strategy="autopeft"),
    "pareto": lambda seed, reference: _ours(seed, reference),
    # The default population of 50 would be larger than the search.
    "nsga2": lambda seed, _: optuna.samplers.NSGAIISampler(seed=seed, population_size=10),
    "random": lambda seed, _: optuna.samplers.RandomSampler(seed=seed),
}


@dataclass(frozen=True)
class Study:
    """A test function as a study of numbers.

    Args:
        name: of the function.
        function: of BoTorch, minimized.
    """

    name: str
    function: BaseTestProblem

    @property
    def objectives(self) -> int:
        """The number of objectives."""
        return int(self.function.num_objectives)

    @property
    def reference(self) -> list[float] | None:
        """The reference point of the hypervolume; None with one objective."""
        return None if self.objectives == 1 else self.function.ref_point.tolist()

    def suggest(self, trial: optuna.Trial) -> list[float]:
        """Return the values that a sampler suggests."""
        bounds = self.function.bounds.T.tolist()
        return [trial.suggest_float(f"x{i}", low, high) for i, (low, high) in enumerate(bounds)]

    def values(self, x: list[float]) -> list[float]:
        """Return the minimized objectives."""
        found = self.function(torch.tensor([x], dtype=torch.double)).reshape(-1)
        return [float(value) for value in found]

    def gaps(self, values: np.ndarray) -> list[float]:
        """Return the gap of the first 1, 2, … rows of values [n, m]."""
        reference = self.reference
        if reference is None:
            return list(np.minimum.accumulate(values[:, 0]) / self._usual())
        best = self.function.max_hv
        return [1.0 - hypervolume(values[:n], reference) / best for n in range(1, len(values) + 1)]

    def _usual(self) -> float:
        low, high = self.function.bounds.numpy()
        points = np.random.default_rng(0).random((1000, len(low))) * (high - low) + low
        return float(self.function(torch.as_tensor(points)).median())


def _ours(seed: int, references: list[float] | None, **options: Any) -> ParetoSampler:
    return ParetoSampler(seed=seed, references=references, n_startup=_STARTUP, **options)


def search(study: Study, arm: str, seed: int, trials: int) -> Run:
    """Run one arm on one function with one seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = ARMS[arm](seed, study.reference)
    optimized = optuna.create_study(directions=["minimize"] * study.objectives, sampler=sampler)
    configs, values, seconds = [], [], []
    for _ in range(trials):
        start = time.process_time()
        trial = optimized.ask()
        x = study.suggest(trial)
        seconds.append(round(time.process_time() - start, 4))
        values.append(study.values(x))
        optimized.tell(trial, values[-1])
        configs.append(x)
    fields: dict[str, Any] = dict(environment())
    gaps = [round(float(gap), 6) for gap in study.gaps(np.array(values))]
    return Run(
        arm=arm, problem=study.name, seed=seed, gaps=gaps, seconds=seconds, configs=[*configs], **fields
    )


def run_all(studies: Mapping[str, Study], seeds: int, trials: int, cache: Path) -> None:
    """Run what the cache lacks, seed by seed."""
    runs = Runs.load([cache])
    for seed in range(seeds):
        for name, study in studies.items():
            for arm in ARMS:
                if not runs.has(arm, name, seed, trials):
                    run = search(study, arm, seed, trials)
                    append(cache, run)
                    print(
                        f"{arm}, {name}, seed {seed}: {run.gaps[-1]:.4f}, {np.mean(run.seconds):.3f} s",
                        flush=True,
                    )


def complete_seeds(runs: Runs) -> Runs:
    """Return the runs of the seeds with which every arm has run on every function."""
    wanted = {(arm, name) for arm in ARMS for name in FUNCTIONS}
    seeds = {run.seed for run in runs}
    whole = {seed for seed in seeds if {(r.arm, r.problem) for r in runs if r.seed == seed} >= wanted}
    return Runs(run for arm in ARMS for run in runs if run.arm == arm and run.seed in whole)


def main() -> None:
    """Run or report the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, help="JSON-lines file that runs are appended to")
    parser.add_argument(
        "--report", type=Path, nargs="+", metavar="FILE", help="caches to merge; runs nothing"
    )
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--trials", type=int, default=max(CHECKPOINTS))
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    given = parser.parse_args()
    if given.report is None:
        if given.cache is None:
            parser.error("give --cache FILE to run, or --report FILE … to show tables")
        with threadpool_limits(1):
            studies = {name: Study(name, build()) for name, build in FUNCTIONS.items()}
            run_all(studies, given.seeds, given.trials, given.cache)
    runs = complete_seeds(Runs.load(given.report or [given.cache]))
    found = {**by_problem(runs, CHECKPOINTS), "seconds": tables(runs, checkpoints=CHECKPOINTS)["seconds"]}
    for table in found.values():
        print(f"{table.caption}\n\n{table.as_markdown()}\n")
    if given.write:
        store(PAGE, found, setup_of(runs, "python -m benchmarks.autopeft --cache FILE"))


if __name__ == "__main__":
    main()
