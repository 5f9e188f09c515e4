"""The scheduler of a sweep with a ladder: its candidates as the ledger holds them, ranked on every rung.

A rung is ranked by the sweep's own objectives as measured there, or, where the sweep asks for it, by the held-out
loss instead of scores. Known objectives and peak memory count as they are; training time is scaled up to the full
training. Whether these ranks predict the scores at the top is measured on the random share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from autotune.ladder.checkpoints import Checkpoints
from autotune.ladder.promotion import Candidate, CandidateStatus, PromotionScheduler
from autotune.ladder.rungs import Ladder
from autotune.ladder.spec import LadderSpec
from autotune.ladder.sweep_scheduler import NullScheduler, SweepScheduler
from autotune.objectives import MEASURED_COSTS, Objective
from autotune.sampler.history import Observation
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.trial_attributes import TrialAttributes, trial_result
from trials.records import PartialRun, Segment, TrialResult, TrialStatus

Array = NDArray[np.float64]

_WORST = 1.0
"""The loss coordinate of a correlation of -1; only correlations can be NaN."""
_PROMOTION_EXCESS = 1.5
"""The ratio of promotions to the share, about: the best of the first few are promoted before better ones arrive.
In simulated sweeps of 12 to 60 trials it was 1.3 to 1.6."""


def make_scheduler(
    objectives: Sequence[Objective], spec: LadderSpec | None, seed: int, trials: Iterable[FrozenTrial]
) -> SweepScheduler:
    """Return the scheduler of a sweep, with the trials that its ledger holds.

    Args:
        objectives: of the sweep, resolved.
        spec: the sweep's ladder, None for none.
        seed: of the random share.
        trials: of the ledger.
    """
    scheduler = NullScheduler() if spec is None else LadderScheduler(objectives, spec, seed)
    for trial in trials:
        scheduler.read(trial)
    return scheduler


class LadderScheduler(SweepScheduler):
    """Promotes the candidates of a sweep from rung to rung.

    Args:
        objectives: of the sweep, resolved.
        spec: the sweep's ladder.
        seed: of the random share.
    """

    def __init__(self, objectives: Sequence[Objective], spec: LadderSpec, seed: int) -> None:
        self.objectives = tuple(objectives)
        self._by_loss = spec.judge == "loss"
        self._of = spec.of
        self._bases = spec.bases or ()
        self.ladder: Ladder = spec.ladder
        self.promotion = PromotionScheduler(
            self.ladder, [objective.known for objective in self.objectives], seed
        )
        self.candidates = self.promotion.candidates

    @property
    def resumes_from_checkpoint(self) -> bool:
        """Whether a trial resumes from the rung below; on rungs of data, length and bases it starts over."""
        return self._of == "training"

    def promotions(self, *, closing: bool = False) -> Iterator[Candidate]:
        """Yield the candidates that may be promoted, most urgent first."""
        return self.promotion.promotions(closing=closing)

    def prunable(self) -> list[Candidate]:
        """Return the waiting candidates that will never be promoted."""
        return self.promotion.prunable()

    def next_run(
        self, candidate: Candidate, checkpoints: Checkpoints
    ) -> tuple[Segment | None, PartialRun | None]:
        """Return the segment of its training, or the part of the job, that a candidate trains next."""
        if self._of == "training":
            return checkpoints.segment(candidate, self.ladder), None
        rung = candidate.next_rung
        if rung == self.ladder.top:
            return None, None
        return None, PartialRun(self._of, self.ladder.rungs[rung], self._bases[rung] if self._bases else None)

    def complete_result(self, trial: FrozenTrial, result: TrialResult, part_share: float) -> TrialResult:
        """Return the result with the peak and cost of the trial's earlier runs, also where it failed."""
        before = trial_result(trial)
        if not self.resumes_from_checkpoint:
            spent, seconds = (before.flops_share, before.seconds) if before is not None else (0.0, 0.0)
            return replace(result, flops_share=spent + part_share, seconds=seconds + result.seconds)
        if result.status not in (TrialStatus.COMPLETE, TrialStatus.PAUSED):
            share = self.ladder.rungs[self.candidates[trial.number].next_rung]
            return replace(result, steps_share=share, flops_share=share)
        peak = max(result.peak_memory, before.peak_memory if before is not None else 0)
        return replace(result, peak_memory=peak)

    def read(self, trial: FrozenTrial) -> Candidate | None:
        """Bring the candidate of a trial in line with the ledger; None for a trial that was lost or broke a limit."""
        attributes = TrialAttributes(trial)
        result = attributes.outcome
        known = self.candidates.get(trial.number)
        if result is not None and result.status in (TrialStatus.LOST, TrialStatus.PRUNED):
            if known is not None:
                self.promotion.fail(trial.number)
            return None
        first = max(self.ladder.first(trial.params), attributes.first_rung)
        candidate = known or self.promotion.add(trial.number, first)
        if result is None:
            candidate.status = CandidateStatus.RUNNING
            return candidate
        for record in attributes.rungs:
            if record.rung not in candidate.values:
                self._tell(candidate, record.rung, attributes.costs, record.result)
        match result.status:
            case TrialStatus.COMPLETE:
                if self.ladder.top not in candidate.values:
                    self._tell(candidate, self.ladder.top, attributes.costs, result)
            case TrialStatus.FAILED:
                self.promotion.fail(trial.number)
            case TrialStatus.STOPPED:
                candidate.status = CandidateStatus.STOPPED
            case TrialStatus.PAUSED:  # also where the run to the next rung was lost
                candidate.status = CandidateStatus.WAITING
        return candidate

    def _tell(self, candidate: Candidate, rung: int, costs: Mapping[str, float], result: TrialResult) -> None:
        """Pass a result on a rung to the promotion scheduler, with every objective as a loss."""
        share, steps = self.ladder.rungs[rung], result.curve[-1].step
        before = candidate.curves[0][-1][0] if candidate.curves else 0.0
        if self.resumes_from_checkpoint:
            trained = result.steps_share
            points = [(result.steps_share * point.step / steps, point) for point in result.curve]
        else:  # a run on less data or a smaller base is no prefix of the full run: only its end is a point
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
            ranked_by = [
                (x, p.metrics["eval_loss"] if self._by_loss else _loss(objective, p.metrics[name]))
                for x, p in points
                if name in p.metrics  # text is generated at the end of a run only
            ]
            values.append(ranked_by[-1][1])
            curves.append([*((x, y) for x, y in ranked_by[:-1] if before < x < share), (share, values[-1])])
        self.promotion.tell(candidate.number, rung, np.array(values), curves, np.array(outcomes))

    def inform(self, sampler: optuna.samplers.BaseSampler) -> optuna.samplers.BaseSampler:
        """Return the sampler, informed of results below the top where it is a `ParetoSampler`."""
        return sampler.observing(self.observe) if isinstance(sampler, ParetoSampler) else sampler

    def observe(self, trial: FrozenTrial) -> Observation | list[float] | None:
        """Return the objectives of a trial at the top, measured or predicted from its rung, for the sampler.

        None without any result. See `PromotionScheduler.project` for the prediction.
        """
        if trial.state == TrialState.COMPLETE:
            return list(trial.values)
        projected = self.promotion.project(trial.number)
        if projected is None:
            return None
        losses, variances = projected
        costs = TrialAttributes(trial).costs
        values = [
            costs[objective.name] if objective.known else objective.value(float(loss))
            for objective, loss in zip(self.objectives, losses, strict=True)
        ]
        return Observation(values, variances.tolist())

    @property
    def reached(self) -> tuple[int, ...]:
        """How many candidates were trained as far as each rung; where runs start over, how many ran on it."""
        candidates = self.candidates.values()
        return tuple(
            sum(
                candidate.rung >= rung if self.resumes_from_checkpoint else rung in candidate.values
                for candidate in candidates
            )
            for rung in range(self.ladder.top + 1)
        )

    @property
    def expected_share(self) -> float:
        """The training that a new candidate gets on average, as a share of the full training; no rung is widened."""
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
    """Return the loss coordinate of a score; NaN (the correlation with a constant) is worse than any score."""
    loss = float(objective.loss(score))
    return _WORST if math.isnan(loss) else loss
