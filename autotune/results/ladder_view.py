"""The ladder of a sweep as shown: its rungs, the trials that reached each, and how well each ranked them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from autotune.ladder.ladder_scheduler import LadderScheduler
from autotune.ladder.promotion import CandidateStatus
from autotune.ladder.rank_correlation import ENOUGH, RungTrust, Trust
from autotune.ladder.spec import LadderSpec
from autotune.sweep.schema import Sweep
from autotune.trial_attributes import SPENT, TrialAttributes, trial_result


@dataclass(frozen=True)
class LadderRow:
    """One rung as printed.

    Args:
        share: the rung in words.
        reached: trials that were trained to it.
        trust: its rank correlation with the top rung, in words.
    """

    share: str
    reached: int
    trust: str


@dataclass(frozen=True)
class LadderView:
    """The state of a sweep's ladder.

    Args:
        spec: the ladder of the sweep file.
        shares: of the full job, one per rung, ascending to 1.
        words: the rungs in words.
        reached: configurations that were trained to each rung, or on it if each rung starts from the beginning.
        waiting: configurations below the top that could still be promoted.
        stopped: configurations that were stopped below the top.
        trust: the rank correlation of each lower rung with the top, among the random share.
        used: training FLOPs spent, as a share of what all trials would have taken in full; NaN without trials.
        settled: whether no configuration is left to promote.
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
        """The rungs as printed, the lowest first."""
        said = [*(_said(rung) for rung in self.trust.rungs), "final"]
        return [
            LadderRow(rung, reached, words)
            for rung, reached, words in zip(self.words, self.reached, said, strict=True)
        ]

    @property
    def verdict(self) -> str:
        """Whether the lower rungs predicted the ranks at the top, in a sentence."""
        match self.trust.verdict:
            case "trusted":
                return "The lower rungs ranked the configurations similarly to the top."
            case "doubtful":
                return "The lower rungs predicted the ranks at the top poorly, so more configurations were promoted."
            case "not trusted":
                fix = "Raise ladder.min" if self.spec.bases is None else "Name larger models in ladder.bases"
                return f"The lower rungs did not predict the ranks at the top, so most were promoted. {fix}."
            case _:
                return (
                    f"How well the lower rungs predict the top was not measured: fewer than {ENOUGH} of the random "
                    "share reached it. Run more trials or raise ladder.random_share."
                )


def _said(rung: RungTrust) -> str:
    if math.isnan(rung.correlation):
        return f"rank correlation with the top not measured ({rung.count} of {ENOUGH} needed)"
    return f"rank correlation with the top {rung.correlation:.2f} ({rung.count} trials), {rung.verdict}"


def read_scheduler(sweep: Sweep, trials: Iterable[FrozenTrial]) -> LadderScheduler:
    """Return the scheduler of a sweep with a ladder, restored from the trials of its ledger."""
    assert sweep.ladder is not None
    scheduler = LadderScheduler(sweep.objectives, sweep.ladder, sweep.seed)
    for trial in trials:
        scheduler.read(trial)
    return scheduler


def ladder_view(sweep: Sweep, trials: Iterable[FrozenTrial]) -> LadderView | None:
    """The ladder of a sweep as its trials tell; None for a sweep without one."""
    if sweep.ladder is None:
        return None
    trials = list(trials)
    scheduler = read_scheduler(sweep, trials)
    results = [(TrialAttributes(t).costs.get("train_flops", 0.0), trial_result(t)) for t in trials]
    spent = [(flops, r.flops_share) for flops, r in results if r is not None and r.status in SPENT]
    whole = sum(flops for flops, _ in spent)
    statuses = [candidate.status for candidate in scheduler.candidates.values()]
    return LadderView(
        spec=sweep.ladder,
        shares=scheduler.ladder.rungs,
        words=tuple(sweep.ladder.rung_labels(sweep.model.name)),
        reached=scheduler.reached,
        waiting=statuses.count(CandidateStatus.WAITING),
        stopped=statuses.count(CandidateStatus.STOPPED),
        trust=scheduler.promotion.trust(),
        used=sum(flops * share for flops, share in spent) / whole if whole else float("nan"),
        settled=CandidateStatus.RUNNING not in statuses and not any(scheduler.promotions(closing=True)),
    )
