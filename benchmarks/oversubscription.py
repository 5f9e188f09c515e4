"""Trials with one and two threads, on an idle machine and beside other work, with threads that spin and that sleep.

    python -m benchmarks.oversubscription [--model pocket minilm] [--busy 2] [--repeats 1] [--write]

The built-in model (width 96) on its data, and with `--model minilm` all-MiniLM-L6-v2 (width 384) on SST-2, LoRA on
all layers, through the executor `local`. Other work is `--busy` processes that compute without end. Each case is a
process of its own, since OpenMP reads its environment once: one trial to warm up, then three. The cases take turns,
`--repeats` rounds. A trial that takes longer than `--limit` seconds is cut off, and shown as a lower bound.

* `spin`: what OpenMP does by default; threads that wait for each other keep their core.
* `sleep`: `OMP_WAIT_POLICY=PASSIVE`, as the command `autotune` and worker processes set it.

`explained` is the slowdown that the division of the cores explains: a fair scheduler gives each of the n processes
and t threads cores / (n + t) of a core. `--write` stores the table in benchmarks/results/threads.json.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import NoReturn

from benchmarks.result_files import Table, store
from trials.base.cores import usable_cores
from trials.execution.compute import Compute
from trials.tasks.specs import ModelSpec, TaskSpec

WIDTHS = {"pocket": 96, "minilm": 384}
SAMPLES, TRIALS = 160, 3
COLUMNS = ("model", "threads", "waiting", "idle, s", "beside other work, s", "times slower", "explained")
_CUT = "cut off after"


@dataclass(frozen=True)
class Case:
    """Trials of a model under one policy.

    Args:
        model: The name of the model in `WIDTHS`.
        threads: The number of threads.
        policy: How threads wait: `spin` or `sleep`.
        busy: The number of other processes that compute meanwhile.
    """

    model: str
    threads: int
    policy: str
    busy: int


@dataclass
class Seconds:
    """Wall seconds of the trials of a case; `is_cut` if one of them was cut off at its limit."""

    trials: list[float]
    is_cut: bool = False

    @property
    def median(self) -> float:
        """The median of the trials."""
        return statistics.median(self.trials)

    def __str__(self) -> str:
        if self.is_cut:
            return f"more than {self.median:.1f}"
        return f"{self.median:.2f} ({min(self.trials):.2f} to {max(self.trials):.2f})"


@contextmanager
def other_work(count: int) -> Iterator[None]:
    """Keep processes running that compute without end."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def setting_of(model: str) -> tuple[ModelSpec, TaskSpec]:
    """Return the base model and the task of a name in `WIDTHS`, in fp32 on the CPU."""
    if model == "minilm":
        from benchmarks.throughput import setting

        return setting("cpu", "fp32")
    from autotune.sweep.sweep_file import load_sweep

    sweep = load_sweep("quickstart")
    return sweep.model.model_copy(update={"precision": "fp32", "device": "cpu"}), sweep.task


def measure(case: Case, limit: float) -> Seconds:
    """Run a case in a process of its own, which ends when a trial takes longer than `limit` seconds."""
    settings = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    environment |= {"AUTOTUNE_PREFIX_CACHE": "0", "TRANSFORMERS_VERBOSITY": "error"}
    if case.policy == "sleep":
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    child = ["--child", case.model, "--threads", str(case.threads), "--limit", str(limit)]
    with other_work(case.busy):
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.oversubscription", *child],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    lines = ran.stdout.splitlines()
    return Seconds([float(line.split()[-1]) for line in lines], any(line.startswith(_CUT) for line in lines))


def run_trials(name: str, threads: int, limit: float) -> None:
    """Print the seconds of each trial after the first; this process does nothing else."""
    from benchmarks.throughput import configurations
    from trials.execution.in_process import LocalExecutor
    from trials.records import Fidelity, TrialSpec

    def cut_off(*_: object) -> NoReturn:
        print(_CUT, limit, flush=True)
        os._exit(0)

    executor = LocalExecutor(compute=Compute(threads=threads))
    executor.start(*setting_of(name))
    config = configurations("all layers", 1, executor.runner.base.shape.depth)[0]
    spec = TrialSpec(config, fidelity=Fidelity(train_samples=SAMPLES, eval_samples=SAMPLES, evaluations=1))
    signal.signal(signal.SIGALRM, cut_off)
    for trial in range(TRIALS + 1):
        signal.setitimer(signal.ITIMER_REAL, limit)
        began = time.perf_counter()
        result = executor.run(spec)
        assert result.error is None, result.error
        if trial:
            print(time.perf_counter() - began, flush=True)
    signal.setitimer(signal.ITIMER_REAL, 0)
    executor.stop()


def rows(found: Mapping[Case, Seconds], busy: int) -> list[tuple[str, ...]]:
    """Return the rows of the table: one per model, number of threads and policy."""
    cores, shown = usable_cores(), []
    for model in dict.fromkeys(case.model for case in found):
        chosen = Compute().threads_for(WIDTHS[model], "cpu")
        for threads, policy in _policies():
            idle, beside = (found[Case(model, threads, policy, count)] for count in (0, busy))
            slower = beside.median / idle.median
            is_default = (threads, policy) == (chosen, "sleep")
            shown.append(
                (
                    f"{model} (width {WIDTHS[model]})",
                    f"{threads}{' (default)' if is_default else ''}",
                    policy if threads > 1 else "none",
                    str(idle),
                    str(beside),
                    f"{'more than ' if beside.is_cut else ''}{slower:.1f}",
                    f"{max(1.0, (busy + threads) / cores):.1f}",
                )
            )
    return shown


def _policies() -> list[tuple[int, str]]:
    """Return the pairs of threads and policy; one thread waits for none, so that its policy does not matter."""
    return [(1, "sleep"), (2, "spin"), (2, "sleep")]


def run(arguments: argparse.Namespace) -> Table:
    """Measure all cases and return the table."""
    found: dict[Case, Seconds] = defaultdict(lambda: Seconds([]))
    cases = [Case(m, t, p, b) for m, (t, p), b in product(arguments.model, _policies(), (0, arguments.busy))]
    load = os.getloadavg()[0]
    for _ in range(arguments.repeats):
        for case in cases:
            one = measure(case, arguments.limit)
            print(case, one, file=sys.stderr, flush=True)
            found[case].trials += one.trials
            found[case].is_cut |= one.is_cut
    caption = (
        f"Wall seconds of a trial of {SAMPLES} + {SAMPLES} examples, beside {arguments.busy} processes that compute "
        f"without end: median (lowest to highest) of {TRIALS * arguments.repeats}. Load before the start: {load:.1f}."
    )
    return Table(caption, COLUMNS, tuple(rows(found, arguments.busy)))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", choices=WIDTHS, nargs="+", default=["pocket"])
    parser.add_argument("--busy", type=int, default=2, help="other processes that compute")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds after which a trial is cut off")
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    parser.add_argument(
        "--child", choices=WIDTHS, help="run the trials of one case; used by this script itself"
    )
    parser.add_argument("--threads", type=int, default=1, help="of one case")
    arguments = parser.parse_args(words)
    if arguments.child:
        run_trials(arguments.child, arguments.threads, arguments.limit)
        return
    table = run(arguments)
    print(table.as_markdown(), table.caption, sep="\n\n")
    if arguments.write:
        store("threads", {"oversubscription": table})


if __name__ == "__main__":
    main()
