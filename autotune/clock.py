"""How long a search has taken, over all the processes that worked on it."""

from __future__ import annotations

import time

import optuna


class SearchClock:
    """Seconds of search so far, over all the processes that worked on it; kept in the study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._before = float(study.user_attrs.get("search_seconds", 0.0))
        self._started = time.monotonic()

    def start(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def save(self) -> None:
        self._study.set_user_attr("search_seconds", self.seconds)
