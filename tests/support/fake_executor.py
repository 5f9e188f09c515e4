"""An executor whose results are a formula of the configuration, the seed and the fidelity: no model is trained.

Example:
    executor = FakeExecutor(workers=2, fails=lambda spec: spec.config["family"] == "lora")
    results = run_sweep(sweep, folder, executor=executor)
    assert len(executor.specs) == len(results.trials)
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from search_spaces.parameters.types import Configuration
from trials.execution.interface import Executor
from trials.records import LOST, CurvePoint, TrialResult, TrialSpec, TrialStatus
from trials.tasks.metrics import METRICS, metrics_for
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.early_stopping import evaluation_steps
from trials.training.run import example_count

Metrics = Callable[[Configuration, int, float], Mapping[str, float]]
"""(configuration, seed, share of the training done) -> metrics on the validation split."""

_EXAMPLES = 240
"""Training examples of a task whose fidelity does not bound them."""
_SECONDS_PER_STEP = 0.01


class FakeExecutor(Executor):
    """Answers every trial at once, in the order of submission.

    Segments are honored: a trial that ends before its last step is `paused` and leaves a file with its progress, and
    a trial whose file cannot be read begins at its first step. Runs on a part of the job end `paused`, too.

    Args:
        workers: trials at a time.
        metrics: replaces the formula `fake_metrics`; missing metrics of the task are filled in from the formula.
        fails: whether a trial fails.
        loses: whether a trial is lost, by the count of submissions so far, from 0.
        delay: seconds that every trial takes in fact.
    """

    name = "fake"

    def __init__(
        self,
        workers: int = 1,
        *,
        metrics: Metrics | None = None,
        fails: Callable[[TrialSpec], bool] = lambda spec: False,
        loses: Callable[[int], bool] = lambda count: False,
        delay: float = 0.0,
    ) -> None:
        super().__init__(workers)
        self._metrics, self._fails, self._loses, self._delay = metrics, fails, loses, delay
        self._task_type = "sequence-classification"
        self.task: TaskSpec | None = None
        self._queue: deque[tuple[int, int, TrialSpec]] = deque()
        self.specs: list[TrialSpec] = []
        self.steps_trained = 0
        self.started = self.stopped = 0

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        self._task_type, self.task = task.type, task
        self.started += 1

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        assert self.started > self.stopped, "start() comes first"
        assert len(self._queue) < self.slots, "no slot is free"
        self._queue.append((ticket, len(self.specs), spec))
        self.specs.append(spec)

    def next_result(self) -> tuple[int, TrialResult]:
        ticket, count, spec = self._queue.popleft()
        time.sleep(self._delay)
        return ticket, LOST if self._loses(count) else self._result(spec)

    def stop(self) -> None:
        self._queue.clear()
        self.stopped = self.started

    def _result(self, spec: TrialSpec) -> TrialResult:
        if not spec.config:  # the base model without an adapter
            return TrialResult(TrialStatus.COMPLETE, metrics=self._scores(spec, 0.0))
        if self._fails(spec):
            return TrialResult(TrialStatus.FAILED, error="it was made to fail", seconds=0.1)
        examples = example_count(spec.fidelity.train_samples or _EXAMPLES, spec.partial_run)
        batch_size, epochs = int(spec.config.get("batch_size", 16)), int(spec.config.get("epochs", 1))
        steps = epochs * math.ceil(examples / batch_size)
        begun = _read_progress(spec)
        until = 1.0 if spec.segment is None else spec.segment.until
        ended = min(steps, max(math.ceil(until * steps - 1e-6), begun + 1))
        self.steps_trained += ended - begun
        whole = ended == steps and spec.partial_run is None
        if not whole and spec.segment is not None and spec.segment.end is not None:
            _write_progress(spec, spec.segment.end, ended)
        points = sorted(
            {s for s in evaluation_steps(steps, spec.fidelity.evaluations) if s < ended} | {ended}
        )
        share_of_job = 1.0 if spec.partial_run is None else spec.partial_run.share
        curve = tuple(
            CurvePoint(
                s, min(s * batch_size, epochs * examples), self._scores(spec, share_of_job * s / steps)
            )
            for s in points
        )
        scored = spec.score_test and whole
        return TrialResult(
            TrialStatus.COMPLETE if whole else TrialStatus.PAUSED,
            metrics=curve[-1].metrics,
            test_metrics=self._scores(spec, 1.0) if scored else {},
            curve=curve,
            train_seconds=_SECONDS_PER_STEP * ended,
            seconds=0.1 + _SECONDS_PER_STEP * ended,
            peak_memory=2**20 * (1 + batch_size),
            trainable_params=1,
            steps_share=ended / steps,
            flops_share=ended / steps,
        )

    def _scores(self, spec: TrialSpec, share: float) -> dict[str, float]:
        scores = fake_metrics(spec.config, spec.seed, share, self._task_type)
        if self._metrics is not None:
            scores |= self._metrics(spec.config, spec.seed, share)
        return scores


def fake_metrics(config: Configuration, seed: int, share: float, task_type: str) -> dict[str, float]:
    """Every metric of a task: better with rank, near a learning rate of 1e-3, and with training; noisy by seed.

    Args:
        config: active parameters; empty for the base model without an adapter.
        share: of the training done, in [0, 1].
    """
    if not config:
        quality = 0.1
    else:
        ranks = [float(v) for name, v in config.items() if name.endswith((".rank", ".tokens"))]
        rates = [float(v) for name, v in config.items() if name.endswith("learning_rate")]
        capacity = 1 - 0.5 / (1 + sum(ranks))
        tuned = math.exp(-0.1 * sum(math.log10(rate / 1e-3) ** 2 for rate in rates))
        own = 0.9 + 0.1 * _uniform(sorted(config.items()))
        noise = 0.02 * (_uniform([sorted(config.items()), seed]) - 0.5)
        quality = min(max(capacity * tuned * own * (1 - 0.6 * math.exp(-4 * share)) + noise, 0.01), 0.99)
    scores = {}
    for name in metrics_for(task_type):
        if name == "perplexity":
            scores[name] = math.exp(2 * (1 - quality))
        elif name == "accuracy":
            scores[name] = 0.5 + 0.5 * quality
        elif name in METRICS and METRICS[name].direction == "maximize":
            scores[name] = quality
        else:
            scores[name] = 2 * (1 - quality)
    return scores


def _uniform(key: object) -> float:
    """A number in [0, 1) that a key fixes, in every process."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _owner(spec: TrialSpec) -> list[object]:
    return [dict(spec.config), spec.seed]


def _read_progress(spec: TrialSpec) -> int:
    """The steps that a resumed trial has done, by its file; 0 without a file of this trial."""
    if spec.segment is None or spec.segment.start is None:
        return 0
    try:
        owner, step = json.loads(Path(spec.segment.start).read_text())
    except (OSError, ValueError):
        return 0
    return int(step) if owner == _owner(spec) else 0


def _write_progress(spec: TrialSpec, end: str, step: int) -> None:
    path = Path(end)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([_owner(spec), step]))
