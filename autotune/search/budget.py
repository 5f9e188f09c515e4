"""The interface of budgets: what a search may still spend."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from autotune.search.store import JobT_contra


class SearchBudget(Protocol[JobT_contra]):
    """Bounds a search.

    Life cycle: `reserve` when a job starts and `settle` when it has ended, once each; the questions at any time.
    """

    def is_spent(self) -> bool:
        """Return whether no job may start any more."""

    def can_begin(self, running: Collection[int]) -> bool:
        """Return whether one more trial may begin beside those that are running, given by their numbers."""

    def fits(self, job: JobT_contra) -> bool:
        """Return whether the rest of the budget covers a job."""

    def reserve(self, job: JobT_contra) -> None:
        """Set aside what a job that starts will spend."""

    def settle(self, job: JobT_contra) -> None:
        """Spend what was set aside for a job that has ended."""
