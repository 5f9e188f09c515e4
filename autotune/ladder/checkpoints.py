"""The checkpoints that paused trials resume from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from autotune.ladder.promotion import Candidate
from autotune.ladder.rungs import Ladder
from trials.records import Segment


@dataclass(frozen=True)
class Checkpoints:
    """The files that paused trials go on from: one a trial, in a folder of its own."""

    folder: Path

    def path(self, number: int, rung: int) -> Path:
        return self.folder / f"{number}-{rung}.safetensors"

    def segment(self, candidate: Candidate, ladder: Ladder) -> Segment:
        """What a configuration trains next."""
        rung = candidate.next_rung
        start = str(self.path(candidate.number, candidate.rung)) if candidate.values else None
        end = str(self.path(candidate.number, rung)) if rung < ladder.top else None
        return Segment(ladder.rungs[rung], start, end)

    def tidy(self, candidates: Iterable[Candidate]) -> None:
        """Drop every file that none of these, of all the trials there are, can go on from."""
        kept = {
            self.path(candidate.number, candidate.rung)
            for candidate in candidates
            if candidate.values and candidate.status in ("waiting", "running")
        }
        # Drafts that a dead process left go as well.
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path not in kept:
                path.unlink(missing_ok=True)

    def drop(self, number: int, *, but: int | None = None) -> None:
        """Drop the files of a trial, but for that of one rung."""
        for path in self.folder.glob(f"{number}-*.safetensors"):
            if but is None or path != self.path(number, but):
                path.unlink(missing_ok=True)
