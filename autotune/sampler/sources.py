"""Trials of earlier studies in the space of this one, their first configurations, and how far they are trusted.

Shapes: n trials of a source, m objectives of this study.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autotune.pareto import non_dominated
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

Array = NDArray[np.float64]

NOTES = "autotune:proposal"
"""System attribute of a trial with what its proposal left for later ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceTrials:
    """Finished trials of another study, such as a sweep on another task or model.

    Only the ranking of a source's values within each objective is used, so their units need not agree with those of
    this study.

    Args:
        name: name of the source, unique among the sources of a study.
        configs: the n configurations, complete in the space of this study.
        values: their objective values in the order and the directions of this study, shape [n, m]; NaN where the
            source does not have an objective.
        is_on_front: which configurations are on the source's front by its own estimates, shape [n]; by default, or
            where none is, those whose values no other configuration dominates.

    Raises:
        ValueError: The shapes do not agree, or a value is infinite.

    Example:
        >>> source = SourceTrials(name="sst2", configs=[{"rank": 4}], values=np.array([[0.9, 1e5]]))
        >>> source.values.shape
        (1, 2)
    """

    name: str
    configs: Sequence[Configuration]
    values: Array
    is_on_front: Sequence[bool] | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=float)
        if values.ndim != 2 or len(values) != len(self.configs):
            raise ValueError(
                f"sources: {self.name} has {len(self.configs)} configurations and values of shape {values.shape}; "
                "give one row of values per configuration"
            )
        if np.isinf(values).any():
            raise ValueError(f"sources: {self.name} has infinite values; give NaN where a value is missing")
        if self.is_on_front is not None and len(self.is_on_front) != len(self.configs):
            raise ValueError(
                f"sources: {self.name} has {len(self.configs)} configurations, and is_on_front has "
                f"{len(self.is_on_front)} entries; give one per configuration"
            )
        object.__setattr__(self, "values", values)


@dataclass(frozen=True, kw_only=True)
class SourceTrust:
    """How far each source informed one objective in one proposal.

    A source that has fewer than four values of the objective, or equal ones, does not inform it and is not named.

    Args:
        n: number of distinct finished configurations that the sources were ranked on.
        own: weight of the study's own surrogate.
        weights: weight of each source by name, 0 if it is dropped or is the best model of no sample; with `own` they
            sum to 1.
        agreement: Kendall's rank correlation of the source's predictions with the finished trials, -1 to 1, by name;
            None for fewer than five trials.
        dropped: names of the sources that mislead; see `surrogates.gaussian_processes.ranking_ensemble`.
    """

    n: int
    own: float
    weights: Mapping[str, float]
    agreement: Mapping[str, float | None]
    dropped: Sequence[str]

    @property
    def agrees(self) -> bool:
        """Whether the agreement is measured and a source is not dropped."""
        return any(value is not None and name not in self.dropped for name, value in self.agreement.items())


def source_trust(trials: Sequence[FrozenTrial]) -> dict[int, SourceTrust]:
    """Return how far sources informed the latest proposal that used them, by objective index.

    The system attribute `autotune:proposal` of a trial holds it as `{"sources": {objective index as text: fields of
    SourceTrust}}`.

    Args:
        trials: trials of a study in order of their numbers.

    Returns:
        The trust by objective; empty for a study without sources, or one whose trials are all startup trials.
    """
    for trial in reversed(trials):
        noted = trial.system_attrs.get(NOTES, {}).get("sources")
        if noted:
            return {int(objective): SourceTrust(**fields) for objective, fields in noted.items()}
    return {}


def check_sources(sources: Sequence[SourceTrials], space: SearchSpace | None) -> None:
    """Check that sources have different names and configurations of the space.

    Raises:
        ValueError: The space is missing, a name repeats, or a configuration does not belong to the space.
    """
    if sources and space is None:
        raise ValueError("sources: their configurations need a space; give `space`, too")
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"sources: two sources have the name {repeated!r}; give each its own")
    for source in sources:
        for number, config in enumerate(source.configs):
            assert space is not None
            if problems := space.problems(config):
                raise ValueError(
                    f"sources: configuration {number} of {source.name} is not one of this space: {problems[0]}; "
                    "translate or drop it"
                )


