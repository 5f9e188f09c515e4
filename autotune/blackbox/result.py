"""The result of `autotune.optimize`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from autotune.blackbox.objectives import Objective
from autotune.ladder.promotion import CandidateStatus, PromotionScheduler
from autotune.ladder.rank_correlation import Trust
from autotune.trial_attributes import TrialAttributes
from search_spaces.parameters.types import Configuration


@dataclass(frozen=True)
class OptimizeTrial:
    """One configuration and how far it was trained.

    Args:
        number: of the trial in the study.
        config: the active parameters.
        status: `complete` on the top rung, `waiting` below it, `stopped` if it was pruned, or `failed`.
        fidelity: how far it was trained, 0 where its first evaluation failed.
        rungs: fidelity -> objective values there, in the order of the objectives.
        exploratory: whether it belongs to the random share.
        error: why it failed.
    """

    number: int
    config: Configuration
    status: CandidateStatus
    fidelity: float
    rungs: dict[float, tuple[float, ...]]
    exploratory: bool
    error: str | None = None

    @property
    def values(self) -> tuple[float, ...] | None:
        """The objectives on the top rung, None unless the trial is complete."""
        return self.rungs[self.fidelity] if self.status == CandidateStatus.COMPLETE else None


@dataclass(frozen=True)
class OptimizeResult:
    """The result of a search.

    Args:
        study: the Optuna study. Trials that could still be promoted are in the state RUNNING.
        objectives: of the search.
        trials: every configuration, in order.
        front: the complete trials that no other dominates.
        trust: the rank correlation of each lower rung with the top, and the verdict.
        used: training in all, in the ladder's unit of fidelity, earlier calls included.
    """

    study: optuna.Study
    objectives: tuple[Objective, ...]
    trials: tuple[OptimizeTrial, ...]
    front: tuple[OptimizeTrial, ...]
    trust: Trust
    used: float

    @property
    def best(self) -> OptimizeTrial:
        """The best trial of a search with one objective.

        Raises:
            ValueError: there are more objectives, or no trial reached the top.
        """
        if len(self.objectives) > 1:
            raise ValueError(f"best: there are {len(self.objectives)} objectives; use `front`")
        if not self.front:
            raise ValueError("best: no trial reached the top rung; raise the budget")
        return self.front[0]

    def __str__(self) -> str:
        states = [trial.status for trial in self.trials]
        counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(sorted(states)))
        found = f"{len(self.trials)} trials ({counts}), {self.used:g} of training used."
        return f"{found}\n{self.trust}" if self.trust.rungs else found


def read_result(
    study: optuna.Study, promotion: PromotionScheduler, objectives: Sequence[Objective], used: float
) -> OptimizeResult:
    """Return the result of a search that has ended.

    Args:
        study: with every result.
        promotion: the scheduler of the search.
        objectives: of the search.
        used: training in all, in the ladder's unit of fidelity.
    """
    trials: dict[int, OptimizeTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        candidate = promotion.candidates.get(trial.number)
        if candidate is None:
            continue
        attributes = TrialAttributes(trial)
        rungs = {float(record.fidelity): tuple(record.values) for record in attributes.rung_values}
        trials[trial.number] = OptimizeTrial(
            number=trial.number,
            config=dict(trial.params),
            status=candidate.status,
            fidelity=max(rungs, default=0.0),
            rungs=rungs,
            exploratory=candidate.exploratory,
            error=attributes.error,
        )
    front = tuple(trials[candidate.number] for candidate in promotion.front())
    return OptimizeResult(
        study=study,
        objectives=tuple(objectives),
        trials=tuple(trials.values()),
        front=front,
        trust=promotion.trust(),
        used=used,
    )
