"""What the engine tells whoever watches: a terminal, a log, a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from search_spaces.parameters.types import Configuration
from trials.records import TrialResult

if TYPE_CHECKING:
    from autotune.sweep.schema import Sweep


@dataclass(frozen=True)
class Progress:
    """Where a sweep stands.

    Args:
        phase: `loading`, `search`, `confirm`, `report` or `done`.
        finished, total: trials (or, while confirming, runs) ended and wanted; total is None where only time
            or FLOPs limit the search.
        failed: of the finished ones, those that failed.
        front_size: points on the front.
        hypervolume: share of the box between ideal and reference values that the front dominates, in [0, 1].
        best: the best value of each objective seen so far, by name.
        elapsed, remaining: seconds since this process began the phase, and expected until its end (None
            while unknown).
        rungs: on a ladder, how many configurations were trained as far as each rung.
    """

    phase: str
    finished: int = 0
    total: int | None = None
    failed: int = 0
    front_size: int = 0
    hypervolume: float = 0.0
    best: dict[str, float] | None = None
    elapsed: float = 0.0
    remaining: float | None = None
    rungs: tuple[int, ...] = ()


class Listener(Protocol):
    """Called from the engine's thread; must return quickly."""

    def sweep_started(self, sweep: Sweep, notes: list[str]) -> None:
        """Everything is loaded. `notes` say what was found and decided (data, families left out, …)."""

    def trial_started(self, number: int, config: Configuration, *, seed: int) -> None:
        """A training run begins; while confirming, `number` is the trial whose configuration it repeats."""

    def trial_finished(
        self, number: int, result: TrialResult, values: dict[str, float], on_front: bool
    ) -> None:
        """A training run has ended, or stopped on a rung of the ladder and may begin again.

        `values` holds every objective, empty unless it is complete.
        """

    def progress(self, progress: Progress) -> None:
        """After every change."""


class SilentListener:
    """Watches and says nothing."""

    def sweep_started(self, sweep: Sweep, notes: list[str]) -> None: ...

    def trial_started(self, number: int, config: Configuration, *, seed: int) -> None: ...

    def trial_finished(
        self, number: int, result: TrialResult, values: dict[str, float], on_front: bool
    ) -> None: ...

    def progress(self, progress: Progress) -> None: ...
