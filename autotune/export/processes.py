"""The processes in which an exported run trains, as its trial did with the executor `accelerate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from autotune.sweep.schema import Sweep
from search_spaces.language.yaml_io import write_yaml

CONFIG = "accelerate.yaml"
"""The configuration of `accelerate launch` in an exported run."""


def processes_of(sweep: Sweep) -> int:
    """Return the number of processes that train an exported run together."""
    if sweep.executor.name != "accelerate":
        return 1
    if sweep.executor.processes is not None:
        return sweep.executor.processes
    from trials.execution.together import usual_count

    return usual_count(sweep.model)


def write_config(sweep: Sweep, to: Path) -> None:
    """Write the configuration of `accelerate launch`, if several processes train the run on GPUs.

    On CPUs, accelerate starts processes by MPI only; torchrun does it without.
    """
    from trials.base.model import choose_device

    count, device = processes_of(sweep), choose_device(sweep.model.device)
    if count == 1 or device.type != "cuda":
        return
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "num_machines": 1,
        "num_processes": count,
        "machine_rank": 0,
        "mixed_precision": "no",  # training_args.json decides
    }
    write_yaml(settings, to / CONFIG)


def launch_command(run: Path) -> list[str]:
    """Return the command that starts the script of a run, in as many processes as it names."""
    count = int(json.loads((run / "run.json").read_text(encoding="utf-8")).get("processes", 1))
    script = str(run.resolve() / "train.py")
    if count == 1:
        return [sys.executable, script]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return [sys.executable, *launcher, script]


def launch_note(sweep: Sweep) -> str:
    """Return how several processes are started, for the README; empty for one."""
    count = processes_of(sweep)
    if count == 1:
        return ""
    return (
        f"\nIts trial trained in {count} processes, which divide the examples of every batch. So does\n"
        f"`torchrun --nproc-per-node {count} train.py` (and `autotune train`), or on GPUs\n"
        f"`accelerate launch --config_file {CONFIG} train.py`.\n"
    )
