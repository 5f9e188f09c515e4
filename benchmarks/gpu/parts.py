"""The parts of the measurement, their shares of the time, and how each runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu import report as reports

ROOT = Path(__file__).parents[2]
_LEAST_SHARE = 0.35
"""A part is skipped if less than this share of its planned seconds is left for it."""
_OWN_SHARE = 0.85
"""The share of a part's time in which it begins measurements; at the end of the time its process is killed."""


@dataclass(frozen=True)
class Part:
    """A part of the measurement.

    Args:
        name: The name after `--parts`.
        seconds: The planned seconds on a GPU, the start of the process included.
    """

    name: str
    seconds: float


PARTS = (
    Part("card", 60),
    Part("minilm-bf16", 55),
    Part("decoder-256-bf16", 70),
    Part("decoder-1024-bf16", 70),
    Part("decoder-256-nf4", 70),
    Part("tests", 60),
    Part("decoder-1024-nf4", 70),
    Part("quickstart", 50),
    Part("operations-decoder", 30),
    Part("operations-minilm", 15),
    Part("minilm-fp32", 30),
)
"""In the order in which they run: what later parts need first, then what says most.

Seconds that a part leaves are for those after it; those of the first one allow for a slow start.
"""


@dataclass
class Outcome:
    """How a part went.

    Args:
        part: Its name.
        state: done, incomplete (with notes or errors), failed (its process ended early) or skipped.
        seconds: The wall time of its process.
        message: Why it is not done; empty if it is.
        data: Its report, see `report.py`.
    """

    part: str
    state: str
    seconds: float = 0.0
    message: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON-compatible data."""
        return asdict(self)


def allowed_seconds(waiting: Sequence[Part], remaining: float) -> float | None:
    """Return the seconds that the first of the waiting parts may take, or None if too few are left for it.

    The remaining time is divided in proportion to the planned seconds, so that what a part leaves is for those
    after it, and a part that hangs does not take all.
    """
    first = waiting[0]
    share = remaining * first.seconds / sum(part.seconds for part in waiting)
    return None if share < _LEAST_SHARE * first.seconds else share


def run_part(part: Part, seconds: float, options: Sequence[str], folder: Path, log: Path) -> Outcome:
    """Run a part in a process of its own, for at most so many seconds, and read what it has reported.

    Args:
        part: The part.
        seconds: The seconds after which it is killed.
        options: Further options of the command.
        folder: The temporary folder of all parts.
        log: The file to which its output is added.
    """
    path, started = folder / f"{part.name}.json", time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu", "--run-part", part.name, "--report", str(path)]
    command += ["--seconds", f"{_OWN_SHARE * seconds:.1f}", "--scratch", str(folder), *options]
    with log.open("a", encoding="utf-8") as output:
        output.write(f"\n===== {part.name}, at most {seconds:.0f} s\n")
        output.flush()
        code = _wait(command, seconds, output)
    data = reports.read(path)
    taken = time.monotonic() - started
    if code is None:
        return Outcome(part.name, "failed", taken, f"killed after {seconds:.0f} s", data)
    if code:
        return Outcome(part.name, "failed", taken, f"its process ended with {code}; see {log.name}", data)
    problems = [*(error["what"] + ": " + error["error"] for error in data["errors"]), *data["notes"]]
    return Outcome(part.name, "incomplete" if problems else "done", taken, "; ".join(problems), data)


def _wait(command: Sequence[str], seconds: float, output: Any) -> int | None:
    """Return the exit code of a command, or None if it was killed after some seconds, with all its children."""
    process = subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=environment(), start_new_session=True
    )
    try:
        return process.wait(timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    import contextlib
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment() -> dict[str, str]:
    """Return the environment of the parts: one GPU, no network, nothing kept from earlier runs."""
    given = {
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "AUTOTUNE_PREFIX_CACHE": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return {**os.environ, **given}


def run_tests(report: reports.Report, folder: Path) -> None:
    """Run `pytest -m gpu`, and count its tests by their outcome."""
    path = folder / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-n", "0", "-rfEs"]
    command += ["-p", "no:cacheprovider", f"--junitxml={path}"]
    with report.noting("pytest"):
        ran = subprocess.run(command, cwd=ROOT, check=False, timeout=max(report.remaining, 1))
        if ran.returncode not in (0, 1) or not path.is_file():  # 1: some tests fail, which their counts say
            raise RuntimeError(f"pytest ended with {ran.returncode}")
    if path.is_file():
        report.row("tests", counts_of_tests(path))


def counts_of_tests(path: Path) -> dict[str, Any]:
    """Return the number of tests by outcome, and what failed or was skipped and why, from a JUnit file."""
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    failures, reasons = [], set()
    skipped = 0
    for case in cases:
        bad = next((found for kind in ("failure", "error") if (found := case.find(kind)) is not None), None)
        if bad is not None:
            failures.append(f"{case.get('name')}: {(bad.get('message') or '')[:300]}")
        elif (skip := case.find("skipped")) is not None:
            skipped += 1
            reasons.add(skip.get("message") or "")
    return {
        "tests": len(cases),
        "passed": len(cases) - len(failures) - skipped,
        "failed": len(failures),
        "skipped": skipped,
        "failures": failures,
        "reasons": sorted(reasons),
    }


def run_quickstart(report: reports.Report, folder: Path, device: str, trials: int | None) -> None:
    """Run the built-in sweep in a new folder; without a GPU if the device is `cpu`."""
    out = folder / "quickstart"
    command = [sys.executable, "-m", "autotune", "run", "quickstart", "--out", str(out), "--quiet"]
    command += [] if trials is None else ["--trials", str(trials)]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    started = time.monotonic()
    with report.noting("autotune run quickstart"):
        ran = subprocess.run(
            command, env={**os.environ, **hidden}, check=False, timeout=max(report.remaining, 1)
        )
        seconds = time.monotonic() - started
        if ran.returncode:
            raise RuntimeError(f"it ended with {ran.returncode}")
        report.row("quickstart", {"seconds": seconds, **_sweep_figures(out, seconds)})


def _sweep_figures(out: Path, seconds: float) -> dict[str, Any]:
    import pandas as pd

    count = len(pd.read_parquet(out / "trials.parquet"))
    points = len(pd.read_csv(out / "front.csv"))
    return {"trials": count, "trials_per_hour": 3600 * count / seconds, "points": points}
