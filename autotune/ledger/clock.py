"""How long a part of a sweep has taken, over all the processes that worked on it."""

from __future__ import annotations

import time

from autotune.ledger.ledger import Ledger
from autotune.trial_attributes import TrialAttributes


class StudyClock:
    """Wall seconds of a search or a confirmation so far, over all of its processes.

    A process continues from the latest `elapsed` among the trials of the ledger. The sum of the trials' seconds would
    be wrong: trials that run at the same time, or in one pack, share them.

    Args:
        ledger: of the search or the confirmation.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._before = max((TrialAttributes(t).elapsed or 0.0 for t in ledger.trials), default=0.0)
        self._started = time.monotonic()

    def start(self) -> None:
        """Count from now on; what was counted by earlier processes is kept."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall seconds so far."""
        return self._before + time.monotonic() - self._started
