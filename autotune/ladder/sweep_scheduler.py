"""A sweep on its ladder: everybody where the ledger left them, who goes on next, and from which file.

A rung is judged by the sweep's own objectives as they stand there, or, where the sweep says so, with the held-out
loss in the place of scores. What is known of a configuration counts as it is, and so does peak memory; its training
time is carried on in proportion. Whether that foretells the scores at the top is measured on the random share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from autotune.ladder.promotion import Candidate, PromotionScheduler
from autotune.ladder.rungs import Ladder
from autotune.ladder.spec import LadderSpec
from autotune.objectives import MEASURED_COSTS, Objective
from autotune.sampler.history import Observation
from autotune.trial_attributes import FIRST_RUNG, RUNGS, trial_result
from trials.records import PartialRun, TrialResult, TrialStatus

Array = NDArray[np.float64]

_WORST = 1.0
"""The loss coordinate of a correlation of -1; only correlations can be no number."""
_PROMOTION_EXCESS = 1.5
"""So many times the share climbs, about: what was among the best of a few is promoted before better ones come.
In simulated sweeps of 12 to 60 trials 1.3 to 1.6 times as many did."""


class SweepScheduler:
    """The ladder of a sweep and everybody on it, read from the ledger's trials.

    Args:
        objectives: of the sweep, resolved.
        spec: the sweep's ladder.
        seed: of the random share.
        trials: of the ledger, so far.
    """

    def __init__(
        self, objectives: Sequence[Objective], spec: LadderSpec, seed: int, trials: Iterable[FrozenTrial]
    ) -> None:
        self.objectives = tuple(objectives)
        self._by_loss = spec.judge == "loss"
        self._of = spec.of
        self._bases = spec.bases or ()
        self.ladder: Ladder = spec.ladder
        self.promotion = PromotionScheduler(
            self.ladder, [objective.known for objective in self.objectives], seed
        )
        for trial in trials:
            self.read(trial)

    @property
    def resumes_from_checkpoint(self) -> bool:
        """Whether a trial goes on from the rung below; on rungs of data, length and bases it begins anew."""
        return self._of == "training"

    def part(self, candidate: Candidate) -> PartialRun | None:
        """The part of its job that a configuration does next, in a run of its own; None for all of it."""
        rung = candidate.next_rung
        if self._of == "training" or rung == self.ladder.top:
            return None
        return PartialRun(self._of, self.ladder.rungs[rung], self._bases[rung] if self._bases else None)

    def read(self, trial: FrozenTrial) -> Candidate | None:
        """Take up what the ledger says of a trial; None where it is nobody on the ladder."""
        result = trial_result(trial)
        known = self.promotion.candidates.get(trial.number)
        if result is not None and result.status in (TrialStatus.LOST, TrialStatus.PRUNED):
            if known is not None:
                self.promotion.fail(trial.number)
            return None
        first = max(self.ladder.first(trial.params), int(trial.user_attrs.get(FIRST_RUNG, 0)))
        candidate = known or self.promotion.add(trial.number, first)
        if result is None:
            candidate.status = "running"
            return candidate
        costs: Mapping[str, float] = trial.user_attrs["costs"]
        for record in trial.user_attrs.get(RUNGS, []):
            if record["rung"] not in candidate.values:
                self._tell(candidate, record["rung"], costs, TrialResult.from_json(record["result"]))
        match result.status:
            case TrialStatus.COMPLETE:
                if self.ladder.top not in candidate.values:
                    self._tell(candidate, self.ladder.top, costs, result)
            case TrialStatus.FAILED:
                self.promotion.fail(trial.number)
            case TrialStatus.STOPPED:
                candidate.status = "stopped"
        return candidate

    def _tell(self, candidate: Candidate, rung: int, costs: Mapping[str, float], result: TrialResult) -> None:
        share, steps = self.ladder.rungs[rung], result.curve[-1].step
        before = candidate.curves[0][-1][0] if candidate.curves else 0.0
        if self.resumes_from_checkpoint:
            trained = result.steps_share
            points = [(result.steps_share * point.step / steps, point) for point in result.curve]
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
        self.promotion.tell(candidate.number, rung, np.array(values), curves, np.array(outcomes))

    def observe(self, trial: FrozenTrial) -> Observation | list[float] | None:
        """What the sampler is told of a trial: its objectives, measured at the top or expected there.

        What a score on a lower rung is worth at the top, and how surely, is `PromotionScheduler.projected`'s to say.
        """
        if trial.state == TrialState.COMPLETE:
            return list(trial.values)
        projected = self.promotion.projected(trial.number)
        if projected is None:
            return None
        losses, variances = projected
        costs: Mapping[str, float] = trial.user_attrs["costs"]
        values = [
            costs[objective.name] if objective.known else objective.value(float(loss))
            for objective, loss in zip(self.objectives, losses, strict=True)
        ]
        return Observation(values, variances.tolist())

    def next(self, *, closing: bool) -> Candidate | None:
        """Who goes on; `closing` says that nobody new will come."""
        return next(iter(self.promotion.promotions(closing=closing)), None)

    @property
    def reached(self) -> tuple[int, ...]:
        """How many configurations came as far as each rung; of runs that begin anew, how many there were on it."""
        candidates = self.promotion.candidates.values()
        return tuple(
            sum(
                candidate.rung >= rung if self.resumes_from_checkpoint else rung in candidate.values
                for candidate in candidates
            )
            for rung in range(self.ladder.top + 1)
        )

    @property
    def expected_share(self) -> float:
        """The training that a new configuration gets on average, of that in full, where no share is widened."""
        left, below, total, whole = 1.0, 0.0, 0.0, 0.0
        for rung, share in enumerate(self.ladder.rungs):
            total += left * (share - below)
            whole += share - below
            left *= (
                min(1.0, _PROMOTION_EXCESS * self.ladder.base_share(rung)) if rung < self.ladder.top else 1.0
            )
            below = share if self.resumes_from_checkpoint else 0.0
        return self.ladder.random_share * whole + (1 - self.ladder.random_share) * total


def _loss(objective: Objective, score: float) -> float:
    """Its loss coordinate. What is no number (the correlation with a constant) is worse than any score."""
    loss = float(objective.loss(score))
    return _WORST if math.isnan(loss) else loss
