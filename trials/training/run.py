"""The training loop: one configuration, from a new adapter to its scores."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from search_spaces.errors import AutotuneError
from search_spaces.families import REGISTRY, local_config
from search_spaces.parameters.amounts import TRAIN_SAMPLES, examples_of, optimizer_steps
from search_spaces.parameters.training import (
    SEQUENCE_LENGTH,
    learning_rate_factor,
    learning_rate_name,
    optimizer_of,
)
from search_spaces.parameters.types import Value
from trials.base.added_loss import added_loss
from trials.base.initialization import Pass
from trials.base.model import Base, trainable_parameters, training_mode
from trials.base.parameter_groups import decay_groups, scale_learning_rates
from trials.data.task_data import TaskData
from trials.kinds.kind import Batch
from trials.kinds.registry import find_kind
from trials.reading.encoding import Encoded, token_count
from trials.records import CurvePoint, PartialRun, Segment, TextSample, TrialResult, TrialSpec, TrialStatus
from trials.tasks.example_scores import encode_scores
from trials.training.checkpoint import TrainingState
from trials.training.early_stopping import EvaluationRecord, evaluation_steps
from trials.training.evaluation import Evaluation, Forward
from trials.training.further import FurtherScores
from trials.training.group import Group
from trials.training.held_out import HeldOut, text_samples
from trials.training.length_batching import batches
from trials.training.optimizers import build_optimizer
from trials.training.references import with_references
from trials.training.schedules import lr_schedule
from trials.training.selection import selection_of
from trials.training.subsets import subset

MAX_GRAD_NORM = 1.0
"""The norm at which gradients are clipped."""
_SHORTEST = 8
"""The minimum number of tokens that a partial run of the length leaves of a text, special tokens included."""


class DivergedError(AutotuneError, ArithmeticError):
    """The training or validation loss is not finite."""


class Run:
    """One configuration in training: its model, optimizer, data order and validation curve.

    Life cycle: call `next_batch`, compute its gradients, and call `update` with its loss, until `next_batch` returns
    None; then call `result`. If the spec has a segment, the run starts from the checkpoint of the previous segment,
    ends at the requested step, and computes the same as an uninterrupted run. If the fidelity has a patience, the run
    may end before its last step; the learning rate follows the schedule of the full run until then.

    Args:
        base: The base model.
        data: The task's data, encoded for the base model.
        spec: The trial.
        group: The processes that train it together; None for this one alone.

    Raises:
        DivergedError: From `update` and `result`, if a training or validation loss is not finite.
        torch.OutOfMemoryError: The configuration does not fit into memory; `trials.training.failures` classifies it.
    """

    def __init__(self, base: Base, data: TaskData, spec: TrialSpec, group: Group | None = None) -> None:
        self._started = time.perf_counter()
        config, fidelity = spec.config, spec.fidelity
        self.base, self.spec, self.kind = base, spec, find_kind(base.task.type)
        self.group = group
        self.data = data.at_length(
            base.task, truncation_length(config, base.task.max_length, spec.partial_run)
        )
        self.values = {**config, **self.kind.loss_values(self.data.fields)}
        self._validation = HeldOut(base, self.data, "validation", fidelity.eval_samples)
        examples = training_examples(self.data.splits["train"], spec)
        examples = with_references(base, self.data, examples)
        batch_size, epochs = int(config["batch_size"]), float(config["epochs"])
        order = partial(batches, examples, batch_size, epochs, spec.seed)
        self.steps = optimizer_steps(epochs, len(examples), batch_size)
        self.model = base.adapted(
            config, spec.seed, lambda number: self._passes(islice(order(), number), examples)
        )
        training_mode(self.model)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._family = REGISTRY[str(config["family"])]
        self._optimizer = self._build_optimizer()
        self._family.schedule(self.model.active_peft_config, self.steps)
        self._schedule = LambdaLR(self._optimizer, lr_schedule(config, self.steps))
        self.forward: Forward | None = None
        """The forward pass of evaluation; None for the model's own."""
        self.chunk_tokens: int | None = None
        """As in `TrialResult`."""
        self._scored_steps = evaluation_steps(self.steps, fidelity.evaluations)
        self._step = self._seen = self._size = 0
        self._evaluations = EvaluationRecord[CurvePoint](
            selection_of(fidelity, base.task.metric, base.task.metric_of(base.task.metric).direction),
            keeps_parameters=spec.score_test or base.task.has_final_scores,
        )
        self._example_scores: dict[str, str] = {}
        self._text_samples: tuple[TextSample, ...] = ()
        self._train_seconds = self._seconds_before = 0.0
        self._until = self._begin_segment(spec.segment or Segment(until=1.0))
        self._batches = ([examples[i] for i in b] for b in islice(order(), self._step, None))

    def _passes(self, order: Iterable[list[int]], examples: Sequence[Encoded]) -> list[Pass]:
        """Return the batches of the given indices, for the initial values of the adapter."""
        found = []
        for indices in order:
            chosen = [examples[i] for i in indices]
            batch = self.kind.collate(chosen, self.data.tokenizer).to(self.base.device)
            targets = sum(map(self.kind.target_count, chosen))
            loss = partial(batch_loss, self, batch, len(chosen), targets)
            found.append(Pass(batch.inputs, loss, batch.targets.get("labels")))
        return found

    def _build_optimizer(self) -> torch.optim.Optimizer:
        config = self.spec.config
        optimizer = build_optimizer(
            optimizer_of(config),
            decay_groups(self.parameters, float(config["weight_decay"])),
            learning_rate(config),
        )
        factors = self._family.learning_rate_factors(local_config(self._family.name, config))
        scale_learning_rates(optimizer, self.model, factors)
        return optimizer

    def _begin_segment(self, segment: Segment) -> int:
        """Resume from the segment's checkpoint, and return the step at which the segment ends."""
        if segment.start is not None:
            self._resume(segment.start)
        # The tolerance makes a third of 30 steps 10 in spite of rounding. Each segment has at least one step.
        until = max(math.ceil(segment.until * self.steps - 1e-6), self._step + 1)
        return min(until, self.steps)

    def next_batch(self) -> list[Encoded] | None:
        """Return the examples of the next step, or None after the last requested step."""
        batch = None if self.is_done else next(self._batches, None)
        self._size = len(batch or ())
        return batch

    def update(self, loss: float, seconds: float = 0.0) -> None:
        """Apply the gradients on the parameters, and score the validation split after the steps that require it.

        Args:
            loss: The mean loss of the batch's examples.
            seconds: The wall time of the batch's forward and backward pass, in seconds.
        """
        tick = time.perf_counter()
        self._step += 1
        self._seen += self._size
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss became {loss} at step {self._step} of {self.steps}")
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
        self._optimizer.step()
        self._family.after_step(self.model, self._step)
        self._optimizer.zero_grad()
        self._schedule.step()
        self._train_seconds += seconds + time.perf_counter() - tick
        if self._step in self._scored_steps or self.is_done:
            # Generation is slow, so that only evaluations on which a decision depends generate.
            decides = self.is_done or self.spec.fidelity.selects_evaluations
            found = self._score(self._validation, generates=decides)
            point = CurvePoint(self._step, self._seen, found.metrics)
            self._evaluations.add(point, self.parameters)
            if self.spec.score_test and self._evaluations.score is point:
                self._example_scores = self._encoded(found)
                self._text_samples = text_samples(found.generated)
            if self._evaluations.is_out_of_patience:
                self._until = self._step

    @property
    def has_moments(self) -> bool:
        """Whether the optimizer has allocated its moments."""
        return bool(self._optimizer.state)

    @property
    def is_done(self) -> bool:
        """Whether the last requested step is done."""
        return self._step == self._until

    @property
    def seconds(self) -> float:
        """The wall time since the run was built plus that of earlier segments, in seconds."""
        return self._seconds_before + time.perf_counter() - self._started

    def result(self) -> TrialResult:
        """Return the run's result; score the test split if the spec requires it.

        The test split is scored with the parameters of the evaluation that is the run's score. If steps remain and
        the spec names a file for it, a checkpoint is written.
        """
        is_at_end = self._step == self.steps or self._evaluations.is_out_of_patience
        complete = is_at_end and self.spec.partial_run is None
        final, test_metrics = self._final_scores(scores_test=self.spec.score_test and complete)
        is_first = self.group is None or self.group.rank == 0
        if not complete and self.spec.segment is not None and self.spec.segment.end is not None and is_first:
            self._state().save(self.spec.segment.end)
        return TrialResult(
            status=TrialStatus.COMPLETE if complete else TrialStatus.PAUSED,
            metrics={**self._evaluations.score.metrics, **final},
            test_metrics=test_metrics,
            example_scores=self._example_scores if complete else {},
            text_samples=self._text_samples if complete else (),
            curve=tuple(self._evaluations.curve),
            train_seconds=self._train_seconds,
            seconds=self.seconds,
            trainable_params=trainable_parameters(self.model),
            steps_share=self._step / self.steps,
            flops_share=self._step / self.steps,
            chunk_tokens=self.chunk_tokens,
        )

    def _final_scores(self, *, scores_test: bool) -> tuple[dict[str, float], dict[str, float]]:
        """Return the scores that validation has at the end only, and all those of the test split if it is scored."""
        self._evaluations.restore(self.parameters)
        final, test = self._validation.final_scores(self.model), dict[str, float]()
        if self.base.task.also:
            final |= FurtherScores.of(self.base, self.data).scores(self.model)
            self._check_finite(final)
        if scores_test:
            split = HeldOut(self.base, self.data, "test")
            test = {**self._score(split).metrics, **split.final_scores(self.model)}
        training_mode(self.model)
        return final, test

    def _check_finite(self, scores: Mapping[str, float]) -> None:
        for name, value in scores.items():
            if not math.isfinite(value):
                raise DivergedError(f"the score {name} became {value}")

    def _state(self) -> TrainingState:
        progress = {
            "step": self._step,
            "seen": self._seen,
            "curve": [asdict(point) for point in self._evaluations.curve],
            "train_seconds": self._train_seconds,
            "seconds": self.seconds,
        }
        return TrainingState.of(
            self.spec, self.model, self._family, self._optimizer, self._schedule, self.base.device, progress
        )

    def _resume(self, path: str) -> None:
        """Restore the state of a checkpoint; if the file cannot be read, start from the first step."""
        state = TrainingState.load(path, self.spec)
        if state is None:
            return
        state.restore(self.model, self._family, self._optimizer, self._schedule, self.base.device)
        self._step, self._seen = state.progress["step"], state.progress["seen"]
        for point in state.progress["curve"]:
            self._evaluations.add(CurvePoint(**point), self.parameters)
        self._train_seconds = state.progress["train_seconds"]
        self._seconds_before = state.progress["seconds"]

    def _encoded(self, found: Evaluation) -> dict[str, str]:
        scores = {
            **self.kind.example_scores(found.columns),
            **found.example_scores,
            **self._validation.indices(found),
        }
        return {name: encode_scores(each) for name, each in scores.items()}

    def _score(self, split: HeldOut, *, generates: bool = True) -> Evaluation:
        def score() -> Evaluation:
            found = split.score(self.model, self.forward, generates=generates)
            return found._replace(example_scores=dict(found.example_scores))  # so that processes can send it

        found = score() if self.group is None else self.group.from_first(score)
        training_mode(self.model)
        if not math.isfinite(found.metrics["eval_loss"]):
            raise DivergedError(f"the validation loss became {found.metrics['eval_loss']}")
        return found


