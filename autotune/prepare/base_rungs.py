"""Rungs of smaller base models: the same configurations on other models, and the cost of a run on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autotune.ladder.spec import LadderSpec
from autotune.prepare.bound_base import BoundBase
from autotune.prepare.smaller_bases import SmallerBases
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.types import Configuration


@dataclass(frozen=True)
class BaseRungs:
    """The smaller base models of a ladder; empty for every other ladder.

    Args:
        smaller: the base models, the smallest first.
    """

    smaller: SmallerBases

    @classmethod
    def read(cls, sweep: Sweep, home: BoundBase) -> BaseRungs:
        """Bind the sweep to the base models of its ladder; arguments and errors as in `SmallerBases.read`."""
        names = (sweep.ladder.bases if sweep.ladder is not None else None) or ()
        return cls(SmallerBases.read(sweep, home, names, "ladder.bases"))

    @property
    def bases(self) -> Mapping[str, BoundBase]:
        """The sweep bound to each smaller base model, by the model's name, the smallest first."""
        return self.smaller.bases

    @property
    def costs(self) -> dict[str, float]:
        """The cost of each rung: FLOPs of training a base model, as a share of those of the sweep's own, by name."""
        return self.smaller.costs

    def resolve(self, ladder: LadderSpec | None) -> LadderSpec | None:
        """Return the ladder with its rungs filled in."""
        if ladder is None or not self.bases:
            return ladder
        return ladder.model_copy(update={"costs": tuple(self.costs.values())})

    def transfer(self, config: Configuration, name: str) -> Configuration:
        """Return the configuration transferred to a base model; see `SmallerBases.transfer`."""
        return self.smaller.transfer(config, name)

    def share(self, config: Configuration, name: str) -> float:
        """Return the training FLOPs of a configuration on a base model, as a share of those on the sweep's own."""
        there = self.bases[name].costs(self.transfer(config, name)).train_flops
        return there / self.smaller.home.costs(config).train_flops

    def first(self, config: Configuration) -> int:
        """Return the index of the lowest rung from which on every base model can have the configuration."""
        rung = 0
        for place, name in enumerate(self.bases):
            try:
                self.transfer(config, name)
            except InvalidInputError:
                rung = place + 1
        return rung

    @property
    def notes(self) -> list[str]:
        """The base models and the families that begin above the lowest rung, in sentences for the user."""
        smaller = self.smaller
        rungs = [smaller.description(name) for name in self.bases]
        return [*([f"ladder of base models: {', '.join(rungs)}"] if rungs else [])] + [
            f"{family} begins above {smaller.labels[name]}: {reason}"
            for name in self.bases
            for family, reason in smaller.left_out(name).items()
        ]
