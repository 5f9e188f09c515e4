"""The command `python -m benchmarks.gpu`; see `benchmarks/gpu/__init__.py`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import benchmarks.gpu
from benchmarks.gpu.parts import PARTS, ROOT, Outcome, Part, allowed_seconds, run_part
from benchmarks.gpu.report import Report

_NO_GPU = """torch {version} sees no GPU ({cuda}).
Install the driver and a CUDA build of torch (https://pytorch.org/get-started/locally), and check it with
    python -c "import torch; print(torch.cuda.is_available())"
To try this script on a CPU: python -m benchmarks.gpu --out DIR --device cpu --tiny"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    names = [part.name for part in PARTS]
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(benchmarks.gpu.__doc__ or "").splitlines()[0]
    )
    found.add_argument("--out", type=Path, metavar="DIR", help="the folder of gpu.md, gpu.json and gpu.log")
    found.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    found.add_argument("--tiny", action="store_true", help="tiny models and packs, to try the script")
    found.add_argument("--minutes", type=float, default=9.0, help="for all parts together (default: 9)")
    found.add_argument("--parts", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    found.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    for hidden, kind in (("run-part", str), ("report", Path), ("seconds", float), ("scratch", Path)):
        found.add_argument(f"--{hidden}", type=kind, help=argparse.SUPPRESS)
    return found


def main() -> None:
    """Run all parts, or the one that `--run-part` names."""
    arguments = parser().parse_args()
    if arguments.run_part:
        measure(arguments)
        return
    if arguments.out is None:
        parser().error("--out is missing: name a folder for the results")
    if arguments.tiny and arguments.write:
        parser().error("--write stores figures of a card, and --tiny measures none; remove one of them")
    require_device(arguments.device)
    outcomes = run_all(arguments)
    if arguments.write:
        from benchmarks.gpu.tables import setup_of, tables_of
        from benchmarks.result_files import store

        store("gpu", tables_of(outcomes), setup_of(outcomes))
    sys.exit(any(outcome.state == "failed" or outcome.data.get("errors") for outcome in outcomes))


def require_device(device: str) -> None:
    """Exit with what to do if there is no GPU."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        cuda = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        sys.exit(_NO_GPU.format(version=torch.__version__, cuda=cuda))


def run_all(arguments: argparse.Namespace) -> list[Outcome]:
    """Run the parts one after another, and write the results after each."""
    started, end = time.monotonic(), time.monotonic() + 60 * arguments.minutes
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = arguments.out / "gpu.log"
    log.write_text(f"{' '.join(sys.argv)}\n", encoding="utf-8")
    wanted = [PARTS[0].name, *(arguments.parts or [part.name for part in PARTS])]  # tables name the card
    chosen = [part for part in PARTS if part.name in wanted]
    options = ["--device", arguments.device, *(["--tiny"] if arguments.tiny else [])]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="autotune-gpu-") as scratch:
        for place, part in enumerate(chosen):
            outcome = _run_or_skip(chosen[place:], end - time.monotonic(), options, Path(scratch), log)
            outcomes.append(outcome)
            write(arguments, outcomes, time.monotonic() - started)
            print(f"{part.name}: {outcome.state}, {outcome.seconds:.0f} s {outcome.message}", flush=True)
    print((arguments.out / "gpu.md").read_text(encoding="utf-8"))
    return outcomes


def _run_or_skip(
    waiting: list[Part], remaining: float, options: list[str], scratch: Path, log: Path
) -> Outcome:
    seconds = allowed_seconds(waiting, remaining)
    if seconds is None:
        return Outcome(waiting[0].name, "skipped", message=f"only {max(remaining, 0):.0f} s were left")
    return run_part(waiting[0], seconds, options, scratch, log)


def write(arguments: argparse.Namespace, outcomes: list[Outcome], seconds: float) -> None:
    """Write gpu.json and gpu.md."""
    from benchmarks.gpu.tables import page

    run: dict[str, Any] = {
        "command": ["python", "-m", "benchmarks.gpu", *sys.argv[1:]],
        "seconds": seconds,
        "commit": _commit(),
        "tiny": arguments.tiny,
        "device": arguments.device,
    }
    data = {"run": run, "parts": [outcome.as_json() for outcome in outcomes]}
    (arguments.out / "gpu.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "gpu.md").write_text(page(run, outcomes), encoding="utf-8")


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return ran.stdout.strip() or "unknown"


def measure(arguments: argparse.Namespace) -> None:
    """Run one part in this process."""
    from benchmarks.gpu.cases import run

    report = Report(arguments.report, arguments.seconds)
    os.makedirs(arguments.scratch, exist_ok=True)
    with report.noting(arguments.run_part):
        run(arguments.run_part, arguments.device, arguments.tiny, arguments.scratch, report)


if __name__ == "__main__":
    main()
