"""Smaller base models beside the sweep's own: the sweep bound to each, and its configurations transferred to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from autotune.prepare.bound_base import BoundBase, bind_base
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.parameters.types import Configuration, Value
from search_spaces.transfer import Transfer
from search_spaces.truncation import is_share_of_layers
from trials.base.model import check_base
from trials.tasks.model_spec import ModelSpec, model_labels

_FIX_EQUAL = (
    "Remove one of them, or change the share: it is rounded to a number of layers, and to at least 1."
)


@dataclass(frozen=True)
class SmallerBases:
    """The smaller base models of a sweep.

    Args:
        home: the sweep bound to its own base model.
        spec: the sweep's space.
        bases: the sweep bound to each smaller base model, by the model's name, the smallest first.
        where: the field of the sweep file that names them.
    """

    home: BoundBase
    spec: Mapping[str, Any]
    bases: Mapping[str, BoundBase]
    where: str

    @classmethod
    def read(cls, sweep: Sweep, home: BoundBase, names: Sequence[str], where: str) -> SmallerBases:
        """Bind the sweep to each smaller base model, and check that its weights load; they are not kept.

        Args:
            sweep: with its own base model.
            home: the sweep bound to that model.
            names: of the smaller base models, as `ModelSpec.other` takes them.
            where: the field of the sweep file that names them.

        Raises:
            InvalidInputError: a base model cannot be used, or their costs do not rise to that of the sweep's own.
        """
        bases, problems = dict[str, BoundBase](), list[Problem]()
        for place, name in enumerate(names):
            model = sweep.model.other(name)
            try:
                bases[name] = bind_base(sweep.model_copy(update={"model": model}))
                check_base(model, sweep.task, bases[name].data)
            except InvalidInputError as error:
                problems += [_on(f"{where}[{place}]", name, problem) for problem in error.problems]
        found = cls(home, sweep.space, bases, where)
        problems = problems or found._order_problems(sweep.model)
        if problems:
            raise InvalidInputError(problems)
        return found

    @cached_property
    def costs(self) -> dict[str, float]:
        """FLOPs of training each base model, as a share of those of the sweep's own, by name.

        They are those of full fine-tuning and depend on the models only; the shares of configurations vary around
        them.
        """
        whole = self.home.costs.full_fine_tuning_flops()
        return {name: base.costs.full_fine_tuning_flops() / whole for name, base in self.bases.items()}

    @cached_property
    def labels(self) -> dict[str, str]:
        """Short names of the base models, by name."""
        return dict(zip(self.bases, model_labels([*self.bases]), strict=True))

    @cached_property
    def _transfers(self) -> dict[str, Transfer]:
        return {name: Transfer(self.spec, self.home.shape, base.shape) for name, base in self.bases.items()}

    def transfer(self, config: Mapping[str, Value], name: str) -> Configuration:
        """Return the configuration transferred to a base model.

        Args:
            config: of the sweep's own base model.
            name: of the other base model.

        Raises:
            InvalidInputError: the base model cannot have it.
        """
        found = self._transfers[name](config)
        problems = self.bases[name].space.problems(found)
        if problems:
            fix = "Choose another base model."
            raise InvalidInputError([Problem(self.where, f"{name!r}: {what}", fix) for what in problems])
        return found

    def description(self, name: str) -> str:
        """Return a base model with its layers, if it is a share of them, and its cost, for a note."""
        layers = f"{self.bases[name].shape.depth} of {self.home.shape.depth} layers, "
        layers = layers if is_share_of_layers(name) else ""
        return f"{self.labels[name]} ({layers}{100 * self.costs[name]:.3g} % of the training)"

    def left_out(self, name: str) -> dict[str, str]:
        """Return the families that a base model cannot have and the sweep's own can, with the reasons."""
        known = self.home.loaded.left_out
        return {f: why for f, why in self.bases[name].loaded.left_out.items() if f not in known}

    def _order_problems(self, model: ModelSpec) -> list[Problem]:
        """Return a problem for each base model that costs as much as the one after it, or more.

        Args:
            model: of the sweep, which costs more than the others.
        """
        own = (model.choices or (model.title,))[-1]
        if same := self._equal_problems(own):
            return same
        fix = _order_fix({**self.costs, own: 1.0}, "" if model.choices else own)
        return [
            Problem(self.where, f"{low!r} costs {cost / above:.3g} times what {high!r} after it costs", fix)
            for (low, cost), (high, above) in pairwise([*self.costs.items(), (own, 1.0)])
            if not cost < above
        ]

    def _equal_problems(self, own: str) -> list[Problem]:
        """Return a problem for each share of the layers that keeps as many as the base model after it."""
        depths = {name: base.shape.depth for name, base in self.bases.items()} | {own: self.home.shape.depth}
        return [
            Problem(self.where, f"{low!r} keeps {_layers(depths[low])}, as {high!r} after it has", _FIX_EQUAL)
            for low, high in pairwise(depths)
            if is_share_of_layers(low) and depths[low] == depths[high]
        ]


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _order_fix(costs: Mapping[str, float], own: str) -> str:
    """Return the list of base models to write.

    Args:
        costs: FLOPs of training each base model, as a share of those of the sweep's own, by name.
        own: name of the sweep's own base model if the list leaves it out, or else an empty text.
    """
    ranked = sorted((name for name in costs if name != own), key=costs.__getitem__)
    if not own:
        return f"List them by rising cost: [{', '.join(ranked)}]."
    smaller = [name for name in ranked if costs[name] < 1.0]
    written = f", by rising cost: [{', '.join(smaller)}]" if smaller else ""
    return f"List only those that cost less than {own!r}{written}."


def _on(where: str, name: str, problem: Problem) -> Problem:
    """Return a problem of the sweep with a base model as a problem of that entry of a list of models."""
    what = problem.what if repr(name) in problem.what else f"with {name!r}, {problem.what}"
    return Problem(where, what, problem.fix)
