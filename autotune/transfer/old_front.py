"""The points of an earlier front that are trained again on another task, and others that they are compared with.

On a front, quality rises with cost, so the order of its points alone says little: a new task keeps it wherever larger
adapters are better. Points that the front dominates are trained beside it where there are too few for an interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autotune.formatting.units import counted
from autotune.objectives import is_cost
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.rank_statistics import ENOUGH
from autotune.transfer.carried_source import CarriedSource
from autotune.transfer.first_trials import FirstTrial
from autotune.transfer.source_folders import read_source
from autotune.transfer.stored_sources import SOURCES_FILE
from autotune.trial_attributes import Origin
from search_spaces.errors import InvalidInputError, Problem


@dataclass(frozen=True)
class OldFront:
    """The front of an earlier sweep that is trained on another task, without a search.

    Args:
        folder: of the earlier sweep.
        points: number of configurations; by default the front, and others up to six where it is smaller.
        where: the argument that names the folder, for problems.
    """

    folder: Path
    points: int | None = None
    where: str = "DIR"


def check_earlier_folder(folder: Path, target: Path) -> None:
    """Check that the folder of an earlier sweep can be read, before anything else is loaded.

    Args:
        folder: of the earlier sweep.
        target: folder of the sweep on the other task; one that keeps what it carried over needs no earlier folder.

    Raises:
        InvalidInputError: the folder holds no sweep with a complete trial.
    """
    if not (target / SOURCES_FILE).is_file():
        read_source(folder, folder.name, OldFront(folder).where)


def check_has_front(source: CarriedSource, where: str) -> None:
    """Check that points of the earlier front can be trained.

    Args:
        source: what was carried over from the earlier sweep.
        where: the argument that names its folder.

    Raises:
        InvalidInputError: only trials that the front dominates were carried over.
    """
    if any(source.is_on_front):
        return
    what = f"no point of the front of {source.name} can be carried over ({source.note})"
    fix = f"Widen the space or the models of the sweep, or search with start_from: {source.folder}."
    raise InvalidInputError(Problem(where, what, fix))


def chosen_points(
    source: CarriedSource, prepared: PreparedSweep, count: int | None
) -> tuple[tuple[FirstTrial, ...], str]:
    """Return the configurations that are trained, cheapest first, and a note about them.

    Args:
        source: what was carried over from the earlier sweep.
        prepared: the sweep on the other task.
        count: number of configurations; None for the front, and others up to `ENOUGH`.

    Returns:
        Points of the front at even distances of its order by cost, and, if more are wanted than it has, others that
        are spread over the ranking of the earlier scores.
    """
    costs = np.array([prepared.costs(config).train_flops for config in source.configs], dtype=float)
    front = np.flatnonzero(source.is_on_front)
    front = front[np.argsort(costs[front], kind="stable")]
    count = max(len(front), ENOUGH) if count is None else count
    count = min(count, len(source.configs))
    others = np.array([i for i in range(len(source.configs)) if i not in set(front.tolist())], dtype=int)
    score = next((j for j, each in enumerate(prepared.sweep.objectives) if not is_cost(each.name)), 0)
    losses = prepared.sweep.objectives[score].loss(source.values[:, score])
    others = others[np.argsort(losses[others], kind="stable")]
    taken = [*_spread(front, min(count, len(front))), *_spread(others, count - min(count, len(front)))]
    taken.sort(key=lambda i: float(costs[i]))
    of_front = sum(source.is_on_front[i] for i in taken)
    beside = len(taken) - of_front
    note = f"{of_front} of the {counted(len(front), 'point')} of the front of {source.name} that this space can have"
    note += f", and {beside} that the front dominates, to compare them with" if beside else ""
    trials = tuple(FirstTrial(source.configs[i], Origin(source.trials[i], source.name)) for i in taken)
    return trials, f"{note}, {'is' if len(taken) == 1 else 'are'} trained, and nothing else"


def _spread(ordered: np.ndarray, count: int) -> list[int]:
    """Return `count` entries at even distances, the ends among them."""
    if count <= 0 or not len(ordered):
        return []
    places = np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int))
    return [int(i) for i in ordered[places]]
