"""The plain data of trials: a frozen spec goes in, a frozen result comes out, and both survive a JSON round trip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal

from search_spaces.parameters.types import Configuration


class TrialStatus(StrEnum):
    """The state of a trial after a run.

    * `complete`: the trial has finished its full training.
    * `paused`: the trial has finished the segment or the partial run that was requested, and can resume.
    * `stopped`: a paused trial that will not be resumed.
    * `pruned`: the proposed configuration violates a limit, so nothing was trained.
    * `failed`: the trial ended with an error; `TrialResult.failure` holds the kind. The search avoids such
      configurations.
    * `lost`: the trial did not end because of an external event (a killed worker, an interrupt); it is run again.
    """

    COMPLETE = "complete"
    PAUSED = "paused"
    STOPPED = "stopped"
    PRUNED = "pruned"
    FAILED = "failed"
    LOST = "lost"


class FailureKind(StrEnum):
    """The kind of error that ended a failed trial.

    * `diverged`: a training or validation loss is not finite.
    * `out_of_memory`: the configuration does not fit into the memory of the device or of the process.
    * `rejected`: the configuration is invalid for the model or the data, as reported by a check of this project or
      by the library that raised the error (peft, transformers, torch); or the user's own score failed on it.
    * `internal`: an error in the code of this project; please report it with the traceback.
    """

    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    REJECTED = "rejected"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Fidelity:
    """The amount of data and evaluation of a trial.

    Args:
        train_samples: The maximum number of training examples per epoch; None for all of them.
        eval_samples: The maximum number of validation examples; None for all of them.
        evaluations: The number of points on the validation curve, spread evenly over the steps.
        patience: A trial ends after this many evaluations in a row that do not improve on its best value of the
            task's metric; None to train every trial to its end. Only the steps that were trained count towards the
            budget of FLOPs. It cannot be combined with a ladder.
        score: The evaluation that is a trial's score: the `last`, or the `best` by the task's metric, whose adapter
            also makes the score on the test split. The best of several evaluations is optimistic on the validation
            split. `best` cannot be combined with a ladder.
    """

    train_samples: int | None = None
    eval_samples: int | None = None
    evaluations: int = 4
    patience: int | None = None
    score: Literal["last", "best"] = "last"

    @property
    def selects_evaluations(self) -> bool:
        """Whether a trial may end early, or be scored by an evaluation other than the last one."""
        return self.patience is not None or self.score == "best"


@dataclass(frozen=True)
class Segment:
    """The range of optimizer steps to train now; the learning rate follows the schedule of the full run.

    Args:
        until: The share of all steps that are done at the end of the segment, in (0, 1].
        start: The checkpoint file to resume from. If it is None or cannot be read, training starts from the first
            step, which takes longer and gives the same result.
        end: The checkpoint file to write if steps remain after the segment.
    """

    until: float
    start: str | None = None
    end: str | None = None


@dataclass(frozen=True)
class PartialRun:
    """A cheaper run of the same configuration, with a complete learning-rate schedule of its own.

    Args:
        of: The reduced quantity. `data`: a share of the training examples; a smaller share is a subset of a larger
            one. `length`: all examples, truncated to a share of the configuration's sequence length. `base`: the
            full data on a smaller base model.
        share: The reduced share, in (0, 1); for `base`, the approximate share of the training FLOPs.
        model: The hub id or folder of the smaller base model, for `base` only; the spec's configuration is one of
            that model.
    """

    of: Literal["data", "length", "base"]
    share: float
    model: str | None = None

    def __post_init__(self) -> None:
        assert (self.model is not None) == (self.of == "base"), (
            "a model is given exactly for a run on another base"
        )


@dataclass(frozen=True)
class TrialSpec:
    """The complete description of one training run.

    Args:
        config: The active parameters, as a `SearchSpace` of the trial's model returns them. An empty configuration
            scores the base model without training.
        seed: The seed of the initial values of adapter and head, of the data order and of dropout.
        fidelity: The amount of data and evaluation.
        score_test: Whether to score the test split at the end as well; never set during the search.
        segment: The range of steps to train; None for the full run. A spec with a segment has no patience and is
            scored by its last evaluation, since a checkpoint does not hold the parameters of earlier evaluations.
        partial_run: The cheaper run to train instead of the full one; None for the full run. A spec has a segment or
            a partial run, not both.
        base: The hub id, folder or share of layers of the base model that the configuration chooses; None for the
            sweep's own. A partial run on a smaller model has its own.
        is_isolated: Whether the measured time and memory must be those of this configuration alone. An isolated
            trial does not share a pack and reuses no hidden states of earlier trials.
    """

    config: Configuration
    seed: int = 0
    fidelity: Fidelity = field(default_factory=Fidelity)
    score_test: bool = False
    segment: Segment | None = None
    partial_run: PartialRun | None = None
    is_isolated: bool = False
    base: str | None = None

    def __post_init__(self) -> None:
        assert self.segment is None or not self.fidelity.selects_evaluations, (
            "a segment is scored by its last evaluation"
        )

    @property
    def model(self) -> str | None:
        """The base model to train on; None for the sweep's own."""
        part = self.partial_run
        return self.base if part is None or part.model is None else part.model

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON-compatible data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialSpec:
        """Rebuild a spec from the data that `to_json` returned."""
        segment, partial_run = data.get("segment"), data.get("partial_run")
        nested = {
            "fidelity": Fidelity(**data["fidelity"]),
            "segment": segment and Segment(**segment),
            "partial_run": partial_run and PartialRun(**partial_run),
        }
        return cls(**{**data, **nested})


