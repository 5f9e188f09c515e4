"""Resident memory of a long sweep: a whole search with many short trials of all families, trial by trial.

    python -m benchmarks.long_sweep [--executor packed local processes] [--trials 200] [--model minilm] [--write]

The sweep is the built-in one with shorter trials, its sampler and its ledger, through the engine as in `run`;
with `--model minilm`, all-MiniLM-L6-v2 on SST-2 and the preset `lora`. Each executor has a process of its own. A
thread reads the resident memory of that process and its workers every 20 ms; the highest value between two ends of
trials counts for the later one. The hidden states of frozen layers that a pack keeps, which are bounded by a limit of
their own, are subtracted (`kept`); for worker processes they are not known, and count.

`growth` compares the highest memory of the whole search with the highest until the tenth trial. `--json` writes the
memory by trial, and `--write` stores the table in benchmarks/results/long-sweep.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from autotune.engine.events import SilentListener
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import as_mapping, load_sweep, parse_sweep
from benchmarks.result_files import Table, store
from trials.execution.executors import make_executor
from trials.execution.in_process import LocalExecutor, PackedExecutor
from trials.execution.interface import Executor
from trials.records import TrialResult

EXECUTORS: dict[str, dict[str, Any]] = {
    "packed": {"name": "packed", "workers": 4},
    "local": {"name": "local"},
    "processes": {"name": "processes", "workers": 2},
}
EARLY = 10
"""The trial after which memory must no longer grow."""
INTERVAL = 0.02
COLUMNS = (
    "executor", "trials", f"memory until trial {EARLY}, MiB", "of the whole search, MiB", "growth",
    "at the end, MiB", "kept states, MiB", "minutes",
)  # fmt: skip


class MemoryByTrial(SilentListener):
    """A listener that reads resident memory all the time, and keeps the highest value for each trial.

    Args:
        executor: The executor of the sweep, whose kept states are subtracted.
    """

    def __init__(self, executor: Executor) -> None:
        self.peaks: list[int] = []
        self.current: list[int] = []
        self.kept: list[int] = []
        self._executor, self._highest, self._done = executor, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryByTrial:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def trial_finished(
        self, number: int, result: TrialResult, values: dict[str, float], on_front: bool
    ) -> None:
        """Note the memory of a trial that has ended."""
        now = self._resident()
        self.peaks.append(max(self._highest, now))
        self.current.append(now)
        self.kept.append(self._kept())
        self._highest = 0

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self._highest = max(self._highest, self._resident())

    def _resident(self) -> int:
        process, total = psutil.Process(), 0
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
        return total - self._kept()

    def _kept(self) -> int:
        if not isinstance(self._executor, LocalExecutor | PackedExecutor) or self._executor._runner is None:
            return 0
        return sum(pack.prefixes.bytes for pack in list(self._executor.runner.packs.values()))


def sweep_for(executor: str, model: str, trials: int) -> Sweep:
    """Return the sweep: the built-in one, or MiniLM's, with short trials and without a confirmation."""
    given = as_mapping(load_sweep("quickstart"))
    given |= {
        "name": f"long-{executor}",
        "budget": {"trials": trials},
        "fidelity": {"train_samples": 96, "eval_samples": 96, "evaluations": 1},
        "confirm": {"seeds": 0},
        "executor": EXECUTORS[executor],
    }
    if model == "minilm":
        from benchmarks.throughput import setting

        spec, task = setting("cpu", "fp32")
        given |= {
            "model": spec.model_dump(mode="json", exclude_none=True),
            "task": task.model_dump(mode="json", exclude_none=True),
            "space": "lora",
        }
    return parse_sweep(given)


def measure(executor: str, model: str, trials: int) -> dict[str, Any]:
    """Run a sweep in this process, and return its memory by trial."""
    from autotune.engine.sweep_run import run_sweep

    sweep = sweep_for(executor, model, trials)
    made = make_executor(**sweep.executor.model_dump(), device="cpu")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, MemoryByTrial(made) as memory:
        run_sweep(sweep, Path(folder) / "sweep", memory, executor=made)
    return {
        "executor": executor,
        "model": sweep.model.name,
        "seconds": time.perf_counter() - began,
        "peaks": memory.peaks,
        "current": memory.current,
        "kept": memory.kept,
    }


def row(found: dict[str, Any]) -> tuple[str, ...]:
    """Return the row of an executor: its highest memory until the tenth trial, and of all trials."""
    early, whole = max(found["peaks"][:EARLY]), max(found["peaks"])
    sizes = (f"{size / 2**20:,.0f}" for size in (early, whole))
    return (
        found["executor"],
        str(len(found["peaks"])),
        *sizes,
        f"{whole / early - 1:+.1%}",
        f"{found['current'][-1] / 2**20:,.0f}",
        f"{found['kept'][-1] / 2**20:,.0f}",
        f"{found['seconds'] / 60:.1f}",
    )


def run_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the sweep with each executor in a process of its own."""
    found = []
    for executor in arguments.executor:
        words = ["--child", executor, "--trials", str(arguments.trials), "--model", arguments.model]
        command = [sys.executable, "-m", "benchmarks.long_sweep", *words]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(ran.stdout.splitlines()[-1]))
        print(*row(found[-1]), sep="  ", file=sys.stderr, flush=True)
    return found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--executor", choices=EXECUTORS, nargs="+", default=["packed", "local"])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--model", choices=("pocket", "minilm"), default="pocket")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the memory by trial")
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    parser.add_argument("--child", choices=EXECUTORS, help="run one sweep; used by this script itself")
    arguments = parser.parse_args(words)
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.model, arguments.trials)))
        return
    found = run_all(arguments)
    caption = (
        f"Highest resident memory of all processes, {arguments.model}; kept hidden states are subtracted."
    )
    table = Table(caption, COLUMNS, tuple(map(row, found)))
    print(table.as_markdown(), table.caption, sep="\n\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(found), encoding="utf-8")
    if arguments.write:
        store("long-sweep", {f"memory-{arguments.model}": table})


if __name__ == "__main__":
    main()
