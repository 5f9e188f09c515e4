"""Groups of repeated runs, and the front of groups in cost and output.

A group has all runs of one configuration. Outputs are larger where better. The rules are those of CARBS (Fetterman
et al. 2023, section 3.3):

* the cheapest 20 % of the runs count as one cost, so that the front begins with the best of them;
* the cautious front, around which candidates are drawn, replaces the best mean only by a mean of repeated runs, or by
  a single run that exceeds the largest output of the group before it. A single lucky run therefore does not move
  the search;
* the plain front, whose members are run again, compares means only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CHEAP_SHARE = 0.2
"""Share of the runs, the cheapest, whose costs count as equal."""


@dataclass(frozen=True)
class Group:
    """The runs of one configuration.

    Args:
        members: indices of the runs.
        output: mean output, larger is better.
        largest: largest output.
        cost: mean cost.
    """

    members: tuple[int, ...]
    output: float
    largest: float
    cost: float

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.members)

    @classmethod
    def of(cls, members: Iterable[int], outputs: Array, costs: Array) -> Group:
        """Return the group of the runs at some indices of outputs and costs, each of shape [n]."""
        indices = [int(i) for i in members]
        return cls(
            members=tuple(indices),
            output=float(outputs[indices].mean()),
            largest=float(outputs[indices].max()),
            cost=float(costs[indices].mean()),
        )


def front(groups: Sequence[Group], *, is_cautious: bool) -> list[Group]:
    """Return the groups on the front, from the cheapest to the most expensive one.

    Args:
        groups: at least one group.
        is_cautious: whether a single run must exceed the largest output of the group before it, and repeated groups
            take precedence among the cheapest.

    Example:
        >>> outputs = np.array([0.0, 1.0, 0.6, 0.55, 0.75, 0.8])
        >>> costs = np.array([1.0, 1.0, 2.0, 3.0, 3.0, 4.0])
        >>> groups = [Group.of(members, outputs, costs) for members in ([0, 1], [2], [3, 4], [5])]
        >>> [group.output for group in front(groups, is_cautious=True)]
        [0.5, 0.65, 0.8]
        >>> [group.output for group in front(groups, is_cautious=False)]
        [0.5, 0.6, 0.65, 0.8]
    """
    threshold = _cheap_cost(groups)
    cheap = [group for group in groups if group.cost <= threshold]
    repeated = [group for group in cheap if group.runs > 1]
    first = max(repeated if is_cautious and repeated else cheap, key=_output)
    others = sorted((group for group in groups if group.cost > threshold), key=lambda group: group.cost)
    if not others:  # as without a cost
        best = max(cheap, key=_output)
        return [best if _exceeds(best, first, is_cautious) else first]
    members = [first]
    for group in others:
        if _exceeds(group, members[-1], is_cautious):
            members.append(group)
    return members


def _output(group: Group) -> float:
    return group.output


def _exceeds(group: Group, last: Group, is_cautious: bool) -> bool:
    return group.output > (last.largest if is_cautious and group.runs == 1 else last.output)


def fewest_runs(groups: Iterable[Group], pending: Sequence[int]) -> Group:
    """Return the cheapest of the groups that have the fewest runs.

    Args:
        groups: groups, from the cheapest to the most expensive one.
        pending: number of runs of each group that have started and not ended.
    """
    return min(zip(groups, pending, strict=True), key=lambda pair: pair[0].runs + pair[1])[0]


def _cheap_cost(groups: Sequence[Group]) -> float:
    """Return the cost up to which groups count as equally cheap, at least that of the cheapest group."""
    costs = np.repeat([group.cost for group in groups], [group.runs for group in groups])
    return max(float(np.quantile(costs, CHEAP_SHARE)), float(costs.min()))
