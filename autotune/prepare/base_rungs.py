"""Rungs of smaller base models: the same configurations on other models, and the cost of a run on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from autotune.ladder.spec import LadderSpec, base_labels
from autotune.prepare.bound_base import BoundBase, bind_base
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.parameters.types import Configuration
from search_spaces.transfer import transfer_configuration
from search_spaces.truncation import is_share_of_layers
from trials.base.model import check_base

_FIX_EQUAL = (
    "Remove one of them, or change the share: it is rounded to a number of layers, and to at least 1."
)


@dataclass(frozen=True)
class BaseRungs:
    """The smaller base models of a ladder; empty for every other ladder.

    Args:
        home: the sweep bound to its own base model.
        spec: the sweep's space.
        bases: the sweep bound to each smaller base model, by the model's name, the smallest first.
    """

    home: BoundBase
    spec: Mapping[str, Any]
    bases: Mapping[str, BoundBase]

    @classmethod
    def read(cls, sweep: Sweep, home: BoundBase) -> BaseRungs:
        """Bind the sweep to each smaller base model, and check that its weights load; they are not kept.

        Args:
            sweep: with its own base model.
            home: the sweep bound to that model.

        Raises:
            InvalidInputError: a base model cannot be used, or their costs do not rise to that of the sweep's own.
        """
        names = (sweep.ladder.bases if sweep.ladder is not None else None) or ()
        bases, problems = dict[str, BoundBase](), list[Problem]()
        for place, name in enumerate(names):
            model = sweep.model.other(name)
            try:
                bases[name] = bind_base(sweep.model_copy(update={"model": model}))
                check_base(model, sweep.task, bases[name].data)
            except InvalidInputError as error:
                problems += [_on(f"ladder.bases[{place}]", name, problem) for problem in error.problems]
        found = cls(home, sweep.space, bases)
        problems = problems or found._order_problems(sweep.model.name)
        if problems:
            raise InvalidInputError(problems)
        return found

    @cached_property
    def costs(self) -> dict[str, float]:
        """The cost of each rung: FLOPs of training a base model, as a share of those of the sweep's own, by name.

        They are those of full fine-tuning and depend on the models only; the shares of configurations vary around
        them.
        """
        whole = self.home.costs.full_fine_tuning_flops()
        return {name: base.costs.full_fine_tuning_flops() / whole for name, base in self.bases.items()}

    def resolve(self, ladder: LadderSpec | None) -> LadderSpec | None:
        """Return the ladder with its rungs filled in."""
        if ladder is None or not self.bases:
            return ladder
        return ladder.model_copy(update={"costs": tuple(self.costs.values())})

    def transfer(self, config: Configuration, name: str) -> Configuration:
        """Return the configuration transferred to a base model.

        Args:
            config: of the sweep's own base model.
            name: of the other base model.

        Raises:
            InvalidInputError: the base model cannot have it.
        """
        base = self.bases[name]
        found = transfer_configuration(config, self.spec, self.home.shape, base.shape)
        problems = base.space.problems(found)
        if problems:
            fix = "Choose another base model."
            raise InvalidInputError([Problem("ladder.bases", f"{name!r}: {what}", fix) for what in problems])
        return found

    def share(self, config: Configuration, name: str) -> float:
        """Return the training FLOPs of a configuration on a base model, as a share of those on the sweep's own."""
        there = self.bases[name].costs(self.transfer(config, name)).train_flops
        return there / self.home.costs(config).train_flops

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
        labels = dict(zip(self.bases, base_labels([*self.bases]), strict=True))
        rungs = [
            f"{labels[name]} ({self._layers_kept(name)}{100 * cost:.3g} % of the training)"
            for name, cost in self.costs.items()
        ]
        found = [f"ladder of base models: {', '.join(rungs)}"] if rungs else []
        for name, base in self.bases.items():
            for family, reason in base.loaded.left_out.items():
                if family not in self.home.loaded.left_out:
                    found.append(f"{family} begins above {labels[name]}: {reason}")
        return found

    def _layers_kept(self, name: str) -> str:
        """Return the number of layers that a share of them stands for; empty for a model of its own."""
        if not is_share_of_layers(name):
            return ""
        return f"{self.bases[name].shape.depth} of {self.home.shape.depth} layers, "

    def _order_problems(self, own: str) -> list[Problem]:
        if same := self._equal_problems(own):
            return same
        ranked = sorted(self.costs, key=self.costs.__getitem__)
        fix = f"List them by rising cost, and only those that cost less than {own!r}: {', '.join(ranked)}."
        return [
            Problem(
                "ladder.bases", f"{low!r} costs {cost / above:.3g} times what {high!r} after it costs", fix
            )
            for (low, cost), (high, above) in pairwise([*self.costs.items(), (own, 1.0)])
            if not cost < above
        ]

    def _equal_problems(self, own: str) -> list[Problem]:
        """Return a problem for each share of the layers that keeps as many as the base model after it."""
        depths = {name: base.shape.depth for name, base in self.bases.items()} | {own: self.home.shape.depth}
        return [
            Problem(
                "ladder.bases", f"{low!r} keeps {depths[low]} layers, as {high!r} after it has", _FIX_EQUAL
            )
            for low, high in pairwise(depths)
            if is_share_of_layers(low) and depths[low] == depths[high]
        ]


def _on(where: str, name: str, problem: Problem) -> Problem:
    """Return a problem of the sweep with a base model as a problem of that entry of the ladder."""
    what = problem.what if repr(name) in problem.what else f"with {name!r}, {problem.what}"
    return Problem(where, what, problem.fix)
