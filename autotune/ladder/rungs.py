"""The ladder: rungs of training budget, and the share of each that is promoted to the next.

A fidelity is a training budget in any unit that adds up: epochs, steps, samples. A configuration is trained up to
its first rung and waits there; the best of a rung are promoted and resume. Promotions do not wait for a rung to fill
(asynchronous successive halving, Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from search_spaces.parameters.types import Value

SLOW_FAMILIES: Mapping[str, int] = MappingProxyType(
    {"prompt": 1, "prefix": 1, "layer-prefix": 1, "p_tuning": 1}
)
"""Families whose results on the lowest rung do not predict later ones, and the rung on which they are ranked first.

Their virtual tokens start from random values and act through attention only, so the loss is flat at first.
"""


@dataclass(frozen=True)
class Ladder:
    """Rungs of training budget.

    Args:
        min: fidelity of the lowest rung.
        max: fidelity of the top, where results are final.
        eta: the approximate ratio between neighboring rungs; it is adjusted so that `min` and `max` are rungs.
        share: the share of a rung that is promoted; by default one over the ratio, so that all rungs cost the same.
        random_share: the share of configurations that are promoted to the top whatever their rank. They measure how
            well the lower rungs rank. With 0, nothing is measured.
        close: how far above and below the cut the extrapolated learning curve decides instead of the rank, as parts
            of `share`. Above the cut it saves training, and the candidate can still be promoted later; below, it
            promotes candidates that start slowly.
        first_rung: family -> index of the rung on which it is ranked first, counted from 0. The family of a
            configuration is its value of `family`.
        whole: whether to round the rungs to whole numbers; by default if `min` and `max` are whole.
        given: the rungs themselves where they are not geometric, rising from `min` to `max`; see `of_rungs`.

    Raises:
        ValueError: a field is out of its range.
    """

    min: float
    max: float
    eta: float = 3.0
    share: float | None = None
    random_share: float = 0.03
    close: tuple[float, float] = (0.75, 0.25)
    first_rung: Mapping[str, int] = field(default_factory=lambda: SLOW_FAMILIES)
    whole: bool | None = None
    given: tuple[float, ...] | None = None

    @classmethod
    def single(cls) -> Ladder:
        """Return a ladder with one rung, at fidelity 1: every configuration is trained once, in full."""
        return cls(1.0, 1.0, random_share=0.0)

    @classmethod
    def of_rungs(cls, rungs: Sequence[float], **fields: Any) -> Ladder:
        """Return a ladder with the given rungs, which must rise.

        Args:
            rungs: fidelities.
            fields: the other fields of the ladder.
        """
        if not rungs or any(not low < high for low, high in pairwise(rungs)):
            raise ValueError(f"rungs: {list(rungs)}; give rising fidelities")
        return cls(min=rungs[0], max=rungs[-1], given=tuple(rungs), **fields)

    def __post_init__(self) -> None:
        if not 0 < self.min <= self.max or math.isinf(self.max):
            raise ValueError(f"min, max: {self.min}, {self.max}; give 0 < min <= max")
        if not self.eta > 1:
            raise ValueError(f"eta: {self.eta}; it must be above 1, usually 2 to 4")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share: {self.share}; it must be above 0 and at most 1")
        if not 0 <= self.random_share <= 1:
            raise ValueError(f"random_share: {self.random_share}; it must be within 0 and 1")
        if not all(0 <= part <= 1 for part in self.close):
            raise ValueError(f"close: {self.close}; both parts must be within 0 and 1")
        for family, rung in self.first_rung.items():
            if rung < 0:
                raise ValueError(f"first_rung: {rung} for {family!r}; rungs are counted from 0")

    @cached_property
    def rungs(self) -> tuple[float, ...]:
        """The fidelities of the rungs, rising from `min` to `max`."""
        if self.given is not None:
            return self.given
        steps = round(math.log(self.max / self.min) / math.log(self.eta))
        if steps == 0:
            return (self.max,) if self.min == self.max else (self.min, self.max)
        rungs = [float(f) for f in np.geomspace(self.min, self.max, steps + 1)]
        rungs[0], rungs[-1] = self.min, self.max
        whole = self.whole
        if whole is None:
            whole = float(self.min).is_integer() and float(self.max).is_integer()
        return tuple(sorted({round(rung) for rung in rungs})) if whole else tuple(rungs)

    @cached_property
    def top(self) -> int:
        """The index of the highest rung."""
        return len(self.rungs) - 1

    def base_share(self, rung: int) -> float:
        """Return the share of a rung that is promoted where the rung is trusted."""
        return self.share if self.share is not None else self.rungs[rung] / self.rungs[rung + 1]

    def first(self, config: Mapping[str, Value]) -> int:
        """Return the index of the rung on which a configuration is ranked first."""
        return min(self.first_rung.get(str(config.get("family")), 0), self.top)

    def is_exploratory(self, number: int, seed: int) -> bool:
        """Return whether a trial belongs to the random share.

        One trial is drawn from every block of 1 / random_share trials, so that short searches have some as well.
        """
        if self.random_share == 0:
            return False
        block = max(round(1 / self.random_share), 1)
        drawn = np.random.default_rng([seed, number // block, 0x1ADDE2]).integers(block)
        return number % block == int(drawn)
