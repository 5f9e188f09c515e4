"""How long a part of a sweep has taken, over all the processes that worked on it."""

from __future__ import annotations

import time

import optuna

_SECONDS = "seconds"


class StudyClock:
    """Wall seconds of a search or a confirmation so far, over its sessions; kept in its study.

    Not the sum of its trials' seconds: those of trials that run side by side, or in a pack, are the same ones.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._before = float(study.user_attrs.get(_SECONDS, 0.0))
        self._started = time.monotonic()

    def start(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def save(self) -> None:
        self._study.set_user_attr(_SECONDS, self.seconds)
