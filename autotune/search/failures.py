"""The rule by which a search gives up."""

from __future__ import annotations

from collections.abc import Iterable

from autotune.search.store import Ended
from search_spaces.errors import AutotuneError
from trials.records import TrialStatus

FAILURES_BEFORE_GIVING_UP = 5
"""After this many failures without a success, the cause is not the configurations."""

_SUCCESSFUL = (TrialStatus.COMPLETE, TrialStatus.PAUSED, TrialStatus.STOPPED)


class SearchFailedError(AutotuneError, RuntimeError):
    """No trial succeeds, and no other configuration would change that."""


class FailureRule:
    """Ends a search whose first trials all fail.

    Args:
        earlier: how the trials of earlier processes ended.
        limit: failures without a success that end the search; None for any number.
    """

    def __init__(self, earlier: Iterable[Ended] = (), limit: int | None = FAILURES_BEFORE_GIVING_UP) -> None:
        self._limit = limit
        self._errors: list[str] = []
        self._has_success = False
        for ended in earlier:
            self._count(ended)

    def check(self, ended: Ended) -> None:
        """Count how a trial ended.

        Raises:
            SearchFailedError: no trial has succeeded and the limit is reached.
        """
        self._count(ended)
        if self._limit is None or self._has_success or len(self._errors) < self._limit:
            return
        reasons = "\n  ".join(sorted(set(self._errors)))
        raise SearchFailedError(
            f"the first {len(self._errors)} trials all failed:\n  {reasons}"
        ) from ended.cause

    def _count(self, ended: Ended) -> None:
        if ended.status == TrialStatus.FAILED:
            self._errors.append(str(ended.error))
        self._has_success |= ended.status in _SUCCESSFUL
