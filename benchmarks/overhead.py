"""CPU time and peak memory of one suggestion, by the numbers of finished trials, parameters and objectives.

    python -m benchmarks.overhead --cache overhead.jsonl [--arms pareto gp] [--trials 50 100 300 1000 5000]
    python -m benchmarks.overhead --report overhead.jsonl [more.jsonl …] [--write]

Every cell is a process of its own with one thread. It fills a study in memory with random finished trials, then asks
for suggestions and finishes each one, so that every suggestion sees a new trial. Objectives are synthetic. In the arm
`pareto` the last objective is known; in `pareto-unknown` all are modeled. The space `flat` has real, integer and
nominal parameters in turn; in `conditional` a family decides which half of the others is active, for which
GPSampler has no model. The first suggestion, which imports packages, is left out. An arm is not measured at larger
studies once the median took longer than `--limit` seconds. With few suggestions the 99th percentile is close to the
longest one.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from autotune.sampler.pareto_sampler import ParetoSampler
from benchmarks.result_files import Setup, Table, store
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Parameter
from search_spaces.space import SearchSpace

PAGE = "sampler-overhead"
ARMS = ("pareto", "pareto-unknown", "gp", "tpe")
SUGGESTIONS = {50: 32, 100: 32, 300: 24, 1000: 12, 5000: 6}
"""Suggestions measured, by the number of finished trials; the next larger entry holds for other numbers."""
_FEWEST = 6
_MARGIN_S = 60.0
"""Processor seconds for imports and for filling the study, beyond those of the suggestions."""


@dataclass(frozen=True)
class Cell:
    """What is measured in one process.

    Args:
        arm: Name of the arm.
        space: `flat` or `conditional`.
        parameters: Number of parameters.
        objectives: Number of objectives.
        trials: Number of finished trials before the first suggestion.
        label: What the tables call the arm.
        options: Keyword arguments of this project's sampler.
    """

    arm: str
    space: str
    parameters: int
    objectives: int
    trials: int
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def series(self) -> tuple[str, str, int, int]:
        """All but the number of trials."""
        return self.label, self.space, self.parameters, self.objectives


@dataclass(frozen=True)
class Measured:
    """A measured cell.

    Args:
        cell: The cell.
        seconds: CPU seconds of each suggestion after the first; none where the process was stopped.
        first_s: CPU seconds of the first suggestion, which imports packages.
        peak_mib: Peak resident memory of the process.
        before_mib: Its resident memory before the first suggestion.
        environment: Commit, processor and versions of packages.
    """

    cell: Cell
    seconds: list[float]
    first_s: float = 0.0
    peak_mib: float = 0.0
    before_mib: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, line: str) -> Measured:
        data = json.loads(line)
        return cls(**{**data, "cell": Cell(**data["cell"])})


def make_space(kind: str, count: int) -> SearchSpace:
    """Return a space with `count` parameters."""
    if kind == "flat":
        return SearchSpace(tuple(_parameter(i, {}) for i in range(count)))
    family = Categorical(name="family", choices=("a", "b"))
    halves = ({"family": ("a",)}, {"family": ("b",)})
    return SearchSpace((family, *(_parameter(i, halves[i % 2]) for i in range(count - 1))))


def _parameter(i: int, when: Mapping[str, tuple[str, ...]]) -> Parameter:
    match i % 5:
        case 0 | 1:
            return Float(name=f"p{i}", low=1e-5, high=1e-1, log=True, when=when)
        case 2:
            return Float(name=f"p{i}", low=0.0, high=1.0, when=when)
        case 3:
            return Int(name=f"p{i}", low=1, high=128, log=True, when=when)
    return Categorical(name=f"p{i}", choices=("x", "y", "z"), when=when)


def objective_functions(space: SearchSpace, count: int) -> list[Callable[[Configuration], float]]:
    """Return conflicting functions of the encoded values: distances from different points."""
    targets = np.random.default_rng(0).uniform(0.0, 1.0, (count, len(space)))

    def function(target: np.ndarray) -> Callable[[Configuration], float]:
        return lambda config: float(np.nansum((space.encode([config])[0] - target) ** 2) / len(target))

    return [function(target) for target in targets]


def measure(cell: Cell, suggestions: int) -> Measured:
    """Measure a cell in this process."""
    from threadpoolctl import threadpool_limits

    from benchmarks.run_cache import environment

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = make_space(cell.space, cell.parameters)
    functions = objective_functions(space, cell.objectives)
    rng = np.random.default_rng(1)
    study = optuna.create_study(
        directions=["minimize"] * cell.objectives, sampler=_sampler(cell, space, functions)
    )

    def values(config: Configuration) -> list[float]:
        noise = np.append(0.01 * rng.standard_normal(cell.objectives - 1), 0.0)
        return [f(config) + float(e) for f, e in zip(functions, noise, strict=True)]

    finished = [space.sample(rng) for _ in range(cell.trials)]
    distributions = space.distributions()
    study.add_trials(
        [
            optuna.create_trial(
                params=config,
                distributions={name: distributions[name] for name in config},
                values=values(config),
            )
            for config in finished
        ]
    )
    before = _memory("VmRSS")
    seconds = []
    with threadpool_limits(1):
        for _ in range(suggestions + 1):
            start = time.process_time()
            trial = study.ask()
            config = space.suggest(trial)
            seconds.append(time.process_time() - start)
            study.tell(trial, values(config))
    peak = _memory("VmHWM")
    return Measured(cell, seconds[1:], seconds[0], peak, before, environment())


def _sampler(
    cell: Cell, space: SearchSpace, functions: Sequence[Callable[[Configuration], float]]
) -> optuna.samplers.BaseSampler:
    last = len(functions) - 1
    match cell.arm:
        case "pareto":
            return ParetoSampler(
                space=space, known_objectives={last: functions[last]}, seed=0, **cell.options
            )
        case "pareto-unknown":
            return ParetoSampler(space=space, seed=0, **cell.options)
        case "gp":
            return optuna.samplers.GPSampler(seed=0, warn_independent_sampling=False)
        case "tpe":
            return optuna.samplers.TPESampler(seed=0, multivariate=True, group=True)
    raise ValueError(f"arm: {cell.arm!r} is unknown; choose from {', '.join(ARMS)}")


def _memory(name: str) -> float:
    """Return a figure of this process from the kernel, in MiB; unlike `ru_maxrss`, none of its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {name}; memory is measured on Linux only")


