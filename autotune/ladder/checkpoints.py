"""The checkpoints that paused trials resume from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from autotune.ladder.promotion import Candidate, CandidateStatus
from autotune.ladder.rungs import Ladder
from trials.records import Segment


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint files of paused trials, one per trial, in a folder of their own.

    Args:
        folder: that holds them; it need not exist.
    """

    folder: Path

    def path(self, number: int, rung: int) -> Path:
        """Return the file with the training state of a trial at the end of a rung."""
        return self.folder / f"{number}-{rung}.safetensors"

    def segment(self, candidate: Candidate, ladder: Ladder) -> Segment:
        """Return the part of its training that a candidate does next, with the files to load and to save."""
        rung = candidate.next_rung
        start = str(self.path(candidate.number, candidate.rung)) if candidate.values else None
        end = str(self.path(candidate.number, rung)) if rung < ladder.top else None
        return Segment(ladder.rungs[rung], start, end)

    def delete_unused(self, candidates: Iterable[Candidate]) -> None:
        """Delete every file that no candidate can resume from.

        Args:
            candidates: of all trials.
        """
        kept = {
            self.path(candidate.number, candidate.rung)
            for candidate in candidates
            if candidate.values and candidate.status in (CandidateStatus.WAITING, CandidateStatus.RUNNING)
        }
        # This also deletes the partly written files of a process that died.
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path not in kept:
                path.unlink(missing_ok=True)

    def delete(self, number: int, *, but: int | None = None) -> None:
        """Delete the files of a trial, except that of the rung `but`."""
        for path in self.folder.glob(f"{number}-*.safetensors"):
            if but is None or path != self.path(number, but):
                path.unlink(missing_ok=True)
