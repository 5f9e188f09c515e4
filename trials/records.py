"""A trial is data: a frozen spec goes in, a frozen result comes out. Both survive a JSON round trip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

from search_spaces.parameters.types import Configuration


class TrialStatus(StrEnum):
    """How a trial ended.

    `failed` is the configuration's own doing (out of memory, a loss that is not finite) and teaches the
    search to stay away; `lost` is not (a killed worker, an interrupt), and the trial runs again. `paused` is a
    trial that has done the stretch it was asked for and can go on; `stopped` one that will not.
    """

    COMPLETE = "complete"
    PAUSED = "paused"
    STOPPED = "stopped"
    PRUNED = "pruned"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True)
class Fidelity:
    """How much of the full job a trial does.

    Args:
        train_samples: training examples per epoch, at most; None for all of them.
        eval_samples: validation examples, at most; None for all of them.
        evaluations: points on the validation curve, spread evenly over the steps.
    """

    train_samples: int | None = None
    eval_samples: int | None = None
    evaluations: int = 4


@dataclass(frozen=True)
class Segment:
    """The part of its training that a trial does now; the learning rate takes the course of the whole.

    Args:
        until: the share of all steps that is behind at the end, above 0 and at most 1.
        start: the file with the state to go on from. Without one, or where it cannot be read, training begins at
            the beginning, which costs time and changes nothing else.
        end: the file that the state is left in, where steps are still ahead.
    """

    until: float
    start: str | None = None
    end: str | None = None


@dataclass(frozen=True)
class Part:
    """The part of the full job that a trial does, by its whole schedule, in a run of its own.

    Args:
        of: `data` for a share of the training examples, those of a smaller share being among those of a larger one;
            `length` for all of them, with texts cut to a share of the length that the configuration has them cut to;
            `base` for all of them in full, on a smaller model.
        share: above 0 and below 1; of a smaller model, its training FLOPs, about.
        model: that model's hub id or folder; the trial's configuration is one of that model.
    """

    of: Literal["data", "length", "base"]
    share: float
    model: str | None = None

    def __post_init__(self) -> None:
        assert (self.model is not None) == (self.of == "base"), "a part is of a base where it names one"


@dataclass(frozen=True)
class TrialSpec:
    """One training run.

    Args:
        config: the active parameters, as a `SearchSpace` of the trial's model gives them.
        seed: fixes the adapter's and head's initial values, the order of the data and dropout.
        fidelity: see `Fidelity`.
        score_test: whether to score the test split at the end as well; never during the search.
        stretch: the part of the run to do; None for all of it.
        part: the part of the job to do; None for all of it. It does not go together with a stretch.
        alone: whether the trial's time and memory have to be those of its configuration alone, so that nothing is
            used that earlier trials have computed.
    """

    config: Configuration
    seed: int = 0
    fidelity: Fidelity = field(default_factory=Fidelity)
    score_test: bool = False
    segment: Segment | None = None
    part: Part | None = None
    alone: bool = False

    @property
    def model(self) -> str | None:
        """The model to train on, where it is not the sweep's own."""
        return None if self.part is None else self.part.model

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialSpec:
        segment, part = data.get("segment"), data.get("part")
        read = {"segment": segment and Segment(**segment), "part": part and Part(**part)}
        return cls(**{**data, "fidelity": Fidelity(**data["fidelity"]), **read})


@dataclass(frozen=True)
class CurvePoint:
    """The validation split's scores after `step` optimizer steps and `samples` training examples."""

    step: int
    samples: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrialResult:
    """What a training run brought.

    Args:
        status: see `TrialStatus`.
        metrics: the last scores on the validation split, `eval_loss` among them; empty where it ended badly.
        test_metrics: the same on the test split, where the spec asked for it.
        curve: validation scores during training, first to last.
        train_seconds: wall time of the training steps alone, evaluation apart.
        seconds: wall time of the whole trial.
        peak_memory: bytes: of the device where it can say, else the growth of this process's resident set.
        trainable_params: counted on the model that was trained: adapter and head together.
        error: what went wrong, for people; None if nothing did.
        share: of its training steps, those that are behind (or, where it ended badly, that were asked for). On a
            ladder of parts, the training FLOPs of all of its runs so far, of those of the full job.
    """

    status: TrialStatus
    metrics: dict[str, float] = field(default_factory=dict)
    test_metrics: dict[str, float] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()
    train_seconds: float = 0.0
    seconds: float = 0.0
    peak_memory: int = 0
    trainable_params: int = 0
    error: str | None = None
    share: float = 1.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "status": str(self.status), "curve": [asdict(point) for point in self.curve]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialResult:
        curve = tuple(CurvePoint(**point) for point in data["curve"])
        return cls(**{**data, "status": TrialStatus(data["status"]), "curve": curve})


LOST = TrialResult(TrialStatus.LOST, error="the worker process died")
