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
        members: indices of the observations.
        runs: number of runs; more than the observations if an observation is the mean of several.
        output: mean output, larger is better.
        largest: largest output.
        cost: mean cost.
    """

    members: tuple[int, ...]
    runs: int
    output: float
    largest: float
    cost: float


def group_runs(keys: Sequence[bytes], outputs: Array, costs: Array, runs: Array) -> list[Group]:
    """Group n observations by configuration, in the order of their first observation.

    Args:
        keys: one key per observation, equal for equal configurations.
        outputs: outputs, larger is better, shape [n].
        costs: costs, shape [n].
        runs: number of runs that each observation is the mean of, shape [n].
    """
    members: dict[bytes, list[int]] = {}
    for i, key in enumerate(keys):
        members.setdefault(key, []).append(i)
    return [
        Group(
            members=tuple(indices),
            runs=int(runs[indices].sum()),
            output=float(np.average(outputs[indices], weights=runs[indices])),
            largest=float(outputs[indices].max()),
            cost=float(np.average(costs[indices], weights=runs[indices])),
        )
        for indices in members.values()
    ]


def front(groups: Sequence[Group], *, is_cautious: bool) -> list[Group]:
    """Return the groups on the front, from the cheapest to the most expensive one.

    Args:
        groups: at least one group.
        is_cautious: whether a single run must exceed the largest output of the group before it, and repeated groups
            take precedence among the cheapest.

    Example:
        >>> table = [(0.0, 1.0, 1), (1.0, 1.0, 1), (0.6, 2.0, 1), (0.55, 3.0, 1), (0.75, 3.0, 1), (0.8, 4.0, 1)]
        >>> outputs, costs, runs = map(np.array, zip(*table))
        >>> groups = group_runs([b"a", b"a", b"b", b"c", b"c", b"d"], outputs, costs, runs)
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
