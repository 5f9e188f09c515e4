"""What a sweep takes from an earlier one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.sources import SourceTrials
from search_spaces.parameters.types import Configuration

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CarriedSource:
    """What a sweep takes from an earlier one.

    Args:
        name: of the earlier sweep, unique among the sources.
        folder: where it was.
        trials: its n trials that were carried over, by number there.
        configs: their configurations in the space of this sweep, all different.
        values: their values for the objectives of this sweep, shape [n, m]; NaN where it has none. Costs that are
            known in closed form are those of this sweep.
        is_on_front: which of them are of the front that the earlier sweep reported, shape [n].
        note: how much was carried over and what changed, in a sentence.
    """

    name: str
    folder: str
    trials: tuple[int, ...]
    configs: tuple[Configuration, ...]
    values: Array
    is_on_front: tuple[bool, ...]
    note: str

    @property
    def for_sampler(self) -> SourceTrials:
        """The trials as the sampler takes them."""
        return SourceTrials(
            name=self.name, configs=self.configs, values=self.values, is_on_front=self.is_on_front
        )

    def trial_of(self, config: Configuration) -> int | None:
        """Return the earlier trial of a configuration, or None if it is not among them."""
        return next((t for t, each in zip(self.trials, self.configs, strict=True) if each == config), None)
