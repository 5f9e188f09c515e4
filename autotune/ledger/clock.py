"""How long a part of a sweep has taken, over all the processes that worked on it."""

from __future__ import annotations

import time

from autotune.ledger.ledger import Ledger


class StudyClock:
    """Wall seconds of a search or a confirmation so far, over its sessions.

    A session goes on from the latest `elapsed` that a trial of the ledger was told with. Not the sum of the trials'
    seconds: those of trials that run side by side, or in a pack, are the same ones.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._before = max((float(t.user_attrs.get("elapsed", 0.0)) for t in ledger.trials), default=0.0)
        self._started = time.monotonic()

    def start(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started