def measure_apart(cell: Cell, suggestions: int, limit_s: float) -> Measured:
    """Measure a cell in its own process, which is stopped where suggestions exceed the limit on average.

    The limit is of processor time, so that other programs on the machine do not stop a cell.

    Raises:
        RuntimeError: The process failed.
    """
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.overhead", "--suggestions", str(suggestions)]
    command += [
        "--cpu-limit",
        str(math.ceil(_MARGIN_S + limit_s * suggestions)),
        "--cell",
        json.dumps(asdict(cell)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGXCPU:
        return Measured(cell, [])
    if done.returncode:
        raise RuntimeError(f"{cell}: {done.stderr.strip()}")
    return Measured.from_json(done.stdout.splitlines()[-1])


def load(paths: Sequence[Path]) -> list[Measured]:
    """Return the last measurement of each cell in some caches."""
    lines = [line for path in paths if path.exists() for line in path.read_text("utf-8").splitlines()]
    found = {(*each.cell.series, each.cell.trials): each for each in map(Measured.from_json, lines)}
    return list(found.values())


def run_all(cells: Sequence[Cell], cache: Path, limit_s: float, suggestions: int | None = None) -> None:
    """Measure what the cache lacks, smaller studies first; leave out those for which an arm is too slow."""
    known = {(*each.cell.series, each.cell.trials): each for each in load([cache])}
    slow = {each.cell.series for each in known.values() if is_slow(each, limit_s)}
    for cell in sorted(cells, key=lambda cell: cell.trials):
        if (*cell.series, cell.trials) in known or cell.series in slow:
            continue
        measured = measure_apart(cell, suggestions or _suggestions(cell.trials), limit_s)
        if is_slow(measured, limit_s):
            slow.add(cell.series)
        cache.parent.mkdir(parents=True, exist_ok=True)
        with cache.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(measured)) + "\n")
        print(f"{cell.series}, {cell.trials} trials: {seconds_cell(measured)}", flush=True)


def is_slow(measured: Measured, limit_s: float) -> bool:
    """Return whether suggestions took longer than the limit, in the median."""
    return not measured.seconds or float(np.median(measured.seconds)) > limit_s


