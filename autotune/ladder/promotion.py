"""Who climbs next: the state of a ladder with everybody on it, and the decisions.

It knows neither where configurations come from nor how they are evaluated. Objective values are minimized here,
after the logarithm where an objective is logarithmic; m objectives, of which the known ones are the same on every
rung. Every decision follows from what was told, so a ladder is rebuilt by telling it all again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

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
"""Standard errors by which a rank must miss the cut before the configuration is given up."""
_FEW = 10
"""On a rung with fewer configurations nobody is given up."""


@dataclass
class Candidate:
    """One configuration on the ladder.

    Args:
        number: of its trial.
        first: the rung where it is judged first.
        regardless: whether it climbs to the top whatever its rank.
        values: rung -> objective values, shape [m]: what its configurations are ranked by.
        outcomes: rung -> what is wanted in the end, shape [m], as it stood on the rung; mostly the values.
        curves: for each objective, (fidelity, value) as far as it was trained.
        status: `waiting` for a decision or its turn, `running`, `complete`, `stopped` or `failed`.
        rung: the highest rung reached, -1 before the first.
    """

    number: int
    first: int
    exploratory: bool
    values: dict[int, Array] = field(default_factory=dict)
    outcomes: dict[int, Array] = field(default_factory=dict)
    curves: list[list[tuple[float, float]]] = field(default_factory=list)
    status: str = "waiting"
    rung: int = -1

    @property
    def next_rung(self) -> int:
        return self.rung + 1 if self.values else self.first


class PromotionScheduler:
    """A ladder and everybody on it.

    Args:
        ladder: rungs and shares.
        known: for each of the m objectives, whether its value is known beforehand.
        seed: draws the random share.
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
        """A new configuration, waiting for its first rung."""
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
        """A result: values of shape [m], and for each objective the points of its curve since the last rung.

        Where a rung is judged by something else than what is wanted in the end, such as the loss instead of the
        accuracy, `outcomes` of shape [m] hold the latter. Trust and projections are about them.
        """
        candidate = self.candidates[number]
        candidate.values[rung], candidate.rung = values, rung
        candidate.outcomes[rung] = values if outcomes is None else outcomes
        candidate.curves = candidate.curves or [[] for _ in values]
        for whole, points in zip(candidate.curves, curves, strict=True):
            whole.extend(points)
        candidate.status = "complete" if rung == self.ladder.top else "waiting"
        if candidate.status == "complete":
            self._finished.append(candidate)
            # What was derived from the finished ones.
            self._trust, self._front = None, None
            self._margins.clear()
            self._reach.clear()
        self._reach.pop(number, None)
        self._forget([rung])

    def fail(self, number: int) -> None:
        """The configuration cannot be trained on; it no longer counts anywhere."""
        candidate = self.candidates[number]
        candidate.status = "failed"
        self._forget(candidate.values)

    def _forget(self, rungs: Iterable[int]) -> None:
        """Drop what was derived from the results on these rungs."""
        self._models = None
        for rung in rungs:
            self._orders.pop(rung, None)

    def promotions(self, *, closing: bool = False) -> Iterator[Candidate]:
        """Who may climb, in order of urgency: highest rung first, and there the best rank first.

        `closing` says that nobody new will come: the share that climbs is then rounded up, so that the best of
        a few reaches the top as well.
        """
        waiting: dict[int, list[Candidate]] = {}
        for candidate in self.candidates.values():
            if candidate.status == "waiting":
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
            if candidate.status != "waiting" or candidate.rung != rung or candidate.exploratory:
                continue
            reach = self.may_reach_front(candidate) if place > (1 - above) * cut else None
            if place <= cut if reach is None else reach:
                yield candidate

    def order(self, rung: int) -> list[Candidate]:
        """Everybody with a result on the rung, best first."""
        if rung not in self._orders:
            here = [c for c in self.candidates.values() if rung in c.values and c.status != "failed"]
            values = np.array([c.values[rung] for c in here])
            self._orders[rung] = [here[i] for i in rank_order(values)] if here else []
        return self._orders[rung]

    def may_reach_front(self, candidate: Candidate) -> bool | None:
        """Whether the optimistic end of its curve is not dominated by any final result; None if none can say."""
        if candidate.number not in self._reach:
            self._reach[candidate.number] = self._reaches(candidate)
        return self._reach[candidate.number]

    def _reaches(self, candidate: Candidate) -> bool | None:
        hopes = candidate.values[candidate.rung].copy()
        for j in self.uncertain:
            spare = self._margin(candidate.rung, j)
            if spare is None:
                return None
            hopes[j] = extrapolate(candidate.curves[j], self.ladder.max) + spare
        front = np.array([c.values[self.ladder.top] for c in self.front()])
        return not bool((front <= hopes).all(axis=1).any())

    def _margin(self, rung: int, objective: int) -> float | None:
        if (rung, objective) not in self._margins:
            # Only those that were in question here themselves: what recovers from a loss that exploded would
            # let everybody hope.
            cut = (1 + self.ladder.close[1]) * self.trust().rungs[rung].share * len(self.order(rung))
            asked = {c.number for c in self.order(rung)[: round(cut)]}
            curves = [c.curves[objective] for c in self._finished if c.number in asked]
            self._margins[rung, objective] = margin(self.ladder.rungs[rung], self.ladder.max, curves)
        return self._margins[rung, objective]

    def prunable(self) -> list[Candidate]:
        """Those that wait and can be given up, which frees what is kept of them.

        That is where the rung is trusted, the rank misses the cut by more than chance would explain (one-sided,
        normal approximation of a share), and the curve cannot reach the front.
        """
        found = []
        for rung, trust in enumerate(self.trust().rungs):
            order = self.order(rung)
            if trust.verdict != "trusted" or len(order) < _FEW:
                continue
            for place, candidate in enumerate(order, start=1):
                if candidate.status != "waiting" or candidate.rung != rung or candidate.exploratory:
                    continue
                p = place / len(order)
                surely = (
                    p - _SURE * np.sqrt(p * (1 - p) / len(order)) > (1 + self.ladder.close[1]) * trust.share
                )
                if surely and self.may_reach_front(candidate) is False:
                    found.append(candidate)
        return found

    def trust(self) -> Trust:
        """What the random share says of the rungs below the top."""
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
        """Those with a final result that no other dominates."""
        if not self._finished:
            return []
        if self._front is None:
            values = [c.values[self.ladder.top] for c in self._finished]
            kept = np.flatnonzero(non_dominated(np.array(values)))
            self._front = [self._finished[i] for i in kept]
        return self._front

    def projected(self, number: int) -> tuple[Array, Array] | None:
        """Outcomes at the top, measured or expected there, and the variances of their errors, shape [m] each.

        None without any result. What a rung's outcomes differ by from those of the top, and how surely, are
        `surrogates.multi_fidelity`'s to say; what is known of a configuration counts as it is.
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
        """For each uncertain objective, how its outcomes on the rungs relate to the top."""
        if self._models is None:
            here = [c.outcomes for c in self.candidates.values() if c.status != "failed"]
            rungs = range(self.ladder.top + 1)
            self._models = {}
            for j in self.uncertain:
                scores = [[found[r][j] if r in found else np.nan for r in rungs] for found in here]
                table = np.array(scores, dtype=float).reshape(-1, len(rungs))
                self._models[j] = FidelityModel.fit(self.ladder.rungs, table)
        return self._models
