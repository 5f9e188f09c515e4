"""What a search on a ladder found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from autotune.blackbox.objectives import Goal
from autotune.ladder.promotion import Climb
from autotune.ladder.rank_correlation import Trust
from autotune.trial_attributes import RUNGS
from search_spaces.parameters.types import Config


@dataclass(frozen=True)
class LadderTrial:
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
    config: Config
    status: str
    fidelity: float
    rungs: dict[float, tuple[float, ...]]
    regardless: bool
    error: str | None = None

    @property
    def values(self) -> tuple[float, ...] | None:
        """The objectives at the top, None unless complete."""
        return self.rungs[self.fidelity] if self.status == "complete" else None


@dataclass(frozen=True)
class LadderResult:
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
    objectives: tuple[Goal, ...]
    trials: tuple[LadderTrial, ...]
    front: tuple[LadderTrial, ...]
    trust: Trust
    used: float

    @property
    def best(self) -> LadderTrial:
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


def read_result(study: optuna.Study, climb: Climb, goals: Sequence[Goal], used: float) -> LadderResult:
    """The result of a climb whose study is told everything."""
    trials: dict[int, LadderTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        climber = climb.climbers.get(trial.number)
        if climber is None:
            continue
        rungs = {float(r["fidelity"]): tuple(r["values"]) for r in trial.user_attrs.get(RUNGS, [])}
        trials[trial.number] = LadderTrial(
            number=trial.number,
            config=dict(trial.params),
            status=climber.status,
            fidelity=max(rungs, default=0.0),
            rungs=rungs,
            regardless=climber.regardless,
            error=trial.user_attrs.get("error"),
        )
    front = tuple(trials[climber.number] for climber in climb.front())
    return LadderResult(study, tuple(goals), tuple(trials.values()), front, climb.trust(), used)
