"""The events of a running sweep, for displays and logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from search_spaces.parameters.types import Configuration
from trials.records import TrialResult

if TYPE_CHECKING:
    from autotune.sweep.schema import Sweep


@dataclass(frozen=True)
class Progress:
    """The progress of a sweep.

    Args:
        phase: `loading`, `search`, `confirm`, `report` or `done`.
        finished, total: numbers of trials (in the confirmation: of runs) that have ended and that are planned; total
            is None where only time or FLOPs bound the search.
        failed: number of the finished ones that failed.
        front_size: number of points on the front of the search values; after the confirmation, on the reported front.
        hypervolume: share of the box between ideal and reference values that this front dominates, in [0, 1]; with
            one objective, the share of the way from the reference to the ideal value.
        best: the best value of each objective so far, by name.
        elapsed, remaining: seconds of the phase so far, and predicted until its end (None while unknown).
        trial_seconds: the predicted seconds of one trial, until the first has ended; None without a prediction.
        rungs: on a ladder, how many configurations were trained as far as each rung, the lowest first.
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
    trial_seconds: float | None = None
    rungs: tuple[int, ...] = ()

    @property
    def front_name(self) -> str:
        """What displays call the front: during the confirmation it is not the one that will be reported."""
        return "search front" if self.phase == "confirm" else "front"


WARNING = "warning: "
"""The prefix of a note that the user should act on."""


class Listener(Protocol):
    """Receives the events of a sweep, in the engine's thread; every method must return quickly.

    Life cycle: `sweep_started` once; then `trial_started` and `trial_finished` in pairs, several pairs at a time
    where trials run in parallel; `progress` after every change, also before and after all others.
    """

    def sweep_started(self, sweep: Sweep, notes: list[str]) -> None:
        """The model and the data are loaded.

        Args:
            sweep: resolved.
            notes: facts about the data, the space and the ladder, in sentences for the user; those that the user
                should act on come first and begin with `WARNING`.
        """

    def trial_started(self, number: int, config: Configuration, *, seed: int, origin: str = "") -> None:
        """A training run has started.

        Args:
            number: of the trial; in the confirmation, of the trial whose configuration is trained again.
            config: the active parameters.
            seed: of the run.
            origin: where the configuration comes from, such as `try[0]`; empty if the sampler proposed it.
        """

    def trial_finished(
        self, number: int, result: TrialResult, values: dict[str, float], on_front: bool
    ) -> None:
        """A training run has ended, or has paused on a rung of the ladder.

        Args:
            number: as in `trial_started`.
            result: of the run.
            values: objectives by name; empty unless the trial is complete.
            on_front: whether the trial is on the front.
        """

    def progress(self, progress: Progress) -> None:
        """The progress has changed."""


class SilentListener:
    """Ignores every event."""

    def sweep_started(self, sweep: Sweep, notes: list[str]) -> None:
        """Ignore it."""

    def trial_started(self, number: int, config: Configuration, *, seed: int, origin: str = "") -> None:
        """Ignore it."""

    def trial_finished(
        self, number: int, result: TrialResult, values: dict[str, float], on_front: bool
    ) -> None:
        """Ignore it."""

    def progress(self, progress: Progress) -> None:
        """Ignore it."""
