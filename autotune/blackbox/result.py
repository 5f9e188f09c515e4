"""What a search on a ladder found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from autotune.blackbox.objectives import Objective
from autotune.ladder.promotion import PromotionScheduler
from autotune.ladder.rank_correlation import Trust
from autotune.trial_attributes import RUNGS
from search_spaces.parameters.types import Configuration


@dataclass(frozen=True)
class OptimizeTrial:
    """One configuration and how far it came.

    Args:
        number: of the trial in the study.
        config: active parameters alone.
        status: `complete` (it reached the top), `waiting` (it did not, and could go on with more budget),
            `stopped` (it was given up) or `failed`.
        fidelity: how far it was trained, 0 where its first evaluation failed.
        rungs: fidelity -> objective values there, in the order of the objectives.
        regardless: whether it belongs to the random share.
        error: why it failed.
    """

    number: int
    config: Configuration
    status: str
    fidelity: float
    rungs: dict[float, tuple[float, ...]]
    exploratory: bool
    error: str | None = None

    @property
    def values(self) -> tuple[float, ...] | None:
        """The objectives at the top, None unless complete."""
        return self.rungs[self.fidelity] if self.status == "complete" else None


@dataclass(frozen=True)
class OptimizeResult:
    """What a search on a ladder found.

    Args:
        study: the optuna study. Trials that could still climb are in the state RUNNING.
        objectives: as asked.
        trials: every configuration, in order.
        front: the trials that reached the top and that no other dominates there.
        trust: the rank correlation of each rung with the final result, and the verdict.
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
            raise ValueError(f"best: there are {len(self.objectives)} objectives; look at `front`")
        if not self.front:
            raise ValueError("best: no trial reached the top of the ladder; give more budget")
        return self.front[0]

    def __str__(self) -> str:
        states = [trial.status for trial in self.trials]
        counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(sorted(states)))
        return f"{len(self.trials)} trials ({counts}), {self.used:g} of training used.\n{self.trust}"


def read_result(
    study: optuna.Study, promotion: PromotionScheduler, objectives: Sequence[Objective], used: float
) -> OptimizeResult:
    """The result of a climb whose study is told everything."""
    trials: dict[int, OptimizeTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        candidate = promotion.candidates.get(trial.number)
        if candidate is None:
            continue
        rungs = {float(r["fidelity"]): tuple(r["values"]) for r in trial.user_attrs.get(RUNGS, [])}
        trials[trial.number] = OptimizeTrial(
            number=trial.number,
            config=dict(trial.params),
            status=candidate.status,
            fidelity=max(rungs, default=0.0),
            rungs=rungs,
            exploratory=candidate.exploratory,
            error=trial.user_attrs.get("error"),
        )
    front = tuple(trials[candidate.number] for candidate in promotion.front())
    return OptimizeResult(study, tuple(objectives), tuple(trials.values()), front, promotion.trust(), used)
