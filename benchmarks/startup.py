"""How long commands take until they answer, and until the first trial of the built-in sweep begins.

    python -m benchmarks.startup [--sweep sweeps/quickstart] [--repeats 5] [--commands status export] [--write]

Every measurement is a process of its own, with a warm file cache: one more run before them does not count. Wall time
depends on what else the machine does; processor time, of the process and those that it waited for, less so. The first
trial begins when the study holds its start, which is after the workers have loaded the base model and the data; the
sweep is then interrupted. Without `--sweep`, a short quickstart is searched first.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.result_files import Table, store

PAGE = "startup"
_AUTOTUNE = (sys.executable, "-m", "autotune")
_DEADLINE = 300.0
"""Seconds after which a sweep without a first trial is an error."""


@dataclass(frozen=True)
class Cost:
    """What a process took, in seconds of wall and processor time."""

    wall: float
    processor: float


def command_cost(arguments: Sequence[str]) -> Cost:
    """Run a command of autotune to its end, and return what it took.

    Raises:
        RuntimeError: The command fails.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        [*_AUTOTUNE, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"autotune {' '.join(arguments)} failed: {errors}")
    return Cost(time.perf_counter() - started, used.ru_utime + used.ru_stime)


def first_trial_cost(folder: Path) -> Cost:
    """Start the built-in sweep in a new folder, and return what it took until its first trial began.

    Raises:
        RuntimeError: No trial begins.
    """
    started, clock = time.perf_counter(), time.time()
    command = [*_AUTOTUNE, "run", "quickstart", "--quiet", "--out", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not has_trial(folder / "study.db"):
                if process.poll() is not None or time.time() - clock > _DEADLINE:
                    raise RuntimeError("the first trial did not begin")
                time.sleep(0.02)
            return Cost(time.perf_counter() - started, _processor_seconds(process.pid))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def has_trial(study: Path) -> bool:
    """Return whether a study holds a trial that has begun; the file may not exist yet, or be half made."""
    if not study.is_file():
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{study}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT count(*) FROM trials WHERE datetime_start IS NOT NULL").fetchone()
        return bool(found[0])
    return False


def table(costs: dict[str, list[Cost]], load: float) -> Table:
    """Return the medians and ranges of what commands took.

    Args:
        costs: By command, what each of its processes took.
        load: The load of the machine before the first measurement.
    """
    count = len(next(iter(costs.values())))
    caption = f"Seconds, median of {count} processes each (range); load of the machine {load:.1f}."
    rows = tuple(
        (f"`{name}`", _spread([c.wall for c in each]), _spread([c.processor for c in each]))
        for name, each in costs.items()
    )
    return Table(caption, ("command", "wall time, s", "processor time, s"), rows)


def measurements(sweep: Path, work: Path) -> dict[str, Callable[[int], Cost]]:
    """Return, by name, what measures a command in its n-th repetition.

    Args:
        sweep: The folder of a finished sweep.
        work: A folder for what the commands write.
    """
    data = work / "reviews.csv"
    data.write_text("text,label\n" + "".join(f"text number {i},{i % 2}\n" for i in range(200)))

    def of(*arguments: str) -> Callable[[int], Cost]:
        return lambda number: command_cost([each.format(n=number) for each in arguments])

    folder = str(sweep)
    return {
        "autotune --help": of("--help"),
        "autotune status": of("status", folder),
        "autotune report": of("report", folder),
        "autotune export": of("export", folder, "--to", str(work / "run-{n}")),
        "autotune init": of(
            "init", "--model", "builtin:pocket", "--data", str(data), "--out", f"{work}/{{n}}.yaml"
        ),
        "autotune run quickstart --dry-run": of("run", "quickstart", "--dry-run"),
        "autotune resume (finished)": of("resume", folder),
        "autotune run quickstart (first trial)": lambda n: first_trial_cost(work / f"sweep-{n}"),
    }


def _processor_seconds(pid: int) -> float:
    """Return the processor seconds of a running process and all under it."""
    spent = 0.0
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            spent += times.user + times.system
    return spent


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure the commands, print the table and store it on request."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweep", type=Path, help="the folder of a finished sweep")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--commands", nargs="+", help="parts of the commands' names; by default all")
    parser.add_argument("--write", action="store_true", help="store the table for the documentation")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sweep = options.sweep or work / "searched"
        if options.sweep is None:
            command_cost(["run", "quickstart", "--trials", "6", "--quiet", "--out", str(sweep)])
        load = os.getloadavg()[0]
        costs: dict[str, list[Cost]] = {}
        for command, measure in measurements(sweep, work).items():
            if options.commands and not any(part in command for part in options.commands):
                continue
            costs[command] = [measure(number) for number in range(options.repeats + 1)][1:]
            print(f"{command}: {_spread([cost.wall for cost in costs[command]])} s", flush=True)
    found = table(costs, load)
    print(found.as_markdown(), found.caption, sep="\n\n")
    if options.write:
        print(store(PAGE, {"commands": found}))


if __name__ == "__main__":
    main()
