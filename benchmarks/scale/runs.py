"""Training runs in packs, of which each is kept as one JSON line, so that a part resumes where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.processor import processor_seconds
from search_spaces.parameters.types import Configuration
from trials.execution.executors import make_executor
from trials.records import Fidelity, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec


@dataclass(frozen=True)
class RunPlan:
    """A run that is to be trained.

    Args:
        arm: What the run is for, in a word.
        config: The configuration, without a number of training examples.
        examples: The number of training examples.
        seed: The seed of initial values and data order.
    """

    arm: str
    config: Configuration
    examples: int
    seed: int

    @property
    def key(self) -> str:
        """The text that identifies the run in its file."""
        return json.dumps([self.arm, self.config, self.examples, self.seed], sort_keys=True)


@dataclass(frozen=True)
class FinishedRun(RunPlan):
    """A run with its scores.

    Args:
        validation: The scores on the validation split, by metric.
        test: The scores on the test split.
    """

    validation: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)


def read_runs(path: Path) -> list[FinishedRun]:
    """Return the runs of a file; none where it does not exist."""
    if not path.exists():
        return []
    return [FinishedRun(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def train_missing(
    path: Path,
    plans: Sequence[RunPlan],
    model: ModelSpec,
    task: TaskSpec,
    *,
    pack: int = 7,
) -> list[FinishedRun]:
    """Train the runs that a file does not hold yet, and append each to it when it ends.

    Args:
        path: The file of JSON lines.
        plans: The runs.
        model: The base model.
        task: The task.
        pack: The number of runs that train at the same time.

    Returns:
        The finished runs of the plans, in their order.

    Raises:
        RuntimeError: A run did not end well.
    """
    done = {run.key for run in read_runs(path)}
    missing = [plan for plan in plans if plan.key not in done]
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        for run in _trained(missing, model, task, pack):
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(run)) + "\n")
    found = {run.key: run for run in read_runs(path)}
    return [found[plan.key] for plan in plans]


def _trained(plans: Sequence[RunPlan], model: ModelSpec, task: TaskSpec, pack: int) -> Iterator[FinishedRun]:
    executor, before = make_executor("packed", pack), processor_seconds()
    waiting, running = list(enumerate(plans)), dict[int, RunPlan]()
    try:
        executor.start(model, task)
        while waiting or running:
            while waiting and len(running) < pack:
                number, plan = waiting.pop(0)
                running[number] = plan
                amount = Fidelity(plan.examples, evaluations=1)
                executor.submit(number, TrialSpec(plan.config, plan.seed, amount, score_test=True))
            number, result = executor.next_result()
            plan = running.pop(number)
            if result.status != TrialStatus.COMPLETE:
                raise RuntimeError(f"{plan.key} ended as {result.status}: {result.error}")
            spent = processor_seconds() - before
            print(f"{plan.key}: loss {result.metrics['eval_loss']:.4f}; {spent:.0f} s of processor time, "
                  f"load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
            scores = (dict(result.metrics), dict(result.test_metrics))
            yield FinishedRun(plan.arm, plan.config, plan.examples, plan.seed, *scores)
    finally:
        executor.stop()
