"""The interface of proposers, which turn what a sampler suggests into candidates."""

from __future__ import annotations

from typing import Protocol

from autotune.ladder.promotion import Candidate


class Proposer(Protocol):
    """Proposes new candidates.

    Life cycle: `propose` whenever a slot is free, the budget allows a new trial, and no candidate is promoted.
    """

    def propose(self) -> Candidate:
        """Return a new candidate, which its scheduler knows from now on.

        Raises:
            SearchFailedError: the sampler suggests no configuration that may be evaluated.
        """