def train_to_end(run: Run) -> TrialResult:
    """Train a run by itself until its last requested step, and return its result."""
    while (examples := run.next_batch()) is not None:
        run.update(*train_batch(run, examples))
    return run.result()


def train_batch(run: Run, examples: Sequence[Encoded]) -> tuple[float, float]:
    """Run forward and backward on one batch of a run; return its loss and the wall time in seconds."""
    tick, group = time.perf_counter(), run.group
    whole = sum(map(run.kind.target_count, examples))
    mine = examples if group is None else group.share(examples)
    loss, targets = 0.0, sum(map(run.kind.target_count, mine))
    if mine:
        batch = run.kind.collate(mine, run.data.tokenizer)
        loss = training_step(run, batch, len(mine), targets, targets / whole)
    if group is not None:
        loss = group.add_up(run.parameters, loss)
    return loss, time.perf_counter() - tick


def training_step(run: Run, batch: Batch, examples: int, targets: int, share: float = 1.0) -> float:
    """Run forward and backward on one batch; return its loss and leave the gradients on the parameters.

    Args:
        run: The run.
        batch: The batch.
        examples: The number of its examples.
        targets: The number of its targets.
        share: A factor on the loss: the share of the batch in that of all processes.
    """
    loss = share * batch_loss(run, batch.to(run.base.device), examples, targets, run.model)
    loss.backward()
    return float(loss.detach())


