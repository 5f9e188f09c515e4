"""The hard limits of a sweep: its space's constraints and its objectives' limits on known costs, as numbers.

Both follow from a configuration without training, so that no trial is spent on one that breaks them. The excess is
the distance by which a configuration breaks a limit, relative to the limit: at most 0 for one that keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from autotune.objectives import Objective
from autotune.sampler.candidates import EncodedSpace
from autotune.sampler.feasible_sampling import draw_feasible
from search_spaces.costs.cost_model import BYTES_PER_NUMBER, CostModel, Costs
from search_spaces.costs.model_costs import ModelCosts
from search_spaces.errors import Problem
from search_spaces.language.constraints import Comparison, Constraint
from search_spaces.parameters.types import Configuration, Value
from search_spaces.percentages import format_percentage, parse_percentage

Array = NDArray[np.float64]

_REMEMBERED = 8192
"""The number of configurations whose costs are cached: a search needs those of one configuration several times."""


@dataclass(frozen=True)
class Possibility:
    """The limit that the base model which a configuration chooses can have it.

    Args:
        problem: returns why the model cannot have a configuration, or None.
    """

    problem: Callable[[Mapping[str, Value]], str | None]
    name: ClassVar[str] = "model"
    percent: ClassVar[bool] = False
    on_cost: ClassVar[bool] = False

    def applies(self, config: Mapping[str, Value]) -> bool:
        """Return whether the configuration chooses a base model."""
        return self.name in config

    def value(self, config: Mapping[str, Value]) -> float:
        """Return 0 for a configuration that its model can have, and 1 for another one."""
        return 0.0 if self.problem(config) is None else 1.0

    def excess(self, value: float) -> float:
        """Return the distance from what is possible."""
        return value or -1.0

    def violation(self, config: Mapping[str, Value]) -> str:
        """Return the limit that a configuration breaks, with the reason."""
        return f"the choice of the model ({self.problem(config)})"

    def __str__(self) -> str:
        return "what the chosen model can have"


class HardLimits:
    """The limits that every configuration of a sweep keeps. Call it for the excess over each of them.

    Args:
        constraints: of the space.
        objectives: whose `max` and `min` are limits if they are known costs.
        costs: returns the known costs of a configuration.
        possibility: that the chosen base model can have a configuration; None if there is no choice.
    """

    def __init__(
        self,
        constraints: Iterable[Constraint],
        objectives: Iterable[Objective],
        costs: CostModel | ModelCosts,
        possibility: Possibility | None = None,
    ) -> None:
        placed: list[tuple[str, Constraint | Possibility]] = [
            (f"space.constraints[{i}]", constraint) for i, constraint in enumerate(constraints)
        ]
        placed += [
            (f"objectives[{i}]", constraint)
            for i, objective in enumerate(objectives)
            if objective.known
            for constraint in limits_of(objective)
        ]
        if possibility is not None:
            placed.append(("model.choices", possibility))
        self.places = tuple(place for place, _ in placed)
        self.constraints = tuple(constraint for _, constraint in placed)
        self._model = costs
        self._needs_costs = any(constraint.on_cost for constraint in self.constraints)
        self._costs = lru_cache(maxsize=_REMEMBERED)(lambda items: costs(dict(items)))

    def __len__(self) -> int:
        return len(self.constraints)

    def values(self, configs: Sequence[Mapping[str, Value]]) -> Array:
        """Return the limited quantities of configurations.

        Args:
            configs: c of them.

        Returns:
            Values of shape [c, k], one column per limit, in the limit's unit (a percentage as a share of 1); NaN
            where a limit does not apply.
        """
        table = np.full((len(configs), len(self)), np.nan)
        for i, config in enumerate(configs):
            costs = self._costs(tuple(config.items())) if self._needs_costs else None
            for j, constraint in enumerate(self.constraints):
                if not constraint.applies(config):
                    continue
                if costs is None or not constraint.on_cost:
                    if isinstance(constraint, Possibility):
                        table[i, j] = constraint.value(config)
                    else:
                        table[i, j] = float(config[constraint.name])
                    continue
                table[i, j] = getattr(costs, constraint.name)
                if constraint.percent:
                    table[i, j] /= self._whole(constraint.name, config)
        return table

    def __call__(self, configs: Sequence[Configuration]) -> Array:
        """Return the excess of configurations over each limit, shape [c, k]; -1 where a limit does not apply."""
        values = self.values(configs)
        excess = np.full(values.shape, -1.0)
        for j, constraint in enumerate(self.constraints):
            for i in np.flatnonzero(~np.isnan(values[:, j])):
                excess[i, j] = constraint.excess(float(values[i, j]))
        return excess

    def violations(self, config: Mapping[str, Value]) -> str | None:
        """Return a sentence with the limits that a configuration breaks, or None."""
        values, excess = self.values([config])[0], self([dict(config)])[0]
        found = [
            constraint.violation(config)
            if isinstance(constraint, Possibility)
            else f"{constraint} ({constraint.name} is {_quantity(constraint, value)})"
            for constraint, value, over in zip(self.constraints, values, excess, strict=True)
            if over > 0
        ]
        return f"breaks {'; '.join(found)}" if found else None

    def infeasibility(
        self, columns: EncodedSpace, nearest: Sequence[Configuration], rng: np.random.Generator
    ) -> list[Problem]:
        """Return the problems of limits that no configuration keeps.

        A limit that no configuration keeps by itself is reported with the nearest value that was found; otherwise the
        limits are reported that the nearest configurations break, which exclude each other.

        Args:
            columns: the encoded space.
            nearest: configurations with the least excess that was found.
            rng: for the search for configurations within one limit.
        """
        broken = np.flatnonzero((self(nearest) > 0).any(axis=0))
        alone = []
        for j in broken:
            draw = draw_feasible(columns, lambda configs, j=j: self(configs)[:, [j]], 1, rng)  # type: ignore[misc]
            if not len(draw.rows):
                alone.append(self._infeasibility_of(int(j), draw.nearest))
        if alone:
            return alone
        problems = []
        for j in broken:
            if isinstance(self.constraints[j], Possibility):
                problems.append(self._infeasibility_of(int(j), nearest))
                continue
            values = self.values(nearest)[:, j]
            found = [_quantity(self.constraints[j], float(pick(values))) for pick in (np.nanmin, np.nanmax)]
            what = f"no configuration of the space keeps {self.constraints[j]} together with the other limits"
            fix = f"Relax one; {self.constraints[j].name} was {found[0]} to {found[1]} in the nearest."
            problems.append(Problem(self.places[j], what, fix))
        return problems

    def _infeasibility_of(self, j: int, nearest: Sequence[Configuration]) -> Problem:
        constraint, values = self.constraints[j], self.values(nearest)[:, j]
        if isinstance(constraint, Possibility):
            reason = constraint.problem(nearest[0])
            what = f"no configuration keeps the other limits on a model that can have it ({reason})"
            return Problem(self.places[j], what, "Relax the limits, or remove that model.")
        low, high = (_quantity(constraint, float(pick(values))) for pick in (np.nanmin, np.nanmax))
        reached = f"found {low} to {high}"
        if constraint.limit.op in ("<=", "<"):
            reached = f"the smallest found is {low}"
        elif constraint.limit.op in (">=", ">"):
            reached = f"the largest found is {high}"
        what = f"no configuration of the space keeps {constraint}: {reached}"
        return Problem(self.places[j], what, "Move the limit or widen the space.")

    def _whole(self, name: str, config: Mapping[str, Value]) -> float:
        """Return the cost of full fine-tuning, which a percentage refers to."""
        match name:
            case "trainable_params":
                return float(self._model.shape.base_parameters)
            case "stored_bytes":
                return float(self._model.shape.base_parameters * BYTES_PER_NUMBER)
            case "train_flops":
                return self._model.full_fine_tuning_flops(config)
            case _:
                return self._base.inference_flops

    @property
    def _base(self) -> Costs:
        # A LoRA is merged: at inference it costs the same as the base model.
        costs: Costs = self._costs((("family", "lora"),))
        return costs


def limits_of(objective: Objective) -> list[Constraint]:
    """Return the `max` and `min` of an objective as constraints."""
    found = []
    for op, limit in (("<=", objective.max), (">=", objective.min)):
        if isinstance(limit, str):
            share = parse_percentage(limit)
            assert share is not None, "the sweep file accepts no other text as a limit"
            found.append(Constraint(Comparison(objective.name, op, share), percent=True))
        elif limit is not None:
            whole = math.isfinite(limit) and limit == int(limit)
            found.append(Constraint(Comparison(objective.name, op, int(limit) if whole else limit)))
    return found


def _quantity(constraint: Constraint | Possibility, value: float) -> str:
    return format_percentage(value) if constraint.percent else f"{value:,.4g}"
