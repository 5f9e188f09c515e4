"""The schedulers of sweeps: their interface, and the scheduler of a sweep without a ladder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import optuna
from optuna.trial import FrozenTrial

from autotune.ladder.checkpoints import Checkpoints
from autotune.ladder.promotion import Candidate, CandidateStatus
from autotune.trial_attributes import trial_result
from trials.records import PartialRun, Segment, TrialResult, TrialStatus


class SweepScheduler(ABC):
    """Decides what the trials of a sweep train, from what the ledger holds of them.

    Life cycle: `read` every trial of the ledger once, and a trial again whenever the ledger has changed it; all
    other methods at any time in between.
    """

    def __init__(self) -> None:
        self.candidates: dict[int, Candidate] = {}
        """The candidates by the numbers of their trials; lost trials, which run again under another number, fail."""

    @abstractmethod
    def read(self, trial: FrozenTrial) -> Candidate | None:
        """Bring the candidate of a trial in line with the ledger.

        Returns:
            The candidate, which is new for a new trial; None for a trial that was lost or broke a limit.
        """

    @abstractmethod
    def next_run(
        self, candidate: Candidate, checkpoints: Checkpoints
    ) -> tuple[Segment | None, PartialRun | None]:
        """Return the segment, or the part of the job, that a candidate trains next; None for all of it."""

    @abstractmethod
    def complete_result(self, trial: FrozenTrial, result: TrialResult, part_share: float) -> TrialResult:
        """Return the result of a run with what the run cannot know: the peak and cost of the trial's earlier runs.

        Args:
            trial: as the ledger holds it, before the result.
            result: of the run.
            part_share: training FLOPs of the run, as a share of those of the full job.
        """

    @abstractmethod
    def promotions(self, *, closing: bool = False) -> Iterator[Candidate]:
        """Yield the candidates that may be trained further; see `autotune.search.scheduler.Scheduler`."""

    @abstractmethod
    def prunable(self) -> list[Candidate]:
        """Return the waiting candidates that will never be trained further."""

    @abstractmethod
    def inform(self, sampler: optuna.samplers.BaseSampler) -> optuna.samplers.BaseSampler:
        """Return the sampler, informed of results below the top where it can use them."""

    @property
    @abstractmethod
    def reached(self) -> tuple[int, ...]:
        """How many candidates were trained as far as each rung, lowest first; empty without a ladder."""

    @property
    @abstractmethod
    def expected_share(self) -> float:
        """The training that a new candidate gets on average, as a share of the full training."""


class NullScheduler(SweepScheduler):
    """Trains every candidate once, in full: no candidate is promoted or pruned."""

    def read(self, trial: FrozenTrial) -> Candidate | None:
        """Return the candidate of a trial; None for a trial that was lost or broke a limit."""
        result = trial_result(trial)
        candidate = self.candidates.setdefault(trial.number, Candidate(trial.number, 0, exploratory=False))
        match None if result is None else result.status:
            case None:
                candidate.status = CandidateStatus.RUNNING
            case TrialStatus.COMPLETE:
                candidate.status = CandidateStatus.COMPLETE
            case TrialStatus.LOST | TrialStatus.PRUNED:
                candidate.status = CandidateStatus.FAILED
                return None
            case _:
                candidate.status = CandidateStatus.FAILED
        return candidate

    def next_run(
        self, candidate: Candidate, checkpoints: Checkpoints
    ) -> tuple[Segment | None, PartialRun | None]:
        """Return that all of the job is trained, in one run."""
        return None, None

    def complete_result(self, trial: FrozenTrial, result: TrialResult, part_share: float) -> TrialResult:
        """Return the result: there is no earlier run."""
        return result

    def promotions(self, *, closing: bool = False) -> Iterator[Candidate]:
        """Yield nothing."""
        return iter(())

    def prunable(self) -> list[Candidate]:
        """Return nothing."""
        return []

    def inform(self, sampler: optuna.samplers.BaseSampler) -> optuna.samplers.BaseSampler:
        """Return the sampler: all results are final, and Optuna passes those to it."""
        return sampler

    @property
    def reached(self) -> tuple[int, ...]:
        """Nothing: there are no rungs."""
        return ()

    @property
    def expected_share(self) -> float:
        """Every candidate is trained in full."""
        return 1.0
