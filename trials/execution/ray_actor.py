"""What runs in a Ray worker's process on its node."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.errors import InvalidInputError, Problem
from trials.base.cores import usable_cores, wait_passively
from trials.execution.compute import Compute, ThreadCount
from trials.execution.ray_placement import Placement
from trials.records import TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec

if TYPE_CHECKING:
    from trials.execution.runner import Runner


@dataclass(frozen=True)
class Setup:
    """What every worker loads.

    Args:
        model: The base model.
        task: The task.
        compute: The threads and the chunks.
        folder: The working directory of the sweep, to which relative paths refer.
        files: The paths of the model and the data that are local where the sweep runs.
    """

    model: ModelSpec
    task: TaskSpec
    compute: Compute
    folder: str
    files: tuple[str, ...]


class RayActor:
    """What runs in a worker's process on its node; it is created without loading anything."""

    def __init__(self) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        wait_passively()
        self._runner: Runner | None = None

    def host(self) -> str:
        """Return the name of the node's host."""
        return socket.gethostname()

    def load(self, setup: Setup, placement: Placement) -> None:
        """Load the base model and the data.

        Raises:
            InvalidInputError: They cannot be used, or their files are not on this node.
        """
        with contextlib.suppress(OSError):  # the folder may be on the machine of the sweep only
            os.chdir(setup.folder)
        check_files(setup.files, self.host())
        from trials.execution.runner import Runner

        threads, compute = ThreadCount(), setup.compute
        # A cluster may declare more CPUs than a node has.
        limit = compute.threads or min(placement.threads, usable_cores())
        threads.set(limit)
        self._runner = Runner(setup.model, setup.task, placement.sharers, chunk_tokens=compute.chunk_tokens)
        threads.set(min(limit, compute.threads_for(self._runner.base.shape.width, setup.model.device)))

    def run(self, spec: TrialSpec) -> TrialResult:
        """Train one configuration; see `Runner.run`."""
        assert self._runner is not None, "load() comes first"
        return self._runner.run(spec)


def local_files(model: ModelSpec, task: TaskSpec) -> tuple[str, ...]:
    """Return the paths of the model and the data that exist here; other names are of the hub, or of splits."""
    own = [task.dataset] if task.dataset else [task.train, task.validation, task.test]
    data = [*own, *(each.dataset or each.data for each in task.also)]
    named = [
        model.name,
        *(path for each in data for path in ([each] if isinstance(each, str) else each or ())),
    ]
    return tuple(path for path in named if Path(path).expanduser().exists())


def check_files(files: Sequence[str], host: str) -> None:
    missing = [path for path in files if not Path(path).expanduser().exists()]
    if missing:
        fix = "Put the model and the data into a folder that all nodes share, or copy them to the same path on each."
        raise InvalidInputError(
            [Problem("executor", f"{path!r} does not exist on the Ray node {host}", fix) for path in missing]
        )
