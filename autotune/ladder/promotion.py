"""The promotion scheduler: the candidates on a ladder, which of them are promoted, and which are pruned.

It knows neither where configurations come from nor how they are evaluated. The values of the m objectives are
minimized here, after the logarithm where an objective is logarithmic; known objectives have the same value on every
rung. Every decision follows from the results, so a scheduler is restored by passing them to it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from autotune.ladder.learning_curves import Curve, extrapolate, margin
from autotune.ladder.rank_correlation import RungTrust, Trust, rung_trust
from autotune.ladder.ranking import rank_order
from autotune.ladder.rungs import Ladder
from autotune.pareto import non_dominated
from surrogates.multi_fidelity import FidelityModel

Array = NDArray[np.float64]

_SURE = 1.64
"""Standard errors by which a rank must miss the cut before the candidate is pruned."""
_FEW = 10
"""No candidate is pruned on a rung with fewer of them."""


class CandidateStatus(StrEnum):
    """The state of a candidate.

    `waiting` for a decision or a free slot; `running`; `complete` on the top rung; `stopped` after it was pruned;
    `failed` where its configuration cannot be trained.
    """

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass
class Candidate:
    """One configuration on the ladder.

    Args:
        number: of its trial.
        first: index of the rung where it is ranked first, counted from 0.
        exploratory: whether it is promoted to the top whatever its rank; see `Ladder.random_share`.
        values: rung -> objective values, shape [m], by which candidates are ranked.
        outcomes: rung -> values on that rung of the final objectives, shape [m]; the same as `values` unless a rung
            is ranked by a substitute.
        curves: for each objective, its (fidelity, value) points so far.
        status: see `CandidateStatus`.
        rung: the highest rung reached, -1 before the first.
    """

    number: int
    first: int
    exploratory: bool
    values: dict[int, Array] = field(default_factory=dict)
    outcomes: dict[int, Array] = field(default_factory=dict)
    curves: list[list[tuple[float, float]]] = field(default_factory=list)
    status: CandidateStatus = CandidateStatus.WAITING
    rung: int = -1

    @property
    def next_rung(self) -> int:
        """The rung that it is trained to next."""
        return self.rung + 1 if self.values else self.first


class PromotionScheduler:
    """Successive halving without waiting for a rung to fill, over several objectives.

    Life cycle: `add` once per configuration, then `tell` for each of its results, rung by rung, or `fail`. The other
    methods follow from these results and may be called in any order, any number of times.

    Args:
        ladder: rungs and shares.
        known: for each of the m objectives, whether its value is known without training.
        seed: of the random share.
    """

    def __init__(self, ladder: Ladder, known: Sequence[bool], seed: int) -> None:
        self.ladder = ladder
        self.uncertain = [j for j, is_known in enumerate(known) if not is_known]
        self.seed = seed
        self.candidates: dict[int, Candidate] = {}
        self._trust: Trust | None = None
        self._orders: dict[int, list[Candidate]] = {}
        self._models: dict[int, FidelityModel] | None = None
        self._finished: list[Candidate] = []
        self._front: list[Candidate] | None = None
        self._margins: dict[tuple[int, int], float | None] = {}
        self._reach: dict[int, bool | None] = {}

    def add(self, number: int, first: int) -> Candidate:
        """Return a new candidate that waits for its first rung, `first`."""
        candidate = Candidate(number, first, self.ladder.is_exploratory(number, self.seed))
        self.candidates[number] = candidate
        return candidate

    def tell(
        self,
        number: int,
        rung: int,
        values: Array,
        curves: Sequence[Curve],
        outcomes: Array | None = None,
    ) -> None:
        """Record a result on a rung.

        Args:
            number: of the trial.
            rung: index of the rung.
            values: that the candidate is ranked by, shape [m].
            curves: for each objective, its (fidelity, value) points since the rung below.
            outcomes: the final objectives where `values` are a substitute, such as the loss instead of the
                accuracy, shape [m]. Rank correlations and projections are about them.
        """
        candidate = self.candidates[number]
        candidate.values[rung], candidate.rung = values, rung
        candidate.outcomes[rung] = values if outcomes is None else outcomes
        candidate.curves = candidate.curves or [[] for _ in values]
        for whole, points in zip(candidate.curves, curves, strict=True):
            whole.extend(points)
        is_complete = rung == self.ladder.top
        candidate.status = CandidateStatus.COMPLETE if is_complete else CandidateStatus.WAITING
        if is_complete:
            self._finished.append(candidate)
            # These are derived from the finished candidates.
            self._trust, self._front = None, None
            self._margins.clear()
            self._reach.clear()
        self._reach.pop(number, None)
        self._forget([rung])

    def fail(self, number: int) -> None:
        """Record that the configuration cannot be trained, and leave it out of all ranks and models."""
        candidate = self.candidates[number]
        candidate.status = CandidateStatus.FAILED
        self._forget(candidate.values)

    def _forget(self, rungs: Iterable[int]) -> None:
        """Drop what is cached of the results on these rungs."""
        self._models = None
        for rung in rungs:
            self._orders.pop(rung, None)

    def promotions(self, *, closing: bool = False) -> Iterator[Candidate]:
        """Yield the candidates that may be promoted: highest rung first, and on a rung the best rank first.

        Args:
            closing: whether no new candidate will follow and none is running. The number of promotions is then
                rounded up, so that the best of a few candidates reaches the top as well.
        """
        waiting: dict[int, list[Candidate]] = {}
        for candidate in self.candidates.values():
            if candidate.status == CandidateStatus.WAITING:
                waiting.setdefault(candidate.rung, []).append(candidate)
        for rung in sorted(waiting, reverse=True):
            if rung < 0:
                yield from waiting[rung]
                continue
            yield from (c for c in waiting[rung] if c.exploratory)
            yield from self._best(rung, closing)

    def _best(self, rung: int, closing: bool) -> Iterator[Candidate]:
        order = self.order(rung)
        cut = self.trust().rungs[rung].share * len(order)
        if closing:
            cut = math.ceil(cut - 1e-9)
        above, below = self.ladder.close
        for place, candidate in enumerate(order, start=1):
            if place > (1 + below) * cut:
                return
            if candidate.status != CandidateStatus.WAITING or candidate.rung != rung or candidate.exploratory:
                continue
            reach = self.may_reach_front(candidate) if place > (1 - above) * cut else None
            if place <= cut if reach is None else reach:
                yield candidate

    def order(self, rung: int) -> list[Candidate]:
        """Return the candidates with a result on the rung, best first."""
        if rung not in self._orders:
            here = [
                c for c in self.candidates.values() if rung in c.values and c.status != CandidateStatus.FAILED
            ]
            values = np.array([c.values[rung] for c in here])
            self._orders[rung] = [here[i] for i in rank_order(values)] if here else []
        return self._orders[rung]

    def may_reach_front(self, candidate: Candidate) -> bool | None:
        """Return whether no final result dominates the optimistic end of the candidate's curves.

        None where there are too few final results to extrapolate curves with an interval.
        """
        if candidate.number not in self._reach:
            self._reach[candidate.number] = self._reaches(candidate)
        return self._reach[candidate.number]

    def _reaches(self, candidate: Candidate) -> bool | None:
        optimistic = candidate.values[candidate.rung].copy()
        for j in self.uncertain:
            spare = self._margin(candidate.rung, j)
            if spare is None:
                return None
            optimistic[j] = extrapolate(candidate.curves[j], self.ladder.max) + spare
        front = np.array([c.values[self.ladder.top] for c in self.front()])
        return not bool((front <= optimistic).all(axis=1).any())

    def _margin(self, rung: int, objective: int) -> float | None:
        if (rung, objective) not in self._margins:
            # Only candidates near the cut of the rung: a curve that recovers from an exploded loss would widen the
            # interval so far that no candidate misses the front.
            cut = (1 + self.ladder.close[1]) * self.trust().rungs[rung].share * len(self.order(rung))
            near = {c.number for c in self.order(rung)[: round(cut)]}
            curves = [c.curves[objective] for c in self._finished if c.number in near]
            self._margins[rung, objective] = margin(self.ladder.rungs[rung], self.ladder.max, curves)
        return self._margins[rung, objective]

    def prunable(self) -> list[Candidate]:
        """Return the waiting candidates that will never be promoted, so that their checkpoints can be deleted.

        A candidate is pruned where its rung is trusted, its rank misses the cut by more than chance explains
        (one-sided, normal approximation of a share), and its curve cannot reach the front.
        """
        found = []
        for rung, trust in enumerate(self.trust().rungs):
            order = self.order(rung)
            if trust.verdict != "trusted" or len(order) < _FEW:
                continue
            for place, candidate in enumerate(order, start=1):
                if (
                    candidate.status != CandidateStatus.WAITING
                    or candidate.rung != rung
                    or candidate.exploratory
                ):
                    continue
                p = place / len(order)
                error = np.sqrt(p * (1 - p) / len(order))
                misses_cut = p - _SURE * error > (1 + self.ladder.close[1]) * trust.share
                if misses_cut and self.may_reach_front(candidate) is False:
                    found.append(candidate)
        return found

    def trust(self) -> Trust:
        """Return how well each rung below the top ranks candidates, measured on the random share."""
        if self._trust is None:
            top = self.ladder.top
            through = [c for c in self._finished if c.exploratory]
            self._trust = Trust(tuple(self._rung_trust(rung, through) for rung in range(top)))
        return self._trust

    def _rung_trust(self, rung: int, through: Sequence[Candidate]) -> RungTrust:
        seen = [c for c in through if rung in c.values]
        values = np.array([[c.values[rung], c.outcomes[self.ladder.top]] for c in seen])
        pairs = values[:, :, self.uncertain] if seen else np.empty((0, 2, len(self.uncertain)))
        return rung_trust(self.ladder.rungs[rung], self.ladder.base_share(rung), pairs[:, 0], pairs[:, 1])

    def front(self) -> list[Candidate]:
        """Return the complete candidates that no other dominates."""
        if not self._finished:
            return []
        if self._front is None:
            values = [c.values[self.ladder.top] for c in self._finished]
            kept = np.flatnonzero(non_dominated(np.array(values)))
            self._front = [self._finished[i] for i in kept]
        return self._front

    def project(self, number: int) -> tuple[Array, Array] | None:
        """Return the outcomes at the top, measured or predicted, and the variances of their errors, shape [m] each.

        `surrogates.multi_fidelity` models how the outcomes on a rung differ from those at the top; known objectives
        are exact. None without any result.
        """
        candidate = self.candidates.get(number)
        if candidate is None or not candidate.values or candidate.status == "failed":
            return None
        outcomes = candidate.outcomes[candidate.rung].astype(float)
        variances = np.zeros_like(outcomes)
        if candidate.rung < self.ladder.top:
            for j, model in self.models().items():
                outcomes[j] -= model.offset[candidate.rung]
                variances[j] = model.variance[candidate.rung]
        return outcomes, variances

    def models(self) -> dict[int, FidelityModel]:
        """Return, for each uncertain objective, the model of how its outcomes on the rungs relate to the top."""
        if self._models is None:
            here = [c.outcomes for c in self.candidates.values() if c.status != CandidateStatus.FAILED]
            rungs = range(self.ladder.top + 1)
            self._models = {}
            for j in self.uncertain:
                scores = [[found[r][j] if r in found else np.nan for r in rungs] for found in here]
                table = np.array(scores, dtype=float).reshape(-1, len(rungs))
                self._models[j] = FidelityModel.fit(self.ladder.rungs, table)
        return self._models
