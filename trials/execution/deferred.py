"""An executor that loads nothing before its first trial, for a sweep that has probably none left."""

from __future__ import annotations

from trials.execution.interface import Executor
from trials.records import TrialResult, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec


class DeferredExecutor(Executor):
    """Another executor, started when the first trial is submitted.

    Args:
        executor: Runs the trials; its slots must be known before it starts.
    """

    name = "deferred"

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor.slots, compute=executor.compute)
        self._executor = executor
        self._setup: tuple[ModelSpec, TaskSpec] | None = None

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        self._setup = model, task

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        if self._setup is not None:
            self._executor.start(*self._setup)
            self._setup = None
        self._executor.submit(ticket, spec)

    def next_result(self) -> tuple[int, TrialResult]:
        return self._executor.next_result()

    def stop(self) -> None:
        self._executor.stop()
