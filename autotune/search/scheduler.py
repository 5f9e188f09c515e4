"""The interface of schedulers, which decide what candidates are trained further, and the one that decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from autotune.ladder.promotion import Candidate


class Scheduler(Protocol):
    """Decides which of the candidates so far are trained further, and which are pruned.

    Life cycle: the store adds candidates and their results; the loop asks for `promotions` whenever a slot is free,
    and for `prunable` whenever a candidate is complete. Decisions follow from nothing but the candidates and their
    results, so a scheduler is restored by adding them again.
    """

    def promotions(self, *, closing: bool = False) -> Iterator[Candidate]:
        """Yield waiting candidates that may be trained further, most urgent first.

        Args:
            closing: whether no new candidate will follow and none is running.
        """

    def prunable(self) -> list[Candidate]:
        """Return the waiting candidates that will never be trained further."""
