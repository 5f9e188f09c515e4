"""The choice among candidates by measurement: the fastest one that learns the same as fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autotune.calibrate.agreement import Agreement, Trace, compare
from autotune.calibrate.bench import Bench, compared_size
from autotune.calibrate.candidates import Candidate, other_attention
from autotune.calibrate.race import Race, ranking

_RACE, _PROBE = 1.2, 0.2
"""The seconds for the race of the candidates, and those of them for a first look at the speed."""
_STEPS = 3
"""The steps per candidate for which the race must have time: one to warm up, and two that are timed."""
_FEW = 8
"""Candidates that raced with fewer examples per batch may differ more, or less, with the batches of trials."""


@dataclass(frozen=True)
class Choice:
    """A candidate and why it was chosen.

    Args:
        candidate: the fastest one that agrees with fp32.
        rates: the training examples of each candidate that was timed, per metered second.
        reasons: about the candidates that were compared with fp32, in the order in which they were.
        is_complete: whether all candidates were timed, and those that are faster compared; otherwise the choice is
            one of little time, and another calibration may find another.
    """

    candidate: Candidate
    rates: Mapping[Candidate, float]
    reasons: tuple[str, ...] = ()
    is_complete: bool = True


class Measurement:
    """The measurement of candidates on a bench.

    Args:
        bench: what is measured on.
        found: the candidates, the simplest first; the first one is that to agree with.
        trials: that train at a time in a process.
        batch_size: of a typical configuration.
        seconds: that the measurement may take.
    """

    def __init__(
        self, bench: Bench, found: Sequence[Candidate], *, trials: int, batch_size: int, seconds: float
    ) -> None:
        self._bench, self._found = bench, found
        self._trials, self._batch_size = trials, batch_size
        self._began = bench.clock()
        self._deadline = self._began + seconds
        self._per_example = bench.seconds_per_example(found[0], self._began + _PROBE)
        self._wanted: list[Trace] = []
        self._size = 0

    def choose(self) -> Choice:
        """Return the fastest candidate that agrees with the simplest one.

        Raises:
            Exception: whatever the simplest candidate raises.
        """
        size, rates = self._rates()
        choice = self._agreeing(size, rates)
        other = other_attention(choice.candidate, self._bench.model)
        enough = size >= min(_FEW, self._batch_size)
        if other is None or not enough or not self._bench.base(choice.candidate).is_fused:
            return choice
        return self._with_faster_attention(choice, other, size)

    def _agreeing(self, size: int, rates: Mapping[Candidate, float]) -> Choice:
        """Return the fastest candidate that agrees with the simplest one."""
        simplest = self._found[0]
        reasons: list[str] = []
        is_complete = len(rates) == len(self._found) and size >= min(_FEW, self._batch_size)
        seconds = {each: 1 / rate for each, rate in rates.items()}
        for candidate in ranking(seconds, self._found):
            if candidate == simplest:
                break
            agreement = self._agreement(candidate)
            if agreement is None:
                is_complete = False
                reasons.append(f"no time was left to compare {candidate} with {simplest}")
                continue
            does = "agrees with" if agreement.is_close else "differs from"
            reasons.append(f"{candidate} {does} {simplest} ({agreement})")
            if agreement.is_close:
                return Choice(candidate, rates, tuple(reasons), is_complete)
        return Choice(simplest, rates, tuple(reasons), is_complete)

    def _rates(self) -> tuple[int, dict[Candidate, float]]:
        """Return the examples of a batch in the race, and the examples per metered second of each candidate."""
        bench, until = self._bench, self._began + _RACE
        steps = self._per_example * len(self._found) * _STEPS * self._trials
        size = max(1, min(self._batch_size, int((until - bench.clock()) / steps)))
        race = Race(until, bench.clock, bench.meter)
        seconds = race.run({each: bench.steps(each, self._trials, size) for each in self._found})
        return size, {each: self._trials * size / took for each, took in seconds.items()}

    def _with_faster_attention(self, choice: Choice, other: Candidate, size: int) -> Choice:
        """Return a choice with another attention if that is faster; in doubt, and without time, the usual one."""
        both, bench = (choice.candidate, other), self._bench
        race = Race(self._deadline, bench.clock, bench.meter, rounds=2)
        seconds = race.run({each: bench.steps(each, self._trials, size) for each in both})
        if len(seconds) < len(both) or ranking(seconds, both)[0] == choice.candidate:
            return choice
        faster = seconds[choice.candidate] / seconds[other]
        reason = f"attention {other.attention} instead of the usual one, {faster:.2f} times as fast"
        rates = {**choice.rates, other: self._trials * size / seconds[other]}
        return replace(choice, candidate=other, rates=rates, reasons=(*choice.reasons, reason))

    def _agreement(self, candidate: Candidate) -> Agreement | None:
        """Return how a candidate agrees with the simplest one; None if there is no time to compare them."""
        bench = self._bench
        if not self._wanted:
            self._size = compared_size(self._deadline - bench.clock(), self._per_example)
            if not self._size:
                return None
            self._wanted = bench.traces(self._found[0], self._size)
        if bench.clock() > self._deadline:
            return None
        return compare(self._wanted, bench.traces(candidate, self._size))