def _suggestions(trials: int) -> int:
    return next((count for n, count in SUGGESTIONS.items() if n >= trials), _FEWEST)


def seconds_cell(measured: Measured) -> str:
    """Return the median and the 99th percentile."""
    if not measured.seconds:
        return "stopped"
    return f"{np.median(measured.seconds):.3g} / {np.quantile(measured.seconds, 0.99):.3g}"


def tables(found: Sequence[Measured]) -> dict[str, Table]:
    """Return the tables `seconds` and `memory`: one row per arm, space and numbers of parameters and objectives."""
    sizes = sorted({each.cell.trials for each in found})
    columns = ("arm", "space", "parameters", "objectives", *(f"{n} trials" for n in sizes))
    series = list(
        dict.fromkeys(each.cell.series for each in sorted(found, key=lambda each: each.cell.series[1:]))
    )
    by_cell = {(*each.cell.series, each.cell.trials): each for each in found}
    counts = [len(each.seconds) for each in found if each.seconds]
    about = f"{min(counts, default=0)} to {max(counts, default=0)} suggestions per cell"

    def rows(show: Callable[[Measured], str]) -> tuple[tuple[str, ...], ...]:
        return tuple(
            (*map(str, each), *(show(by_cell[*each, n]) if (*each, n) in by_cell else "–" for n in sizes))
            for each in series
        )

    return {
        "seconds": Table(
            f"Median / 99th percentile of the CPU seconds per suggestion on one thread; {about}. "
            "`stopped`: the process exceeded its limit.",
            columns,
            rows(seconds_cell),
        ),
        "memory": Table(
            "Peak resident memory of the process, MiB, with Python and all imports; in brackets before the first "
            "suggestion.",
            columns,
            rows(lambda each: f"{each.peak_mib:.0f} ({each.before_mib:.0f})" if each.seconds else "–"),
        ),
    }


def _setup(found: Sequence[Measured]) -> Setup:
    """Return how the cells were measured: all their commits, processors and days."""
    measured = [each.environment for each in found if each.environment]
    commits, processors = (sorted({str(each[name]) for each in measured}) for name in ("commit", "processor"))
    return Setup(
        command="python -m benchmarks.overhead --cache FILE",
        hardware=f"{', '.join(processors)}, one thread",
        commit=", ".join(commits),
        date=datetime.now(UTC).date().isoformat(),
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, help="JSON-lines file that cells are appended to")
    parser.add_argument("--arms", choices=ARMS, nargs="+", default=["pareto", "pareto-unknown", "gp"])
    parser.add_argument("--trials", type=int, nargs="+", default=list(SUGGESTIONS))
    parser.add_argument("--parameters", type=int, nargs="+", default=[10, 30, 60])
    parser.add_argument("--objectives", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--spaces", choices=("flat", "conditional"), nargs="+", default=["flat"])
    parser.add_argument("--suggestions", type=int, help="per cell; by default fewer at larger studies")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds of a suggestion")
    parser.add_argument("--label", help="call the arms ARM@LABEL")
    parser.add_argument(
        "--options", type=json.loads, default={}, help="keyword arguments of this project's sampler, as JSON"
    )
    parser.add_argument(
        "--report", type=Path, nargs="+", metavar="FILE", help="caches to merge; runs nothing"
    )
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--cpu-limit", type=int, default=resource.RLIM_INFINITY, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    if given.cell is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (given.cpu_limit, resource.RLIM_INFINITY))
        print(json.dumps(asdict(measure(Cell(**json.loads(given.cell)), given.suggestions))))
        return
    if given.report is None and given.cache is None:
        raise SystemExit("give --cache FILE to measure, or --report FILE … to show tables")
    if given.report is None:
        cells = [
            Cell(arm, space, p, m, n, f"{arm}@{given.label}" if given.label else arm, given.options)
            for space in given.spaces
            for p in given.parameters
            for m in given.objectives
            for n in given.trials
            for arm in given.arms
        ]
        run_all(cells, given.cache, given.limit, given.suggestions)
    cells_found = load(given.report or [given.cache])
    found = tables(cells_found)
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in found.values()))
    if given.write:
        store(PAGE, found, _setup(cells_found))


if __name__ == "__main__":
    main()
