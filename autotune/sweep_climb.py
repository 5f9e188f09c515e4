"""A sweep on its ladder: everybody where the ledger left them, who goes on next, and from which file.

A rung is judged by the sweep's own objectives as they stand there, or, where the sweep says so, with the held-out
loss in the place of scores. What is known of a configuration counts as it is, and so does peak memory; its training
time is carried on in proportion. Whether that foretells the scores at the top is measured on the random share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from autotune.history import Observation
from autotune.ladder import Ladder
from autotune.ladder_climb import Climb, Climber
from autotune.ladder_store import RUNGS
from autotune.ladder_trust import ENOUGH, RungTrust, Trust
from autotune.ledger import trial_result
from autotune.objectives import MEASURED_COSTS, Objective
from autotune.sweep import Sweep
from autotune.sweep_ladder import LadderSpec
from trials.records import Part, Stretch, TrialResult, TrialStatus

Array = NDArray[np.float64]

_WORST = 1.0
"""The loss coordinate of a correlation of -1; only correlations can be no number."""
_EAGER = 1.5
"""So many times the share climbs, about: what was among the best of a few is promoted before better ones come.
In simulated sweeps of 12 to 60 trials 1.3 to 1.6 times as many did."""
FIRST_RUNG = "first_rung"
"""The attribute with the rung where a trial is judged first, where the smaller bases say more than its family."""
SPENT = (TrialStatus.COMPLETE, TrialStatus.FAILED, TrialStatus.PAUSED, TrialStatus.STOPPED)
"""The trials that count towards a budget."""


class SweepClimb:
    """The ladder of a sweep and everybody on it, read from the ledger's trials.

    Args:
        sweep: with its objectives resolved; it has a ladder.
        trials: of the ledger, so far.
    """

    def __init__(self, sweep: Sweep, trials: Iterable[FrozenTrial]) -> None:
        assert sweep.ladder is not None
        self.objectives = sweep.objectives
        self._by_loss = sweep.ladder.judge == "loss"
        self._of = sweep.ladder.of
        self._bases = sweep.ladder.bases or ()
        self.ladder: Ladder = sweep.ladder.ladder
        self.climb = Climb(self.ladder, [objective.known for objective in self.objectives], sweep.seed)
        for trial in trials:
            self.read(trial)

    @property
    def goes_on(self) -> bool:
        """Whether a trial goes on from the rung below; on rungs of data, length and bases it begins anew."""
        return self._of == "training"

    def part(self, climber: Climber) -> Part | None:
        """The part of its job that a configuration does next, in a run of its own; None for all of it."""
        rung = climber.next_rung
        if self._of == "training" or rung == self.ladder.top:
            return None
        return Part(self._of, self.ladder.rungs[rung], self._bases[rung] if self._bases else None)

    def read(self, trial: FrozenTrial) -> Climber | None:
        """Take up what the ledger says of a trial; None where it is nobody on the ladder."""
        result = trial_result(trial)
        known = self.climb.climbers.get(trial.number)
        if result is not None and result.status in (TrialStatus.LOST, TrialStatus.PRUNED):
            if known is not None:
                self.climb.fail(trial.number)
            return None
        first = max(self.ladder.first(trial.params), int(trial.user_attrs.get(FIRST_RUNG, 0)))
        climber = known or self.climb.add(trial.number, first)
        if result is None:
            climber.status = "running"
            return climber
        costs: Mapping[str, float] = trial.user_attrs["costs"]
        for record in trial.user_attrs.get(RUNGS, []):
            if record["rung"] not in climber.values:
                self._tell(climber, record["rung"], costs, TrialResult.from_json(record["result"]))
        match result.status:
            case TrialStatus.COMPLETE:
                if self.ladder.top not in climber.values:
                    self._tell(climber, self.ladder.top, costs, result)
            case TrialStatus.FAILED:
                self.climb.fail(trial.number)
            case TrialStatus.STOPPED:
                climber.status = "stopped"
        return climber

    def _tell(self, climber: Climber, rung: int, costs: Mapping[str, float], result: TrialResult) -> None:
        share, steps = self.ladder.rungs[rung], result.curve[-1].step
        before = climber.curves[0][-1][0] if climber.curves else 0.0
        if self.goes_on:
            trained = result.share
            points = [(result.share * point.step / steps, point) for point in result.curve]
        else:  # a run on less data, or a smaller base, is no way to one on more: its end alone is a point
            trained, points = share, [(share, result.curve[-1])]
        at_cost = {
            **costs,
            "train_seconds": result.train_seconds / trained,
            "peak_memory": float(result.peak_memory),
        }
        values, outcomes, curves = [], [], []
        for objective in self.objectives:
            name = objective.name
            if objective.known or name in MEASURED_COSTS:
                value = float(objective.loss(at_cost[name]))
                values.append(value)
                outcomes.append(value)
                curves.append([(share, value)])
                continue
            outcomes.append(_loss(objective, result.metrics[name]))
            judged = [
                (x, p.metrics["eval_loss"] if self._by_loss else _loss(objective, p.metrics[name]))
                for x, p in points
            ]
            values.append(judged[-1][1])
            curves.append([*((x, y) for x, y in judged[:-1] if before < x < share), (share, values[-1])])
        self.climb.tell(climber.number, rung, np.array(values), curves, np.array(outcomes))

    def observe(self, trial: FrozenTrial) -> Observation | list[float] | None:
        """What the sampler is told of a trial: its objectives, measured at the top or expected there.

        What a score on a lower rung is worth at the top, and how surely, is `Climb.projected`'s to say.
        """
        if trial.state == TrialState.COMPLETE:
            return list(trial.values)
        projected = self.climb.projected(trial.number)
        if projected is None:
            return None
        losses, variances = projected
        costs: Mapping[str, float] = trial.user_attrs["costs"]
        values = [
            costs[objective.name] if objective.known else objective.value(float(loss))
            for objective, loss in zip(self.objectives, losses, strict=True)
        ]
        return Observation(values, variances.tolist())

    def next(self, *, closing: bool) -> Climber | None:
        """Who goes on; `closing` says that nobody new will come."""
        return next(iter(self.climb.promotions(closing=closing)), None)

    @property
    def reached(self) -> tuple[int, ...]:
        """How many configurations came as far as each rung; of runs that begin anew, how many there were on it."""
        everybody = self.climb.climbers.values()
        return tuple(
            sum(climber.rung >= rung if self.goes_on else rung in climber.values for climber in everybody)
            for rung in range(self.ladder.top + 1)
        )

    @property
    def expected_share(self) -> float:
        """The training that a new configuration gets on average, of that in full, where no share is widened."""
        left, below, total, whole = 1.0, 0.0, 0.0, 0.0
        for rung, share in enumerate(self.ladder.rungs):
            total += left * (share - below)
            whole += share - below
            left *= min(1.0, _EAGER * self.ladder.base_share(rung)) if rung < self.ladder.top else 1.0
            below = share if self.goes_on else 0.0
        return self.ladder.random_share * whole + (1 - self.ladder.random_share) * total


def _loss(objective: Objective, score: float) -> float:
    """Its loss coordinate. What is no number (the correlation with a constant) is worse than any score."""
    loss = float(objective.loss(score))
    return _WORST if math.isnan(loss) else loss


@dataclass(frozen=True)
class States:
    """The files that paused trials go on from: one a trial, in a folder of its own."""

    folder: Path

    def path(self, number: int, rung: int) -> Path:
        return self.folder / f"{number}-{rung}.safetensors"

    def stretch(self, climber: Climber, ladder: Ladder) -> Stretch:
        """What a configuration trains next."""
        rung = climber.next_rung
        start = str(self.path(climber.number, climber.rung)) if climber.values else None
        end = str(self.path(climber.number, rung)) if rung < ladder.top else None
        return Stretch(ladder.rungs[rung], start, end)

    def tidy(self, climbers: Iterable[Climber]) -> None:
        """Drop every file that none of these, of all the trials there are, can go on from."""
        kept = {
            self.path(climber.number, climber.rung)
            for climber in climbers
            if climber.values and climber.status in ("waiting", "running")
        }
        # Drafts that a dead process left go as well.
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path not in kept:
                path.unlink(missing_ok=True)

    def drop(self, number: int, *, but: int | None = None) -> None:
        """Drop the files of a trial, but for that of one rung."""
        for path in self.folder.glob(f"{number}-*.safetensors"):
            if but is None or path != self.path(number, but):
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class LadderRow:
    """One rung as printed: what it is, how many came so far, and what is known of its ranks."""

    share: str
    reached: int
    trust: str


@dataclass(frozen=True)
class LadderView:
    """What became of a sweep's ladder.

    Args:
        spec: what the sweep's file says.
        shares: of the full job, one a rung, rising to 1.
        words: what each rung is.
        reached: configurations that were trained as far as each rung, or on it where each rung begins anew.
        waiting: those below the top that could go on.
        stopped: those that were given up.
        trust: the rank correlation of each lower rung with the top, among the random share.
        used: training FLOPs spent, as a share of what all trials would have taken in full; NaN without trials.
        settled: whether nobody is left to go on.
    """

    spec: LadderSpec
    shares: tuple[float, ...]
    words: tuple[str, ...]
    reached: tuple[int, ...]
    waiting: int
    stopped: int
    trust: Trust
    used: float
    settled: bool

    @property
    def rows(self) -> list[LadderRow]:
        """For tables, the lowest rung first."""
        said = [*(_said(rung) for rung in self.trust.rungs), "final"]
        return [
            LadderRow(rung, reached, words)
            for rung, reached, words in zip(self.words, self.reached, said, strict=True)
        ]

    @property
    def verdict(self) -> str:
        """Whether the lower rungs could be trusted, in a sentence."""
        match self.trust.verdict:
            case "trusted":
                return "The lower rungs ranked configurations much as the top did."
            case "doubtful":
                return "The lower rungs foretold the top poorly, so more configurations climbed."
            case "not trusted":
                fix = "Raise ladder.min" if self.spec.bases is None else "Name larger models in ladder.bases"
                return f"The lower rungs did not foretell the top: most configurations climbed. {fix}."
            case _:
                return (
                    f"Whether the lower rungs foretell the top was not measured: fewer than {ENOUGH} of the random "
                    "share reached it. Run more trials or raise ladder.random_share."
                )


def _said(rung: RungTrust) -> str:
    if math.isnan(rung.correlation):
        return f"rank correlation with the top not measured ({rung.count} of {ENOUGH} needed)"
    return f"rank correlation with the top {rung.correlation:.2f} ({rung.count} trials), {rung.verdict}"


def ladder_view(sweep: Sweep, trials: Iterable[FrozenTrial]) -> LadderView | None:
    """The ladder of a sweep as its trials tell; None for a sweep without one."""
    if sweep.ladder is None:
        return None
    trials = list(trials)
    on = SweepClimb(sweep, trials)
    climbers = list(on.climb.climbers.values())
    results = [(t.user_attrs.get("costs", {}).get("train_flops", 0.0), trial_result(t)) for t in trials]
    spent = [(flops, r.share) for flops, r in results if r is not None and r.status in SPENT]
    whole = sum(flops for flops, _ in spent)
    states = [climber.status for climber in climbers]
    return LadderView(
        spec=sweep.ladder,
        shares=on.ladder.rungs,
        words=tuple(sweep.ladder.words(sweep.model.name)),
        reached=on.reached,
        waiting=states.count("waiting"),
        stopped=states.count("stopped"),
        trust=on.climb.trust(),
        used=sum(flops * share for flops, share in spent) / whole if whole else float("nan"),
        settled="running" not in states and on.next(closing=True) is None,
    )
