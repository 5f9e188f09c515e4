"""What a right, a wrong and no prior do to a search on the problems of `benchmarks.sampler_toy`.

    python -m benchmarks.priors --cache priors.jsonl [--seeds 12] [--trials 40] [--strength 3] [--write]

The right prior is centered within a factor of two of the best values, and the wrong one at the end of each range.
Both have a factor of two to three as their spread, and the wrong one prefers the worst family. Gaps are those of
`benchmarks.sampler_toy`. Runs that the cache has are not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from autotune.sampler.prior import STRENGTH, Near, Prior, Weights
from benchmarks.result_files import store
from benchmarks.run_cache import Runs, append, setup_of
from benchmarks.sampler_comparison import by_problem, search, tables
from benchmarks.sampler_toy import PROBLEMS

PAGE = "priors"
_CHECKPOINTS = (5, 10, 15, 20, 30, 40)
_NONE = "no prior"

MARGINALS = {
    "adapters": {
        "right prior": {
            "lora.lr": Near(center=3e-4, spread=2.5),
            "ia3.lr": Near(center=6e-3, spread=2.5),
            "prompt.lr": Near(center=2e-2, spread=2.5),
            "weight_decay": Near(center=3e-2, spread=3.0),
            "family": Weights({"lora": 3.0}),
        },
        "wrong prior": {
            "lora.lr": Near(center=1e-2, spread=2.5),
            "ia3.lr": Near(center=1e-4, spread=2.5),
            "prompt.lr": Near(center=1e-4, spread=2.5),
            "weight_decay": Near(center=1.0, spread=3.0),
            "family": Weights({"prompt": 3.0}),
        },
    },
    "layers": {
        "right prior": {"lr": Near(center=3e-4, spread=2.5), "rank": Near(center=8, spread=2.5)},
        "wrong prior": {"lr": Near(center=1e-2, spread=2.5), "rank": Near(center=64, spread=2.0)},
    },
}
"""The marginals of each arm by problem."""


def run_missing(cache: Path, seeds: Sequence[int], trials: int, strength: float) -> None:
    """Run every problem and prior that the cache lacks, seed by seed."""
    runs = Runs.load([cache])
    problems = {name: build() for name, build in PROBLEMS.items()}
    for seed in seeds:
        for name, problem in problems.items():
            for label, marginals in {_NONE: None, **MARGINALS[name]}.items():
                if runs.has(label, name, seed, trials):
                    continue
                options = {} if marginals is None else {"prior": Prior(marginals, strength)}
                run = search(problem, "pareto", seed, trials, label, options)
                append(cache, run)
                print(
                    f"{label}, {name}, seed {seed}: gap {run.gaps[-1]:.3f} after {trials} trials", flush=True
                )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as its command line says."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="JSON-lines file that runs are appended to")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--strength", type=float, default=STRENGTH)
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    given = parser.parse_args(arguments)
    with threadpool_limits(1):
        run_missing(given.cache, range(given.seeds), given.trials, given.strength)
    runs = Runs.load([given.cache])
    checkpoints = [n for n in _CHECKPOINTS if n <= given.trials]
    found = tables(runs, _NONE, checkpoints)
    shown = [*found.values(), *by_problem(runs, checkpoints).values()]
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in shown))
    if given.write:
        store(PAGE, found, setup_of(runs, "python -m benchmarks.priors --cache FILE"))


if __name__ == "__main__":
    main()
