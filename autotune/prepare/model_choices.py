"""The base model as a searched parameter: the models to choose from, and their configurations and costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from autotune.prepare.bound_base import BoundBase
from autotune.prepare.smaller_bases import SmallerBases
from autotune.sweep.prior_spec import with_model_choice
from autotune.sweep.schema import Sweep
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.model_costs import ChosenModel, ModelCosts
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.types import Configuration, Value
from search_spaces.space import SearchSpace
from trials.tasks.model_spec import CHOSEN, ModelSpec, model_labels

WHERE = "model.choices"


@dataclass(frozen=True)
class ModelChoices:
    """The base models among which a sweep searches; without choices, its own one.

    Args:
        model: of the sweep.
        smaller: the choices below the last one, which is the sweep's own base model.
    """

    model: ModelSpec
    smaller: SmallerBases

    @classmethod
    def read(cls, sweep: Sweep, home: BoundBase) -> ModelChoices:
        """Bind the sweep to its choices; arguments and errors as in `SmallerBases.read`."""
        return cls(sweep.model, SmallerBases.read(sweep, home, sweep.model.smaller, WHERE))

    @cached_property
    def labels(self) -> dict[str, str]:
        """The values of the parameter by the names of the models, the last one's included."""
        names = self.model.choices or ()
        return dict(zip(names, model_labels(names), strict=True))

    @cached_property
    def space(self) -> SearchSpace:
        """The space of the sweep's own base model, with the choice of the model as its first parameter."""
        return with_model_choice(self.smaller.home.space, self.model.choices)

    @cached_property
    def costs(self) -> CostModel | ModelCosts:
        """The known costs of configurations on the models that they choose."""
        smaller = self.smaller
        if not self.labels:
            return smaller.home.costs
        chosen = {
            self.labels[name]: ChosenModel(base.costs, partial(smaller.transfer, name=name))
            for name, base in smaller.bases.items()
        }
        return ModelCosts(CHOSEN, smaller.home.costs, chosen)

    def configuration(self, config: Mapping[str, Value]) -> Configuration:
        """Return a configuration as the model that it chooses has it, without the choice.

        Raises:
            InvalidInputError: the model cannot have it.
        """
        name = self.model.choice_of(config)
        own = {key: value for key, value in config.items() if key != CHOSEN}
        return own if name is None else self.smaller.transfer(own, name)

    def problem(self, config: Mapping[str, Value]) -> str | None:
        """Return why the model that a configuration chooses cannot have it, or None."""
        try:
            self.configuration(config)
        except InvalidInputError as error:
            return "; ".join(problem.what for problem in error.problems)
        return None

    @property
    def notes(self) -> list[str]:
        """The models and the families that some of them cannot have, in sentences for the user."""
        if not self.labels:
            return []
        smaller, own = self.smaller, [*self.labels.values()][-1]
        described = [smaller.description(name) for name in smaller.bases]
        found = [
            f"model: the search chooses among {', '.join(described)} and {own}; parameters describe the adapter on "
            f"{own}, and trials on another model train it at the same relative depth",
            f"model: percentages of costs are relative to {own}",
        ]
        return found + [
            f"{family} is never proposed on {self.labels[name]}: {reason}"
            for name in smaller.bases
            for family, reason in smaller.left_out(name).items()
        ]
