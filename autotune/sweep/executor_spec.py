"""The executor of a sweep file: where trials run, and how many run at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.errors import InvalidInputError, Problem
from trials.tasks.model_spec import ModelSpec

_Count = Annotated[int, Field(ge=1, strict=True)]
_Tokens = Annotated[int, Field(ge=64, strict=True)]
"""A pack does not divide a chunk of so few tokens again."""


class ExecutorSpec(BaseModel):
    """Where trials run, and how many at a time.

    Args:
        name: `local` (this process, one trial after another), `packed` (this process, several trials at once on one
            base model), `processes` (worker processes on this machine), `ray`, or `accelerate` (processes that train
            one trial together, for a single large trial).
        workers: Trials at the same time: one for `local`, by default two for `processes`; for `packed` by default
            eight on a GPU and two on a CPU; for `ray` by default one per GPU of the cluster, or one per node if it
            has no GPUs.
        address: Address of the Ray cluster; `auto` for the one this machine belongs to.
        processes: Processes among which `packed` divides its workers, or `accelerate` the examples of each batch; by
            default one per GPU there, and two on a CPU. Each loads the base model and uses its part of the cores and,
            with several GPUs, one of them.
        threads: Threads that each process computes with on a CPU; by default what suits its part of the cores.
        chunk_tokens: The maximum number of tokens of one forward pass of a pack, padding included; by default what
            suits the device. A pack goes below it where memory is short.
        strategy: How the processes of `accelerate` divide the work: `ddp`, each with the whole base model and a part
            of the examples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["local", "packed", "processes", "ray", "accelerate"] = "local"
    workers: _Count | None = None
    address: str | None = None
    processes: _Count | None = None
    threads: _Count | None = None
    chunk_tokens: _Tokens | None = None
    strategy: Literal["ddp", "fsdp"] = "ddp"

    @property
    def uses_processes(self) -> bool:
        """Whether trials run in worker processes of this machine."""
        is_divided = self.name == "packed" and (self.processes or 1) > 1
        return self.name in ("processes", "accelerate") or is_divided

    @model_validator(mode="before")
    @classmethod
    def _default_workers(cls, data: object) -> object:
        counted = ("packed", "ray")  # when they start, by the device or the cluster
        if isinstance(data, Mapping) and data.get("name") not in counted and data.get("workers") is None:
            is_single = data.get("name", "local") in ("local", "accelerate")
            return {**data, "workers": 1 if is_single else 2}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> ExecutorSpec:
        if self.name == "local" and self.workers != 1:
            fix = f"Write executor: {{name: processes, workers: {self.workers}}}."
            raise InvalidInputError(
                Problem("executor.workers", f"local runs one trial at a time, not {self.workers}", fix)
            )
        if self.name != "ray" and self.address is not None:
            fix = "Write name: ray, or remove address."
            raise InvalidInputError(
                Problem("executor.address", f"executor {self.name} takes no address", fix)
            )
        if self.name == "accelerate" and self.workers != 1:
            fix = f"Remove workers, or write executor: {{name: processes, workers: {self.workers}}}."
            what = f"accelerate trains one trial at a time, not {self.workers}"
            raise InvalidInputError(Problem("executor.workers", what, fix))
        if self.strategy == "fsdp":
            what = (
                "fsdp divides the base model's tensors among processes, and the trials of a sweep share them: each "
                "wraps a copy of the module tree"
            )
            fix = "Write strategy: ddp, or model: {device_map: balanced} for a model that is too large for a device."
            raise InvalidInputError(Problem("executor.strategy", what, fix))
        if self.processes is not None and self.name not in ("packed", "accelerate"):
            fix = "Write name: packed or accelerate, or remove processes."
            what = f"executor {self.name} takes no processes"
            raise InvalidInputError(Problem("executor.processes", what, fix))
        if self.name == "packed" and self.processes and self.workers and self.processes > self.workers:
            what = f"{self.processes} processes are more than the {self.workers} trials that run at the same time"
            fix = f"Write workers: {self.processes} or more, or fewer processes."
            raise InvalidInputError(Problem("executor.processes", what, fix))
        return self


def check_devices(executor: ExecutorSpec, model: ModelSpec) -> None:
    """Refuse several processes, or packs, with a base model that is spread over the devices.

    Raises:
        InvalidInputError: The executor does not run one trial at a time in one process.
    """
    if model.device_map is not None and executor.name != "local":
        what = f"executor {executor.name} cannot run trials on a model with device_map, one at a time"
        fix = "Write executor: local, or remove device_map."
        raise InvalidInputError(Problem("executor.name", what, fix))
