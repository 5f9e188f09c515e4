"""The confirmation of the front in a sweep file: how often, on which data, and when a run ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trials.records import Fidelity


class Confirm(BaseModel):
    """The confirmation of the front after the search.

    Args:
        seeds: Training runs per point on average, on seeds that the search did not use; 0 for no confirmation. Points
            in doubt have more runs than certain ones.
        points: Maximum number of points of the front to confirm, spread over it.
        data: Examples of a run: those of the `search`, by its fidelity, or `full` for all of the training and the
            validation split. A configuration with `train_samples` trains on its own number in both.
        stop: When a run ends, and which evaluation is its score: as in the `search`, by its fidelity; `best`: it ends
            when the task's metric no longer improves, and the best evaluation counts; `last`: likewise, and the last
            one counts; `none`: it is trained to its end.
        evaluations: Evaluations of a run that may stop early (`best` or `last`), spread evenly over its steps.
        patience: Evaluations in a row without an improvement after which such a run ends.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: int = Field(default=3, ge=0, strict=True)
    points: int = Field(default=8, ge=1, strict=True)
    data: Literal["search", "full"] = "search"
    stop: Literal["search", "none", "last", "best"] = "search"
    evaluations: int = Field(default=10, ge=1, strict=True)
    patience: int = Field(default=3, ge=1, strict=True)

    def fidelity(self, search: Fidelity) -> Fidelity:
        """Return the fidelity of a confirmation run.

        Args:
            search: the fidelity of the search.
        """
        found = search
        if self.data == "full":
            found = replace(found, train_samples=None, eval_samples=None)
        if self.stop == "none":
            return replace(found, patience=None, score="last")
        if self.stop == "search":
            return found
        return replace(found, evaluations=self.evaluations, patience=self.patience, score=self.stop)