def first_configurations(
    sources: Sequence[SourceTrials],
    count: int,
    *,
    directions: Sequence[str | StudyDirection],
    cost: Callable[[Configuration], float] | None = None,
) -> list[Configuration]:
    """Return configurations of the sources' fronts for the first trials of a study, cheapest first.

    Each source's front, by its own estimates if it gives them, is ordered by cost, and points at even distances along
    it are taken, its ends first. Where it has too few points, the front of the other trials follows, and so on: a
    point just below a front may be on it in this study. Sources take turns, and a configuration of several fronts
    counts once.

    Args:
        sources: the sources, the most trusted one first.
        count: maximum number of configurations.
        directions: `minimize` or `maximize` for each objective.
        cost: cost of a trial of a configuration; the last objective by default.

    Raises:
        ValueError: A source has values for another number of objectives.
    """
    if count < 1:
        return []
    orders = [_by_front(source, count, directions, cost) for source in sources]
    chosen: list[Configuration] = []
    for turn in zip_longest(*orders):
        for config in turn:
            if config is not None and config not in chosen and len(chosen) < count:
                chosen.append(config)
    costs = _costs(chosen, sources, directions, cost)
    return [chosen[i] for i in np.argsort(costs, kind="stable")]


def _by_front(
    source: SourceTrials,
    count: int,
    directions: Sequence[str | StudyDirection],
    cost: Callable[[Configuration], float] | None,
) -> list[Configuration]:
    """Return at least `count` different configurations, if a source has them: its front, then the front of the rest.

    Each front is in the order of `_spread`. Objectives that the source lacks are left out, and so are trials that
    lack one of the others. Of a source that lacks an objective, only the front is returned: the trials below it may
    be as poor as any.
    """
    minimized = _minimized(source, directions)
    has_values = ~np.isnan(minimized).all(axis=0)
    minimized = minimized[:, has_values]
    left = np.flatnonzero(~np.isnan(minimized).any(axis=1)) if has_values.any() else np.array([], dtype=int)
    found: list[Configuration] = []
    given = np.zeros(len(minimized), dtype=bool)
    if source.is_on_front is not None:
        given = np.asarray(source.is_on_front, dtype=bool)
    while len(left) and len(found) < (count if has_values.all() else 1):
        is_front = given[left] if not found and given[left].any() else non_dominated(minimized[left])
        front = [config for i in left[is_front].tolist() if (config := source.configs[i]) not in found]
        costs = _costs(front, [source], directions, cost)
        found += _spread([front[i] for i in np.argsort(costs, kind="stable")])
        left = left[~is_front]
    return found


def _minimized(source: SourceTrials, directions: Sequence[str | StudyDirection]) -> Array:
    if source.values.shape[1] != len(directions):
        raise ValueError(
            f"sources: {source.name} has values for {source.values.shape[1]} objectives, and the study has "
            f"{len(directions)}; give NaN for one that the source does not have"
        )
    return source.values * np.array([-1.0 if _is_maximized(each) else 1.0 for each in directions])


def _is_maximized(direction: str | StudyDirection) -> bool:
    name = direction if isinstance(direction, str) else direction.name
    return name.lower() == "maximize"


def _costs(
    configs: Sequence[Configuration],
    sources: Sequence[SourceTrials],
    directions: Sequence[str | StudyDirection],
    cost: Callable[[Configuration], float] | None,
) -> list[float]:
    if cost is not None:
        return [cost(config) for config in configs]
    last = [
        (config, value)
        for source in sources
        for config, value in zip(source.configs, _minimized(source, directions)[:, -1], strict=True)
    ]
    return [next(float(value) for other, value in last if other == config) for config in configs]


def _spread(front: Sequence[Configuration]) -> Iterator[Configuration]:
    """Yield the points of an ordered front: its ends, then each time the middle of the widest gap."""
    taken: list[int] = []
    for _ in front:
        if not taken:
            place = len(front) - 1
        elif len(taken) == 1:
            place = 0
        else:
            ends = sorted(taken)
            gap = max(range(len(ends) - 1), key=lambda i: ends[i + 1] - ends[i])
            place = (ends[gap] + ends[gap + 1]) // 2
        taken.append(place)
        yield front[place]
