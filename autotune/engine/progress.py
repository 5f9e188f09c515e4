"""The progress of a sweep while it runs, as displays show it, read from the ledger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.engine.events import Progress
from autotune.estimate.sweep_time import SweepTime
from autotune.ladder.sweep_scheduler import SweepScheduler
from autotune.ledger.clock import StudyClock
from autotune.ledger.ledger import Ledger
from autotune.objectives import Objective
from autotune.results.estimates import feasible_rows, on_front, pool_repeats
from autotune.results.trial_tables import share_dominated
from autotune.sampler.small_space import SmallSpace
from autotune.sweep.schema import Sweep
from autotune.trial_attributes import SPENT, TrialAttributes, trial_result
from trials.records import TrialResult, TrialStatus


class SearchProgress:
    """The progress of a search.

    Args:
        sweep: with its objectives resolved.
        ledger: of the search.
        clock: of the search.
        scheduler: of the search.
        expected: the predicted duration, which displays show until the first trial has ended; None for none.
        space: the configurations after which the search ends; None for no such end.
    """

    def __init__(
        self,
        sweep: Sweep,
        ledger: Ledger,
        clock: StudyClock,
        scheduler: SweepScheduler,
        expected: SweepTime | None = None,
        space: SmallSpace | None = None,
    ) -> None:
        self._space = space
        self.expected = expected if expected is not None and expected.speed.is_measured else None
        self.sweep, self.ledger, self.clock, self.scheduler = sweep, ledger, clock, scheduler

    def front(self) -> set[int]:
        """Return the numbers of the trials on the front."""
        numbers, values = self._values()
        if not numbers:
            return set()
        return set(np.array(numbers)[on_front(self.sweep.objectives, values)].tolist())

    def values_of(self, number: int) -> dict[str, float]:
        """Return the objectives of a trial by name; empty unless it is complete."""
        return named_values(self.sweep.objectives, self.ledger.attributes(number))

    def progress(
        self, phase: str, finished: int | None = None, total: int | None = None, elapsed: float | None = None
    ) -> Progress:
        """Return the progress of the sweep.

        Args:
            phase: see `Progress`.
            finished, total: runs of the confirmation; by default trials of the search.
            elapsed: seconds of the confirmation; by default of the search.
        """
        results = self._results()
        ended = [result for result in results if result.status in SPENT]
        numbers, values = self._values()
        objectives = self.sweep.objectives
        feasible = values[feasible_rows(objectives, values)] if numbers else values
        best = {
            o.name: float(feasible[:, j].max() if o.direction == "maximize" else feasible[:, j].min())
            for j, o in enumerate(objectives)
            if len(feasible)
        }
        finished = len(ended) if finished is None else finished
        total = self._total(len(ended)) if total is None else total
        elapsed = self.clock.seconds if elapsed is None else elapsed
        return Progress(
            phase=phase,
            finished=finished,
            total=total,
            failed=sum(r.status == TrialStatus.FAILED for r in results),
            front_size=len(self.front()),
            hypervolume=share_dominated(objectives, feasible),
            best=best,
            elapsed=elapsed,
            remaining=self._remaining(phase, finished, total, elapsed),
            trial_seconds=None if finished or self.expected is None else self.expected.trial.typical,
            rungs=self.scheduler.reached,
        )

    def _total(self, ended: int) -> int | None:
        """Return the trials of the search, by its budget or by the untried configurations of its space."""
        trials = self.sweep.budget.trials
        if self._space is None:
            return trials
        done = (
            t.params for t in self.ledger.trials if (r := trial_result(t)) is not None and r.status in SPENT
        )
        left = ended + len(self._space.untried(done))
        return left if trials is None else min(trials, left)

    def _results(self) -> list[TrialResult]:
        return [r for t in self.ledger.trials if (r := trial_result(t)) is not None]

    def _values(self) -> tuple[list[int], np.ndarray]:
        rows = [(t, v) for t in self.ledger.trials if (v := TrialAttributes(t).values)]
        values = np.array([v for _, v in rows], dtype=float).reshape(len(rows), len(self.sweep.objectives))
        return [t.number for t, _ in rows], pool_repeats([t.params for t, _ in rows], values)[0]

    def _remaining(self, phase: str, finished: int, total: int | None, elapsed: float) -> float | None:
        """Return the seconds until the phase ends, by the pace so far or by the time budget, whichever is sooner."""
        guesses = []
        if phase == "search" and not finished and self.expected is not None:
            guesses.append(max(0.0, self.expected.search.typical - elapsed))
        if phase == "search" and total is not None and finished:
            done = sum(result.flops_share for result in self._results() if result.status in SPENT)
            guesses.append(elapsed / done * max(0.0, total * self.scheduler.expected_share - done))
        elif total is not None and finished:
            guesses.append(elapsed / finished * (total - finished))
        if phase == "search" and self.sweep.budget.hours is not None:
            guesses.append(max(0.0, self.sweep.budget.hours * 3600 - elapsed))
        return min(guesses) if guesses else None


def named_values(objectives: Sequence[Objective], attributes: TrialAttributes) -> dict[str, float]:
    """Return the objectives of a trial by name; empty unless it is complete."""
    values = attributes.values
    return {} if values is None else {o.name: v for o, v in zip(objectives, values, strict=True)}