@dataclass(frozen=True)
class CurvePoint:
    """The validation scores after `step` optimizer steps and `samples` training examples."""

    step: int
    samples: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class TextSample:
    """A text that a model generated, for the user to read; long parts are shortened, which they say."""

    prompt: str
    text: str
    reference: str


@dataclass(frozen=True)
class TrialResult:
    """The outcome of a training run.

    Args:
        status: The state of the trial after the run.
        metrics: The scores on the validation split, `eval_loss` among them, of the evaluation that the fidelity
            selects: the last one by default; empty after a failure.
        test_metrics: The scores on the test split, if the spec requested them.
        example_scores: By metric, the score of each validation example as `trials.tasks.example_scores` encodes it,
            for the metrics that are means over examples, and the indices of its classes and its group; only if the
            spec requested the test split.
        text_samples: Some of the texts that the model generated for validation prompts; only if the task generates
            and the spec requested the test split.
        curve: The validation scores during training, in the order of the steps.
        train_seconds: The wall time of the training steps, without evaluation, in seconds.
        seconds: The wall time of the whole trial, in seconds.
        peak_memory: The peak memory in bytes: of the device where it can be measured, else the growth of this
            process's resident set.
        trainable_params: The number of trained parameters of adapter and head together, counted on the model.
        error: The error message in one line; None if the run did not fail.
        failure: The kind of error; None if the run did not fail.
        traceback: The traceback of the error; None if the run did not fail.
        steps_share: The share of the run's optimizer steps that are done (after a failure: that were requested). A
            complete run whose patience ended has a share below 1.
        flops_share: The training FLOPs of all runs of the trial so far, divided by those of its full training. It
            equals `steps_share` where runs resume from checkpoints, and exceeds 1 where a full run follows
            partial runs.
        chunk_tokens: The fewest tokens to which a pack limited its forward passes in training, padding included; None
            for a run whose batches were not divided.
    """

    status: TrialStatus
    metrics: dict[str, float] = field(default_factory=dict)
    test_metrics: dict[str, float] = field(default_factory=dict)
    example_scores: dict[str, str] = field(default_factory=dict)
    text_samples: tuple[TextSample, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    train_seconds: float = 0.0
    seconds: float = 0.0
    peak_memory: int = 0
    trainable_params: int = 0
    error: str | None = None
    failure: FailureKind | None = None
    traceback: str | None = None
    steps_share: float = 1.0
    flops_share: float = 1.0
    chunk_tokens: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-compatible data."""
        failure = None if self.failure is None else str(self.failure)
        return {**asdict(self), "status": str(self.status), "failure": failure}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialResult:
        """Rebuild a result from stored data.

        Results of earlier versions are accepted: they have one field `share` in place of `steps_share` and
        `flops_share`, and no `failure` or `traceback`. Their teacher-forced score was named `exact_match`. Unknown
        fields are ignored.
        """
        known = {each.name for each in fields(cls)}
        found = {name: value for name, value in data.items() if name in known}
        if "share" in data:  # the share of steps, or after partial runs the sum of their shares of the FLOPs
            found |= {"steps_share": min(1.0, data["share"]), "flops_share": data["share"]}
        failure = data.get("failure")
        found |= {
            "status": TrialStatus(data["status"]),
            "curve": tuple(
                CurvePoint(**{**point, "metrics": _renamed(point["metrics"])}) for point in data["curve"]
            ),
            "failure": None if failure is None else FailureKind(failure),
            "text_samples": tuple(TextSample(**sample) for sample in data.get("text_samples", ())),
        }
        found |= {name: _renamed(found[name]) for name in _BY_METRIC if name in found}
        return cls(**found)


_BY_METRIC = ("metrics", "test_metrics", "example_scores")
_EARLIER, _TEACHER_FORCED = "exact_match", "teacher_forced_exact_match"


def _renamed(by_metric: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by metric with today's name of the teacher-forced score, which a generated one never replaces."""
    if "token_accuracy" not in by_metric or _TEACHER_FORCED in by_metric:
        return dict(by_metric)
    return {_TEACHER_FORCED if name == _EARLIER else name: value for name, value in by_metric.items()}


LOST = TrialResult(TrialStatus.LOST, error="the worker process died")
"""The result of a trial whose worker process died."""
