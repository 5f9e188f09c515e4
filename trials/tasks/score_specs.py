"""What a task says about further scores: those of the user's own code, and their directions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from trials.kinds.kind import Direction, Metric


class OwnScore(BaseModel):
    """Direction and bounds of a score that the user's own code computes.

    Args:
        name: Name of the score: `module:function`, or a name in the mapping that the function returns.
        direction: Which way is better: `maximize` or `minimize`.
        best: Best possible value, if there is one.
        worst: Worst possible value, if there is one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    direction: Direction
    best: float | None = None
    worst: float | None = None

    @property
    def metric(self) -> Metric:
        """The properties as those of any other score."""
        return Metric(self.direction, self.best, self.worst)
