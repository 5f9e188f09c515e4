"""The known costs of configurations that choose their base model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from search_spaces.costs.cost_model import CostModel, Costs
from search_spaces.costs.workload import Workload
from search_spaces.errors import InvalidInputError
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Configuration, Value

_REMEMBERED = 8192
"""The number of configurations whose costs are cached: a search needs those of one configuration several times."""


@dataclass(frozen=True)
class ChosenModel:
    """One of the base models that configurations choose among.

    Args:
        costs: returns the known costs of its own configurations.
        transfer: returns the configuration of this model for one that describes the adapter on the home model.
    """

    costs: CostModel
    transfer: Callable[[Mapping[str, Value]], Configuration]


class ModelCosts:
    """The known costs of configurations that choose their base model by a parameter.

    A configuration describes the adapter on the home model, and its costs are those on the chosen model. Percentages
    of costs refer to the home model, and so do `shape` and `workload`.

    Args:
        parameter: the name of the parameter.
        home: of the home model, which configurations without the parameter, or with another value, choose.
        chosen: the other base models, by the value of the parameter.
    """

    def __init__(self, parameter: str, home: CostModel, chosen: Mapping[str, ChosenModel]) -> None:
        self._parameter, self.home, self._chosen = parameter, home, dict(chosen)
        self._costs = lru_cache(maxsize=_REMEMBERED)(self._compute)

    @property
    def shape(self) -> ModelShape:
        """The shape of the home model."""
        return self.home.shape

    @property
    def workload(self) -> Workload:
        """The training data as the home model reads them."""
        return self.home.workload

    def on(self, config: Mapping[str, Value]) -> tuple[Configuration, CostModel]:
        """Return a configuration as the chosen model has it, without the choice, and the costs of that model.

        A configuration that the chosen model cannot have is one of the home model; a search never proposes it.
        """
        own = {name: value for name, value in config.items() if name != self._parameter}
        chosen = self._chosen.get(str(config.get(self._parameter)))
        if chosen is None:
            return own, self.home
        try:
            return chosen.transfer(own), chosen.costs
        except InvalidInputError:
            return own, self.home

    def __call__(self, config: Mapping[str, Value]) -> Costs:
        """Compute the costs of one configuration; errors as in `CostModel`."""
        costs: Costs = self._costs(tuple(config.items()))
        return costs

    def at(self, config: Mapping[str, Value]) -> CostModel:
        """Return the cost model of the chosen model for a configuration's sequence length."""
        own, costs = self.on(config)
        return costs.at(own)

    def full_fine_tuning_flops(self, config: Mapping[str, Value] | None = None) -> float:
        """Return the training FLOPs of full fine-tuning of the home model; see `CostModel`."""
        return self.home.full_fine_tuning_flops(config)

    def _compute(self, items: tuple[tuple[str, Value], ...]) -> Costs:
        own, costs = self.on(dict(items))
        return costs(own)


def on_chosen_model(
    config: Mapping[str, Value], costs: CostModel | ModelCosts
) -> tuple[Mapping[str, Value], CostModel]:
    """Return a configuration as its base model has it, and the cost model of that base model."""
    return costs.on(config) if isinstance(costs, ModelCosts) else (config, costs)


def home_costs(costs: CostModel | ModelCosts) -> CostModel:
    """Return the costs of the home model."""
    return costs.home if isinstance(costs, ModelCosts) else costs