def batch_loss(run: Run, batch: Batch, examples: int, targets: int, model: nn.Module) -> torch.Tensor:
    """Return the loss of a batch on the base model's device; other arguments as in `training_step`."""
    with run.base.computing():
        if run.kind.model_computes_loss:
            loss: torch.Tensor = model(**batch.inputs, **batch.targets).loss
            return loss
        output = model(**batch.inputs)
        loss = run.kind.losses(output, batch.targets, [run.values] * examples).sum() / targets
        return loss + added_loss(model)


def learning_rate(config: Mapping[str, Value]) -> float:
    """Return the peak learning rate: the family's own times the factor of the optimizer."""
    return float(config[learning_rate_name(config)]) * learning_rate_factor(config)


def sequence_length(config: Mapping[str, Value]) -> int | None:
    """Return the number of tokens at which examples are truncated, or None for that of the task."""
    length = config.get(SEQUENCE_LENGTH.name)
    return None if length is None else int(length)


def truncation_length(
    config: Mapping[str, Value], max_length: int, partial_run: PartialRun | None
) -> int | None:
    """Return the number of tokens at which a run's examples are truncated, or None for that of the task.

    Args:
        config: The active parameters.
        max_length: The task's own maximum number of tokens.
        partial_run: The partial run, if the run is one.
    """
    length = sequence_length(config)
    if partial_run is None or partial_run.of != "length":
        return length
    whole = min(length or max_length, max_length)
    return max(math.ceil(partial_run.share * whole - 1e-6), min(_SHORTEST, whole))


def training_examples(examples: Sequence[Encoded], spec: TrialSpec) -> Sequence[Encoded]:
    """Return the examples of the training split that a trial trains on.

    Those of a configuration's `train_samples` are among those of every configuration with more, and so are those of
    its partial runs.
    """
    size = spec.fidelity.train_samples
    if TRAIN_SAMPLES.name not in spec.config:
        searched = subset(examples, size, seed=0)
        return subset(searched, example_count(len(searched), spec.partial_run), seed=0)
    count = examples_of(spec.config, min(size or len(examples), len(examples)))
    return subset(examples, example_count(count, spec.partial_run), seed=0)


def example_count(count: int, partial_run: PartialRun | None) -> int:
    """Return how many of `count` training examples a run uses; a partial run of the data uses its share of them."""
    if partial_run is None or partial_run.of != "data":
        return count
    return max(math.ceil(partial_run.share * count - 1e-6), 1)


def count_tokens(examples: Sequence[Any]) -> int:
    """Return the number of tokens of encoded examples, without padding."""
    return sum(token_count(example) for example in examples)
