"""What a search evaluates, and the interface of the store that keeps its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from autotune.ladder.promotion import Candidate
from search_spaces.parameters.types import Configuration
from trials.records import TrialResult, TrialSpec, TrialStatus


@dataclass(frozen=True)
class Job:
    """One evaluation: of a new candidate, or of one that is trained further.

    Args:
        candidate: that is evaluated.
        config: its active parameters.
    """

    candidate: Candidate
    config: Configuration

    @property
    def number(self) -> int:
        """The number of the candidate's trial."""
        return self.candidate.number


@dataclass(frozen=True)
class TrainingJob(Job):
    """An evaluation that trains an adapter.

    Args:
        spec: the training run; its configuration differs from the candidate's where it is on another base model.
    """

    spec: TrialSpec


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Args:
        status: of the trial; `lost` says nothing about the configuration.
        error: the reason where the status is `failed`.
        cause: the exception behind the error, where it was raised in this process.
        result: of a training run, as the store keeps it.
    """

    status: TrialStatus
    error: str | None = None
    cause: BaseException | None = None
    result: TrialResult | None = None

    @classmethod
    def of(cls, result: TrialResult) -> Ended:
        """Return how a job with this result ended."""
        return cls(result.status, result.error, result=result)


JobT = TypeVar("JobT", bound=Job)
JobT_contra = TypeVar("JobT_contra", bound=Job, contravariant=True)
OutcomeT = TypeVar("OutcomeT")
OutcomeT_contra = TypeVar("OutcomeT_contra", contravariant=True)


class Store(Protocol[JobT, OutcomeT_contra]):
    """Keeps the trials of a search, and passes their results to its scheduler.

    Life cycle: for every evaluation `job` once, then `record` once; `stop` for candidates that the scheduler prunes.
    A result is on disk before `record` returns, so a process that dies loses at most the jobs that are running.
    """

    def job(self, candidate: Candidate) -> JobT:
        """Return the next evaluation of a candidate."""

    def record(self, job: JobT, outcome: OutcomeT_contra) -> Ended:
        """Write the outcome of a job, and pass it to the scheduler."""

    def stop(self, candidate: Candidate) -> None:
        """Write that a candidate is pruned."""
