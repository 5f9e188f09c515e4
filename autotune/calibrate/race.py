"""A race of candidates: their steps take turns, the slow ones are dropped, and it ends in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from autotune.estimate.training_steps import Step

_ROUNDS = 5
"""The most steps of a candidate that are timed. The fastest of them counts, since other work only adds time."""
_FAR_BEHIND = 1.5
"""A candidate is dropped if its fastest step takes so many times the fastest of all. One interrupted step must not
decide: the candidates that are near the fastest go on."""
ADVANTAGE = 1.05
"""A simpler candidate is preferred unless another one is so many times as fast."""

Key = TypeVar("Key")
Clock = Callable[[], float]


@dataclass
class _Entry(Generic[Key]):
    """A candidate in the race: what one step of it does, how long the last one took, and the cost of each."""

    key: Key
    step: Step
    took: float
    costs: list[float] = field(default_factory=list)

    @property
    def cost(self) -> float | None:
        return min(self.costs, default=None)


@dataclass(frozen=True)
class Race:
    """The conditions of a race.

    Args:
        deadline: the time of the clock until which the last step must end, presumably.
        clock: returns a time in seconds.
        meter: returns the seconds that are compared: of the wall, or of the processor, which other work hardly
            changes. The latter means something with one thread only, since threads that wait are at work as well.
        rounds: the most timed steps of a candidate.
    """

    deadline: float
    clock: Clock = time.perf_counter
    meter: Clock = time.perf_counter
    rounds: int = _ROUNDS

    def run(self, candidates: Mapping[Key, Callable[[], Step]]) -> dict[Key, float]:
        """Time training steps of candidates and return the seconds of the fastest step of each.

        The steps take turns, so that other work on the machine slows all of them alike. The first step of a candidate
        warms up and does not count.

        Args:
            candidates: what starts each candidate and returns one step of it. A candidate that raises an exception,
                for want of memory, say, is left out.

        Returns:
            the seconds by candidate, in the order of `candidates`, without those that could not be timed.
        """
        entries = [
            entry for key, start in candidates.items() if (entry := self._begun(key, start)) is not None
        ]
        alive = list(entries)
        for _ in range(self.rounds):
            alive = [entry for entry in alive if self._timed(entry)]
            best = min((entry.cost for entry in alive if entry.cost is not None), default=0.0)
            alive = [entry for entry in alive if entry.cost is not None and entry.cost <= _FAR_BEHIND * best]
            if len(alive) < 2:
                break
        return {entry.key: entry.cost for entry in entries if entry.cost is not None}

    def _begun(self, key: Key, start: Callable[[], Step]) -> _Entry[Key] | None:
        if self.clock() > self.deadline:
            return None
        try:
            step = start()
            return _Entry(key, step, timed(step, self.clock))
        except Exception:  # whatever stops a candidate: the others may run
            return None

    def _timed(self, entry: _Entry[Key]) -> bool:
        """Time one more step of a candidate; return whether it is still in the race."""
        began, metered = self.clock(), self.meter()
        if began + entry.took > self.deadline:
            return False
        try:
            entry.step()
        except Exception:  # as above
            entry.costs.clear()
            return False
        entry.costs.append(self.meter() - metered)
        entry.took = self.clock() - began
        return True


def timed(step: Step, clock: Clock) -> float:
    """Return the seconds of a step."""
    tick = clock()
    step()
    return clock() - tick


def ranking(seconds: Mapping[Key, float], simplest_first: Sequence[Key]) -> list[Key]:
    """Return the candidates worth a try, the best first, down to the simplest of those that were timed.

    A candidate comes before a simpler one only if it is `ADVANTAGE` times as fast.

    Args:
        seconds: of a step of each candidate.
        simplest_first: all candidates.
    """
    order: list[Key] = []
    for key in (key for key in simplest_first if key in seconds):
        place = next(
            (i for i, other in enumerate(order) if ADVANTAGE * seconds[key] <= seconds[other]), len(order)
        )
        order.insert(place, key)
    first = next((key for key in simplest_first if key in seconds), None)
    return order[: order.index(first) + 1] if first is not None else []
