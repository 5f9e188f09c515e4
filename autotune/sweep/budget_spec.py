"""The `budget` section of a sweep file: the limits at which a search ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.errors import InvalidInputError, Problem

_Count = Annotated[int, Field(ge=1, strict=True)]


class Budget(BaseModel):
    """The limits at which a search ends; the first one that is reached counts, and at least one is set.

    Args:
        trials: Number of configurations to try.
        hours: Wall time of the search in hours, over all its sessions; a file may say `minutes` instead.
        flops: Training FLOPs of all trials together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: _Count | None = None
    hours: float | None = Field(default=None, gt=0)
    flops: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _minutes(cls, data: object) -> object:
        if not isinstance(data, Mapping) or "minutes" not in data:
            return data
        minutes = data["minutes"]
        rest = {key: value for key, value in data.items() if key != "minutes"}
        if "hours" in data:
            raise InvalidInputError(
                Problem("budget.minutes", "hours is given as well", "Remove one of them.")
            )
        if not isinstance(minutes, int | float) or isinstance(minutes, bool) or not minutes > 0:
            raise InvalidInputError(
                Problem(
                    "budget.minutes", f"{minutes!r} is not a number above 0", "Write a number, such as 30."
                )
            )
        return {**rest, "hours": minutes / 60}

    @model_validator(mode="after")
    def _limited(self) -> Budget:
        if self.trials is None and self.hours is None and self.flops is None:
            raise InvalidInputError(
                Problem("budget", "sets no limit", "Write at least one of trials, hours (or minutes), flops.")
            )
        return self

    @property
    def seconds(self) -> float | None:
        """The limit on wall time in seconds, or None."""
        return None if self.hours is None else self.hours * 3600
