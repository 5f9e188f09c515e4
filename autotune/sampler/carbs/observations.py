"""The trials of a study as CARBS sees them: an output, a cost and a configuration per trial.

CARBS has one output and one cost; a study may have other objectives:

* the output is the first objective that is not known;
* the cost is the known objective; without one, the last objective, which then has a surrogate of its own;
* where several objectives are known, they take turns as the cost from one proposal to the next, so that the search
  advances the front of the output against each of them. Further uncertain objectives count by their limits only;
* a single objective has no cost: the front is its best group, and candidates compete on expected improvement,
  proximity and success.

The cost is modeled as its logarithm, except if it is maximized, has negative values or is a logarithm already.

Shapes: n observed trials, m objectives, k constraints that trials report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.carbs.groups import Group
from autotune.sampler.carbs.transforms import CostScale
from autotune.sampler.objectives import StudyObjectives
from autotune.sampler.proposal import Proposer

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Roles:
    """The objectives that serve as output and cost.

    Args:
        output: index of the output.
        cost: index of the cost, None for a study with one objective.
    """

    output: int
    cost: int | None

    @classmethod
    def of(cls, objectives: StudyObjectives, turn: int) -> Roles:
        """Assign the roles.

        Args:
            objectives: the objectives of the study.
            turn: number of earlier trials; it selects the cost where several objectives are known.

        Raises:
            ValueError: Every objective is known, so that there is no output to model.
        """
        uncertain = [j for j in range(len(objectives)) if j not in objectives.known]
        if not uncertain:
            raise ValueError(
                "known_objectives: all objectives are known, and the strategy carbs models one that is not; "
                'leave one out, or use strategy="pareto"'
            )
        costs = sorted(objectives.known) or uncertain[1:][-1:]
        return cls(uncertain[0], costs[turn % len(costs)] if costs else None)


@dataclass(frozen=True)
class Observations:
    """The observed trials, with outputs that are larger where better.

    Args:
        roles: the objectives that serve as output and cost.
        rows: encoded configurations, shape [n, d].
        members: indices of the trials of each distinct configuration.
        outcomes: minimized objectives and constraints, shape [n, m + k].
        variances: variances of the errors of the objectives beside the common noise, shape [n, m].
        scale: scale of the cost.
    """

    roles: Roles
    rows: Array
    members: Sequence[NDArray[np.int_]]
    outcomes: Array
    variances: Array
    scale: CostScale

    @classmethod
    def of(cls, proposer: Proposer, roles: Roles) -> Observations:
        """Return the observed trials of a study."""
        history, objectives = proposer.history, proposer.objectives
        minimized = [objectives.minimized(history.values[:, j], j) for j in range(len(objectives))]
        rows = proposer.space.encode(history.configs)
        costs = np.zeros(len(rows)) if roles.cost is None else minimized[roles.cost]
        return cls(
            roles=roles,
            rows=rows,
            members=history.groups,
            outcomes=np.column_stack([*minimized, history.constraints]),
            variances=history.variances,
            scale=CostScale.fit(costs, can_log=roles.cost not in objectives.floors),
        )

    @property
    def outputs(self) -> Array:
        """Outputs, larger is better, shape [n]."""
        return -self.outcomes[:, self.roles.output]

    @property
    def output_variances(self) -> Array:
        """Variances of the errors of the outputs, shape [n]."""
        return self.variances[:, self.roles.output]

    @property
    def costs(self) -> Array:
        """Scaled costs, shape [n]; equal without a cost."""
        return self.scaled_costs(self.outcomes)

    def scaled_costs(self, outcomes: Array) -> Array:
        """Return the scaled costs of outcomes [c, m + k], shape [c]; equal without a cost."""
        cost = self.roles.cost
        return self.scale(np.zeros(len(outcomes)) if cost is None else outcomes[:, cost])

    def groups(self, objectives: StudyObjectives) -> list[Group]:
        """Group the runs by configuration; only those within the limits on average, if there are any."""
        groups = [Group.of(members, self.outputs, self.costs) for members in self.members]
        means = [self.outcomes[members].mean(axis=0) for members in self.members]
        feasible = objectives.feasible(np.array(means))
        return [group for group, is_feasible in zip(groups, feasible, strict=True) if is_feasible] or groups
